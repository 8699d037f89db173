"""What training reads instead of pictures and prompts: posteriors and text features, once each.

The encoders are passed in as callables and are called only for what the store does not have. With
or without a store the values are the same: everything but the features of names is rounded to
bf16. With a store nothing is held in memory: a batch is read, and checked, when it is drawn.

Shapes: N examples, U different pictures (file, crop, size), P different prompts; latents
(16, h, w), which differ with aspect buckets; text of L tokens with D features, and D_pooled pooled
ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.data.boxes import Box
from sgflux.data.buckets import Size
from sgflux.data.cache.tensor_rows import TensorRows
from sgflux.data.examples import SceneExample
from sgflux.data.images import Crop
from sgflux.data.prompts import PROMPT_KINDS
from sgflux.graphs.names import is_statement
from sgflux.settings.shared import TextFormat


@dataclass(frozen=True, eq=False)
class TrainingArrays:
    """A data set, encoded.

    The tensors are bf16 on the CPU: :meth:`posterior` gives float32, as arithmetic needs it.

    Attributes:
        examples: the N examples.
        latents: U rows of ``mean`` and ``std``, unscaled, (16, h, w) each.
        image_index: each example's row in ``latents``, (N,) int64.
        prompts: the P different prompts.
        texts: P rows of text features under the base's own names.
        prompt_index: each example's row in ``texts`` by kind of prompt, in the order of
            ``PROMPT_KINDS`` (relational, neutral, empty, contradicting), (N, 4) int64.
        sizes: the size of each example's picture, with aspect buckets; else empty: all have one.
    """

    examples: tuple[SceneExample, ...]
    latents: TensorRows
    image_index: Tensor
    prompts: tuple[str, ...]
    texts: TensorRows
    prompt_index: Tensor
    sizes: tuple[Size, ...] = ()

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the examples ``rows`` (B,), (B, 16, h, w) float32 each.

        With aspect buckets the examples are of one size.
        """
        found = self.latents.rows(self.image_index[rows])
        return found["mean"].float(), found["std"].float()

    def text(self, rows: Tensor, kinds: Tensor) -> dict[str, Tensor]:
        """Return text features of the examples ``rows`` (B,), each with its own kind of prompt.

        Args:
            rows: (B,) int64.
            kinds: (B,) int64, indices into ``PROMPT_KINDS``.

        Returns:
            The base's own names -> (B, ...), bf16.
        """
        return self.texts.rows(self.prompt_index[rows, kinds])

    def words(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return features of the texts that state the relations of B examples, as :meth:`text`."""
        index = torch.tensor(rows, dtype=torch.int64)
        kinds = torch.full_like(index, PROMPT_KINDS.index("relational"))
        return self.text(index, kinds)


def latent_key(
    image_sha256: str,
    *,
    crop: Crop,
    box: Box | None,
    height: int,
    width: int,
    identity: str,
    mirrored: bool = False,
) -> str:
    """Return the key of a picture's posterior: all that it depends on.

    Args:
        image_sha256: SHA-256 of the file's content.
        crop: Name of the crop.
        box: Box of a union crop.
        height: Height of the fitted picture in pixels.
        width: Width of the fitted picture in pixels.
        identity: Identity of the encoder and its precision.
        mirrored: Whether the picture is the mirror image of the file's.
    """
    where = None if box is None else [float(number) for number in box]
    return _key("latent", image_sha256, crop, where, height, width, identity, mirrored)


def text_key(
    prompt: str, *, max_sequence_length: int, identity: str, form: TextFormat = "bf16"
) -> str:
    """Return the key of a prompt's features: all that they depend on, and their form."""
    own = () if form == "bf16" else (form,)  # the only form of earlier versions
    return _key("text", prompt, max_sequence_length, identity, *own)


def name_key(name: str, *, max_sequence_length: int, identity: str) -> str:
    """Return the key of a name's features: all that they depend on.

    A statement is read as prompts are, at their length; a name is read alone.
    """
    own = (max_sequence_length,) if is_statement(name) else ()
    return _key("name", name, identity, *own)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
