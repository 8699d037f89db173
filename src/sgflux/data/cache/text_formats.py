"""The forms in which a cache holds the text features of a prompt.

    bf16      as they are: 2 L D bytes
    int8      every value in 8 bits, with a scale for each 64 features of a token: about L D bytes
    low_rank  the 3/8 L strongest components of a prompt's L tokens, in int8: about 3/8 L D bytes

FLUX attends to the padding of a prompt, so no row may be dropped. But the rows of padding are
nearly alike, so that the L rows are nearly in the span of few: ``features = weights @ components``
with the singular value decomposition's first R rows as components. A text that fills its prompt has
more of them than R, and is refused.

Tensors of another form than bf16 have its name behind their own, as ``hidden.int8``: an entry says
by itself how it is read.

Shapes: B prompts of L tokens with D features each; R components; groups of 64 features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sgflux.data.cache.tensor_rows import TensorRows
from sgflux.errors import SgfluxError
from sgflux.settings.shared import TextFormat

LARGEST_ERROR = 0.02
"""Relative error of a prompt's features, in the 2-norm, beyond which ``low_rank`` refuses it."""

_GROUP = 64
_INT8, _SCALE, _WEIGHTS = ".int8", ".scale", ".weights"


def packed(
    features: Mapping[str, Tensor], prompts: Sequence[str], *, form: TextFormat
) -> dict[str, Tensor]:
    """Pack the features of B prompts; only those of tokens, (B, L, D) bf16, change.

    Raises:
        SgfluxError: naming a prompt that ``low_rank`` cannot hold.
    """
    if form == "bf16":
        return dict(features)
    result: dict[str, Tensor] = {}
    for name, tensor in features.items():
        if tensor.ndim != 3:
            result[name] = tensor
            continue
        rows = tensor.float()
        if form == "low_rank":
            weights, rows = _components(rows, rank(tensor.shape[1]))
            result[name + _WEIGHTS] = weights
        result[name + _INT8], result[name + _SCALE] = _to_int8(rows)
    if form == "low_rank":
        _check_errors(features, unpacked(result), prompts)
    return result


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the features of B prompts from any form, bf16."""
    result = {}
    for name, tensor in tensors.items():
        own = name.removesuffix(_INT8)
        if own != name:
            rows = _from_int8(tensor, tensors[own + _SCALE])
            if (weights := tensors.get(own + _WEIGHTS)) is not None:
                rows = weights.float() @ rows
            result[own] = rows.bfloat16()
        elif not name.endswith((_SCALE, _WEIGHTS)):
            result[name] = tensor
    return result


def rank(tokens: int) -> int:
    """Return the number of components, R, of a prompt of ``tokens`` tokens."""
    return max(3 * tokens // 8, 1)


def packed_bytes(tokens: int, width: int, *, form: TextFormat) -> int:
    """Return the bytes that a prompt's features of tokens, (L, D), take in a form."""
    if form == "bf16":
        return 2 * tokens * width
    row = width + 2 * (width // math.gcd(width, _GROUP))
    if form == "int8":
        return tokens * row
    return rank(tokens) * (row + 2 * tokens)


class UnpackedRows:
    """Rows of text features that are stored in any form."""

    def __init__(self, stored: TensorRows) -> None:
        """Take the rows as they are stored."""
        self._stored = stored

    def __len__(self) -> int:
        """N."""
        return len(self._stored)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows ``index`` (B,) int64 of every tensor, (B, ...) bf16 each."""
        return unpacked(self._stored.rows(index))


def _components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the strongest components of each prompt's rows: weights (B, L, R) bf16, (B, R, D).

    The squared singular values and the left singular vectors are those of an (L, L) matrix, which
    is cheaper than the decomposition of the rows.
    """
    rows = rows.double()
    _, vectors = torch.linalg.eigh(rows @ rows.mT)  # in ascending order
    weights = vectors[..., -count:].bfloat16()
    # The components that go best with the rounded weights.
    return weights, torch.linalg.lstsq(weights.double(), rows).solution.float()


def _to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, n, D) as int8, and a bf16 scale of each group of features, (B, n, D / 64)."""
    grouped = rows.unflatten(-1, (-1, math.gcd(rows.shape[-1], _GROUP)))
    scale = (grouped.abs().amax(-1, keepdim=True) / 127).bfloat16()
    values = (grouped / scale.float().clamp_min(torch.finfo(torch.bfloat16).tiny)).round()
    return values.clamp(-127, 127).to(torch.int8).flatten(-2), scale.squeeze(-1)


def _from_int8(values: Tensor, scale: Tensor) -> Tensor:
    """Return the rows (B, n, D) float32."""
    grouped = values.unflatten(-1, (scale.shape[-1], -1)).float()
    return (grouped * scale.float().unsqueeze(-1)).flatten(-2)


def _check_errors(
    features: Mapping[str, Tensor], kept: Mapping[str, Tensor], prompts: Sequence[str]
) -> None:
    for name, tensor in features.items():
        if tensor.ndim != 3:
            continue
        wanted = tensor.float().flatten(1)
        errors = (kept[name].float().flatten(1) - wanted).norm(dim=1) / wanted.norm(dim=1)
        worst = int(errors.argmax())
        if errors[worst] > LARGEST_ERROR:
            raise SgfluxError(
                f"the text {prompts[worst]!r} has more in it than the form 'low_rank' holds "
                f"(relative error {float(errors[worst]):.1%}, allowed {LARGEST_ERROR:.0%}); "
                "use text_cache 'int8' or 'bf16'"
            )
