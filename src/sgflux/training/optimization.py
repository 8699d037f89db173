"""From gradients to weights: the learning rate, AdamW, and averaging over time.

Everything here works on the few trained float32 weights as one ordered list, and nothing here waits
for the device: losses and norms stay tensors until somebody logs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgflux.errors import SgfluxError


def learning_rate_factor(step: int, *, warmup_steps: int, max_steps: int, floor: float) -> float:
    """What the peak learning rate is multiplied with in a step: linear warmup, then a cosine.

    A pure function of the step, so that there is no scheduler whose state could be lost.

    Args:
        step: Number of the step, from 0; the first step already moves the weights.
        warmup_steps: First step in which the factor is 1.
        max_steps: Number of steps; the last one, ``max_steps - 1``, is just above the floor.
        floor: Factor at which the cosine ends, in [0, 1].
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(
    weights: Mapping[str, nn.Parameter], *, lr: float, weight_decay: float, gate_lr_scale: float
) -> torch.optim.AdamW:
    """AdamW over named float32 weights, in their order.

    Matrices decay; vectors (norms, biases) do not, and gates neither: their zero means "as the base
    model", which is a point to leave, not one to be drawn back to. Gates are the weights whose name
    has a part that starts with ``gate``.

    Returns:
        The optimizer; each group carries ``peak_lr``, which :func:`set_learning_rate` scales.

    Raises:
        SgfluxError: if a weight is not float32 (in bf16 it would not move at these rates), or
            ``gate_lr_scale`` is given and there is no gate.
    """
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {"matrices": [], "vectors": [], "gates": []}
    for name, weight in weights.items():
        if weight.dtype != torch.float32:
            raise SgfluxError(f"trained weights must be float32, {name} is {weight.dtype}")
        shape = "matrices" if weight.ndim >= 2 else "vectors"
        groups["gates" if is_gate(name) else shape].append((name, weight))
    if gate_lr_scale != 1 and not groups["gates"]:
        raise SgfluxError(f"gate_lr_scale is {gate_lr_scale}, but the model has no gate")
    settings = [
        {
            "params": named,
            "lr": lr * (gate_lr_scale if kind == "gates" else 1.0),
            "peak_lr": lr * (gate_lr_scale if kind == "gates" else 1.0),
            "weight_decay": weight_decay if kind == "matrices" else 0.0,
        }
        for kind, named in groups.items()
        if named
    ]
    return torch.optim.AdamW(settings, fused=True)


def is_gate(name: str) -> bool:
    """Whether the weight of this name lets the graph in."""
    return any(part.startswith("gate") for part in name.split("."))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


class Average:
    """Exponential moving average of the trained weights, with a warm-up.

    ``decay`` is approached as (1 + n) / (10 + n) over the updates n, so that the average of a short
    run is not still its start.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], *, decay: float) -> None:
        """Start at the weights as they are.

        Args:
            weights: Name -> weight; the weights are kept, not copied.
            decay: Decay of a long run, in (0, 1).
        """
        self._weights = dict(weights)
        self._decay = decay
        self.values = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the weights after their ``updates``-th update (from 1)."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.values.values()), list(self._weights.values()), 1.0 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        weights = [weight.detach() for weight in self._weights.values()]
        before = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, list(self.values.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(weights, before)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over saved averages.

        Raises:
            SgfluxError: if they are not of these weights.
        """
        if set(values) != set(self.values):
            raise SgfluxError(
                f"the saved averages are of other weights: {sorted(set(values) ^ set(self.values))}"
            )
        for name, value in self.values.items():
            value.copy_(values[name])
