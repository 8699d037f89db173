"""Gradient checkpointing: which blocks keep their activations, and how the others get them back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

Within = Callable[[], AbstractContextManager[Any]]


class Recompute:
    """Calls blocks one after the other, and every ``every``-th of them with recomputation."""

    def __init__(self, every: int, *, within: Within | None = None) -> None:
        """Start counting.

        Args:
            every: n; 0: no recomputation at all.
            within: Context that a recomputation runs in: whatever the forward pass ran in and the
                backward pass will not.
        """
        self._every = every
        self._within = within
        self._count = 0

    def __call__(self, function: Callable[..., Any], *records: Any) -> Any:
        """``function(*records)``.

        Args:
            function: Runs a block.
            records: Tensors, None, or named tuples of these.
        """
        recompute = self._every > 0 and self._count % self._every == 0
        self._count += 1
        if not recompute:
            return function(*records)
        options: dict[str, Any] = {}
        within = self._within
        if within is not None:
            options["context_fn"] = lambda: (nullcontext(), within())

        # Autograd frees a checkpoint's own arguments as the backward pass goes on; tensors inside a
        # record would live as long as the loss.
        tensors, shape = tree_flatten(records)

        def again(*own: Any) -> Any:
            return function(*tree_unflatten(own, shape))

        return checkpoint(again, *tensors, use_reentrant=False, **options)
