"""Gradients, averaged over the processes of a run by torch's ``DistributedDataParallel``.

DDP averages a bucket of gradients while the backward pass is still on its way to the next one. It
is put around the trained weights alone: the frozen base needs no averaging, and the model's blocks
are called one by one, so there is no ``forward`` of the model that DDP could be put around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

Result = TypeVar("Result")


class _Pass(nn.Module):
    """The trained weights, and a ``forward`` that runs a function of them."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, compute: Callable[[], Result]) -> Result:
        return compute()


class SharedGradients:
    """Runs forward passes whose backward passes average the gradients over the processes."""

    def __init__(self, weights: Sequence[nn.Parameter], *, several: bool) -> None:
        """Look at the weights.

        Args:
            weights: Trained weights, on the device.
            several: Whether there is more than one process.
        """
        self._weights = list(weights)
        self._averaged: DistributedDataParallel | None = None
        if several:
            self._averaged = DistributedDataParallel(
                _Pass(weights),
                # Without a graph, a process has no gradient of the graph encoder.
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )

    def __call__(self, compute: Callable[[], Result]) -> Result:
        """The result of ``compute``: a loss, or a tuple with it, whose gradients are averaged."""
        if self._averaged is None:
            return compute()
        result: Result = self._averaged(compute)
        return result

    def kept_here(self, while_it: bool) -> AbstractContextManager[object]:
        """A context in which gradients are added up in this process, and not averaged yet.

        Args:
            while_it: False: the context does nothing.
        """
        return (
            self._averaged.no_sync() if self._averaged is not None and while_it else nullcontext()
        )

    def complete(self) -> None:
        """Give a zero gradient to every weight that no example of any process has touched.

        AdamW's state then never depends on the draw.
        """
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = weight.new_zeros(weight.shape)
