"""Blocks whose weights are away while they do not run learn and draw as if nothing was.

The weights go to files here, which shows on a CPU what a device would show: the blocks themselves
hold nothing.

If one of these failed, a run that offloads blocks would train or draw something else than one
that does not, or save no memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.bases.flux1.network import FluxInputs
from sgflux.bases.memory.offload import BlockOffload, offload_for_sampling
from sgflux.errors import SgfluxError
from sgflux.models.adapter import GraphLoraModel, build_model
from sgflux.models.name_features import NameFeatures
from tests.helpers.flux import make_transformer
from tests.helpers.models import GRAPHS, make_config, train_by_chance


def make_pair(
    names: NameFeatures, folder: Path, *, mode: str = "token", targets: str = "all"
) -> tuple[GraphLoraModel, GraphLoraModel]:
    """A model, and the same one with its blocks offloaded."""
    bases = [make_transformer(), make_transformer()]
    config = make_config(bases[0], graph_mode=mode, lora_targets=targets)
    plain, offloaded = (
        build_model(transformer=base, config=config, name_features=names) for base in bases
    )
    offloaded.load_trainable_state(train_by_chance(plain))
    offloaded.offload_blocks("cpu", folder=folder)
    return plain, offloaded


def away(model: GraphLoraModel) -> list[Any]:
    base, flux = model.flux.transformer, model.flux
    return [
        *base.transformer_blocks[: flux.block_start],
        *base.transformer_blocks[flux.block_end :],
        *base.single_transformer_blocks,
    ]


@pytest.mark.parametrize(
    ("mode", "targets"), [("token", "all"), ("temb", "all"), ("token", "all+ff+single")]
)
@pytest.mark.parametrize("recompute", [True, 2, False])
def test_gradients_are_those_of_the_plain_model(
    names: NameFeatures,
    inputs: FluxInputs,
    tmp_path: Path,
    mode: str,
    targets: str,
    recompute: bool | int,
) -> None:
    """Blocks whose LoRA is trained stay, since fetched weights have no gradient."""
    plain, offloaded = make_pair(names, tmp_path, mode=mode, targets=targets)
    for _ in range(2):  # the second step fetches them again
        found = []
        for model in (plain, offloaded):
            model.zero_grad()
            velocity = model(GRAPHS, inputs, gradient_checkpointing=recompute)
            velocity.square().mean().backward()
            found.append((velocity, [p.grad for p in model.trainable_parameters().values()]))
        (velocity, gradients), (other_velocity, other_gradients) = found
        assert torch.equal(velocity, other_velocity)
        for one, other in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_its_weights_are_gone_when_nobody_needs_them(
    names: NameFeatures, inputs: FluxInputs, tmp_path: Path
) -> None:
    """Fetched weights live as long as a block runs, or as its activations."""
    _, offloaded = make_pair(names, tmp_path)
    assert not any(weight.numel() for block in away(offloaded) for weight in block.parameters())
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def bytes_kept(recompute: bool) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            offloaded(GRAPHS, inputs, gradient_checkpointing=recompute)
        return sum(kept.values())

    blocks = [make_transformer().transformer_blocks[5]] * 3
    weights = sum(w.numel() * 4 for block in blocks for w in block.parameters())
    assert bytes_kept(True) < weights < bytes_kept(False)


def test_without_gradients_it_draws_the_same(
    names: NameFeatures, inputs: FluxInputs, tmp_path: Path
) -> None:
    plain, offloaded = make_pair(names, tmp_path)
    with torch.inference_mode():
        expected = plain(GRAPHS, inputs)
        for _ in range(2):
            assert torch.equal(offloaded(GRAPHS, inputs), expected)
    velocity = offloaded(GRAPHS, inputs, gradient_checkpointing=True)
    velocity.square().mean().backward()


def test_what_would_not_work_is_refused(
    names: NameFeatures, inputs: FluxInputs, tmp_path: Path
) -> None:
    _, offloaded = make_pair(names, tmp_path)
    with pytest.raises(ValueError, match="concepts look into blocks whose weights are offloaded"):
        offloaded.flux.prefix(
            inputs,
            concepts=torch.zeros(3, 2, 32),
            concept_text={"pooled": torch.zeros(3, 24)},
        )
    blocks = make_transformer().transformer_blocks
    with pytest.raises(SgfluxError, match="offload_blocks has no effect on the CPU"):
        BlockOffload(blocks, device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(SgfluxError, match=r"offload_folder: .*file is no folder"):
        BlockOffload(blocks, device="cpu", folder=tmp_path / "file")


def test_its_files_go_with_it(tmp_path: Path) -> None:
    both = [
        BlockOffload(make_transformer(seed=seed).transformer_blocks, device="cpu", folder=tmp_path)
        for seed in (1, 2)
    ]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 16
    both.pop()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 8
    both.clear()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_diffusers_own_hooks_serve_a_base_that_draws(inputs: FluxInputs, tmp_path: Path) -> None:
    plain, offloaded = make_transformer(), make_transformer()
    files = offload_for_sampling(offloaded, device="cpu", folder=tmp_path)
    with torch.inference_mode():
        for _ in range(2):
            for weight in offloaded.transformer_blocks.parameters():
                weight.data.fill_(torch.nan)  # what is left of a weight that is away
            assert torch.equal(offloaded(**vars(inputs)).sample, plain(**vars(inputs)).sample)
    assert list(tmp_path.rglob("*.safetensors"))
    files.cleanup()
    with pytest.raises(SgfluxError, match="offload_blocks has no effect on the CPU"):
        offload_for_sampling(make_transformer(), device="cpu")
