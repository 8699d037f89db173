"""Features of names and statements, which graph encoders and losses look up.

Shapes: n names, D_text the features of a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.graphs.names import plain_name
from sgflux.graphs.scene_graph import Triple


class NameFeatures:
    """Text-encoder features of names, each computed once. Names differ by more than case.

    Raises:
        SgfluxError: from :meth:`lookup`, if a name is missing and there is nothing to encode it.
    """

    def __init__(self, dim: int, encode: Callable[[Sequence[str]], Tensor] | None = None) -> None:
        """Start empty.

        Args:
            dim: D_text.
            encode: n names -> (n, D_text), for names that are looked up and were never added.
        """
        self.dim = dim
        self._encode = encode
        self._index: dict[str, int] = {}
        self._table = torch.empty(0, dim, dtype=torch.float32)

    def __contains__(self, name: str) -> bool:
        """Whether the name's features are there already."""
        return plain_name(name) in self._index

    def add(self, names: Sequence[str], features: Tensor) -> None:
        """Take over features (n, D_text) of n names; a name that is known already keeps its own.

        Raises:
            SgfluxError: if the shape does not fit.
        """
        if features.shape != (len(names), self.dim):
            raise SgfluxError(
                f"{len(names)} names need features of shape ({len(names)}, {self.dim}), "
                f"got {tuple(features.shape)}"
            )
        rows = {
            name: row
            for row, name in reversed(list(enumerate(map(plain_name, names))))
            if name not in self._index
        }
        for name in rows:
            self._index[name] = len(self._index)
        new = features.detach()[list(rows.values())].to("cpu", torch.float32)
        self._table = torch.cat([self._table, new])

    def lookup(self, names: Sequence[str]) -> Tensor:
        """Features of n names, (n, D_text) float32 on the CPU.

        Raises:
            SgfluxError: if a name is missing and cannot be encoded; the message names it.
        """
        cleaned = [plain_name(name) for name in names]
        missing = [name for name in dict.fromkeys(cleaned) if name not in self._index]
        if missing:
            if self._encode is None:
                raise SgfluxError(
                    f"no text features for {', '.join(map(repr, missing))}: add them, or give "
                    "NameFeatures a text encoder"
                )
            self.add(missing, self._encode(missing))
        return self._table[[self._index[name] for name in cleaned]]

    def ends(self, triples: Sequence[Triple], *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Features of the subjects' and of the objects' names, each (n, D_text), on a device.

        Raises:
            SgfluxError: as :meth:`lookup`.
        """
        subjects = self.lookup([one.subject for one in triples])
        objects = self.lookup([one.object for one in triples])
        return subjects.to(device), objects.to(device)
