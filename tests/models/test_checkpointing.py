"""Recomputing activations, wholly or every n-th block, changes neither outputs nor gradients.

If one of these failed, gradient checkpointing would train on wrong gradients without an error.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgflux.bases.flux1.network import FluxInputs
from sgflux.models.name_features import NameFeatures
from tests.helpers.models import GRAPHS, make_model, train_by_chance


@pytest.mark.parametrize("mode", ["token", "temb"])
@pytest.mark.parametrize("every", [True, 2, 3, 100])
def test_gradients_are_those_of_the_plain_model(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs, mode: str, every: bool | int
) -> None:
    model = make_model(flux_folder, names, graph_mode=mode)
    train_by_chance(model)

    def gradients(gradient_checkpointing: bool | int) -> tuple[list[torch.Tensor], int]:
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            velocity = model(GRAPHS, inputs, gradient_checkpointing=gradient_checkpointing)
        velocity.square().mean().backward()
        found = [p.grad for p in model.trainable_parameters().values()]
        return [grad for grad in found if grad is not None], sum(kept.values())

    plain, plain_kept = gradients(False)
    recomputed, kept = gradients(every)
    assert len(plain) == len(recomputed) == len(model.trainable_parameters())
    for one, other in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert kept < plain_kept
