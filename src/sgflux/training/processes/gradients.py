"""Gradients, averaged over the processes of a run by torch's ``DistributedDataParallel``.

DDP averages a bucket of gradients while the backward pass is still on its way to the next one. It
is put around the trained weights alone: the frozen base needs no averaging, and the model's blocks
are called one by one, so there is no ``forward`` of the model that DDP could be put around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Losses = tuple[Tensor, Tensor]
"""A loss, which is a scalar with gradient, and figures without."""


class _Reaching(torch.autograd.Function):
    """A loss whose backward pass comes by every weight, if only without a gradient.

    DDP waits for every weight, and a process without a graph has no gradient of the graph encoder.
    DDP's own ``find_unused_parameters`` searches the whole graph of every pass for such weights.
    """

    @staticmethod
    def forward(_: Any, loss: Tensor, *weights: Tensor) -> Tensor:  # noqa: ARG004
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], *(None for _ in ctx.needs_input_grad[1:])


class _Pass(nn.Module):
    """The trained weights, and a ``forward`` that runs a function of them."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, compute: Callable[[], Losses]) -> Losses:
        loss, figures = compute()
        return _Reaching.apply(loss, *self.weights), figures


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
            self._averaged = DistributedDataParallel(_Pass(weights), gradient_as_bucket_view=True)

    def __call__(self, compute: Callable[[], Losses]) -> Losses:
        """What ``compute`` gives; the gradients of its loss are averaged in the backward pass."""
        if self._averaged is None:
            return compute()
        loss, figures = self._averaged(compute)
        return loss, figures

    def kept_here(self, while_it: bool) -> AbstractContextManager[object]:
        """A context in which gradients are added up in this process, and not averaged yet.

        Args:
            while_it: False: the context does nothing.
        """
        return (
            self._averaged.no_sync() if self._averaged is not None and while_it else nullcontext()
        )

    def complete(self) -> None:
        """Give a zero gradient to every weight that no example has touched.

        AdamW's state then never depends on the draw.
        """
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
