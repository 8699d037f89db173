"""Weights that are numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.errors import SgfluxError

_WAY_OUT = "a run that diverged or a damaged file leaves such weights, take an earlier checkpoint"


def check_finite(
    state: Mapping[str, Tensor], *, where: str | os.PathLike[str], way_out: str = _WAY_OUT
) -> None:
    """Refuse weights that are no numbers.

    Args:
        state: name -> weights.
        where: Place of the weights, for the message.
        way_out: Advice of the message on such weights.

    Raises:
        SgfluxError: naming the first such weight.
    """
    for name, value in state.items():
        finite = torch.isfinite(value)
        if not bool(finite.all()):
            count = int((~finite).sum())
            raise SgfluxError(
                f"{where}: {name} has {count} of {value.numel()} values that are not finite (NaN "
                f"or infinite); {way_out}"
            )
