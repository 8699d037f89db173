"""What a run costs, against the figures worked out by hand for FLUX.1.

If one of these failed, ``--dry-run`` would announce a run that fits, and the run would not.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.adapter import LoraTargets
from sgflux.training.planning.estimate import (
    Shape,
    activation_bytes,
    estimate_lines,
    operations_per_example,
)
from sgflux.training.run.train import train
from tests.helpers.flux import make_transformer as make_plain_transformer
from tests.helpers.models import GRAPHS, random_inputs, random_names
from tests.helpers.models import make_config as make_adapter_config
from tests.helpers.original_layout import make_transformer, original_state
from tests.helpers.training import MakeConfig

FLUX = Shape(
    inner_dim=3072,
    blocks=57,
    first_adapted=7,
    tokens=256 + 128,
    batch_size=2,
    examples_per_step=8,
    bytes_per_number=2,
    checkpoint_every=0,
)


@pytest.mark.parametrize(
    ("tokens", "teraflop"), [(256 + 128, 9.6), (1024 + 256, 34.2), (4096 + 256, 142)]
)
def test_operations_are_those_of_the_design(tokens: int, teraflop: float) -> None:
    shape = dataclasses.replace(FLUX, tokens=tokens)
    assert operations_per_example(shape) / 1e12 == pytest.approx(teraflop, rel=0.01)


def test_recomputing_costs_forwards_and_saves_memory() -> None:
    whole = dataclasses.replace(FLUX, checkpoint_every=1)
    half = dataclasses.replace(FLUX, checkpoint_every=2)
    costs = [operations_per_example(shape) for shape in (FLUX, half, whole)]
    kept = [activation_bytes(shape) for shape in (FLUX, half, whole)]
    assert costs == sorted(costs)
    assert kept == sorted(kept, reverse=True)
    forward = 24 * 3072**2 * 384 + 4 * 3072 * 384**2
    assert costs[2] - costs[0] == 50 * forward
    assert costs[1] - costs[0] == 25 * forward


def kept_by(targets: LoraTargets) -> tuple[int, int]:
    """Bytes that small components in bf16 keep for the backward pass: measured, and estimated."""
    transformer = make_plain_transformer().to(torch.bfloat16)
    config = make_adapter_config(transformer, lora_targets=targets)
    model = build_model(transformer=transformer, config=config, name_features=random_names())
    inputs = random_inputs()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
        model(GRAPHS, inputs)
    (batch, image), text = inputs.hidden_states.shape[:2], inputs.encoder_hidden_states.shape[1]
    shape = Shape(
        inner_dim=transformer.inner_dim,
        blocks=len(model.flux.network.blocks),
        first_adapted=config.block_start,
        tokens=image + text,
        batch_size=batch,
        examples_per_step=batch,
        bytes_per_number=2,
        checkpoint_every=0,
        lora_numbers=config.lora_numbers(image_tokens=image, text_tokens=text),
    )
    return sum(storage.nbytes() for storage in kept.values()), activation_bytes(shape)


def test_what_lora_layers_keep_is_counted() -> None:
    """Where it is not, an adapter of the single blocks needs more memory than the plan says."""
    targets: tuple[LoraTargets, ...] = ("all", "all+ff", "all+ff+single")
    (all_, ff, single) = (kept_by(target) for target in targets)
    for fewer, more in ((all_, ff), (ff, single)):
        measured, estimated = (more[place] - fewer[place] for place in (0, 1))
        assert estimated == pytest.approx(measured, rel=0.1)


def test_a_recomputed_block_keeps_no_inputs_of_lora_layers() -> None:
    lora = 10**9
    for every, share in ((0, 50), (1, 1), (2, 26)):
        shape = dataclasses.replace(FLUX, checkpoint_every=every)
        more = activation_bytes(dataclasses.replace(shape, lora_numbers=lora))
        assert more - activation_bytes(shape) == pytest.approx(2 * 2 * lora * share / 50)


def test_a_teacher_costs_a_forward_pass() -> None:
    forward = 24 * 3072**2 * 384 + 4 * 3072 * 384**2
    taught = dataclasses.replace(FLUX, teacher_passes=1)
    assert operations_per_example(taught) - operations_per_example(FLUX) == 57 * forward


def test_the_lines_name_every_phase() -> None:
    lines = estimate_lines(
        FLUX, encoder_bytes=2**30, base_bytes=2**31, trained_numbers=2**28, averaged=True
    )
    assert lines[0].startswith("encoding:   1 GiB")
    assert "base 2 GiB, adapter with optimizer 5 GiB" in lines[1]
    assert "estimated, not measured" in lines[1]
    assert lines[2] == "peak:       about 9.86 GiB, in training"
    assert lines[3] == "arithmetic: 9.59 TFLOP an example, 76.7 a step"


def test_what_is_elsewhere_is_not_counted_on_the_device() -> None:
    given: dict[str, Any] = {"base_bytes": 57 * 2**30, "trained_numbers": 2**20, "averaged": False}
    lines = estimate_lines(
        FLUX, encoder_bytes=2**40, **given, encoders_aside=True, offloaded_bytes=50 * 57 * 2**20
    )
    assert "on another device" in lines[0]
    assert lines[2].startswith("offloaded:  2.78 GiB of the base's weights")
    # 57 GiB less 2.78, and one block of 50 MiB while it runs.
    assert "base 54.3 GiB" in lines[1]
    assert lines[3].endswith("in training")
    here = estimate_lines(FLUX, encoder_bytes=2**40, **given)
    assert here[2] == "peak:       about 1.02e+03 GiB, in encoding"


def test_what_processes_share_is_counted_by_its_part() -> None:
    given: dict[str, Any] = {"base_bytes": 57 * 2**30, "trained_numbers": 2**20, "averaged": False}
    lines = estimate_lines(FLUX, encoder_bytes=2**20, **given, shared_bytes=56 * 2**30, sharers=8)
    # 1 GiB that everybody has, an eighth of 56, and two of 57 blocks.
    assert "base 9.96 GiB" in lines[1]
    assert lines[2].startswith(
        "shared:     56 GiB of the base's weights by 8 processes, 7 GiB each"
    )


def test_an_autoencoder_that_stays_for_the_sample_graphs_is_counted() -> None:
    given: dict[str, Any] = {"base_bytes": 2**31, "trained_numbers": 2**28, "averaged": True}
    given |= {"encoder_bytes": 2**30, "decoder_bytes": 2**29}
    lines = estimate_lines(FLUX, **given)
    assert ", autoencoder 512 MiB (estimated" in lines[1]
    assert lines[2].startswith("decoding:   512 MiB of weights, on the device in training")
    assert lines[3] == "peak:       about 10.4 GiB, in training"
    aside = estimate_lines(FLUX, **given, encoders_aside=True)
    assert "autoencoder" not in aside[1]
    assert "on another device" in aside[2]
    assert aside[3] == "peak:       about 9.86 GiB, in training"


def test_a_dry_run_says_what_each_phase_costs(
    tmp_path: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config(tmp_path / "run", dry_run=True, gradient_checkpointing=True))
    said = capsys.readouterr().out
    for word in ("encoding:", "memory:", "arithmetic:", "estimated, not measured"):
        assert word in said
    assert not (tmp_path / "run").exists()


def test_a_single_file_with_components_trains_and_samples(
    tmp_path: Path, make_config: MakeConfig, flux: Path
) -> None:
    """The transformer from its original-layout file, all else from a folder."""
    model = make_transformer(guidance_embeds=False)
    file = tmp_path / "flux1-schnell.safetensors"
    save_file(original_state(model), file)
    settings: dict[str, Any] = {"model_id": str(file), "components": str(flux)}
    train(make_config(tmp_path / "planned", **settings, dry_run=True))
    settings |= {"gradient_checkpointing": True, "checkpoint_every": 2}
    result = train(make_config(tmp_path / "run", **settings))
    assert result.bundle is not None
    pipeline = SceneGraphFluxPipeline.from_pretrained(
        str(file), components=str(flux), adapter=result.bundle
    )
    images = pipeline("man, riding, horse", seed=0, num_inference_steps=1, output_type="np").images
    assert images.shape == (1, 64, 64, 3)
    with pytest.raises(SgfluxError, match="is a single file, the transformer alone"):
        make_config(tmp_path / "x", model_id=str(file))
    with pytest.raises(SgfluxError, match=r"components .* has no effect"):
        make_config(tmp_path / "x", components=str(flux))
    with pytest.raises(SgfluxError, match=r"checkpoint_every .* has no effect without"):
        make_config(tmp_path / "x", checkpoint_every=2)


@pytest.mark.parametrize("kind", ["int8", "float8"])
def test_a_quantised_base_trains(tmp_path: Path, make_config: MakeConfig, kind: str) -> None:
    settings: dict[str, Any] = {"quantize": kind, "gradient_checkpointing": True}
    with pytest.raises(SgfluxError, match="compile does not work with quantize"):
        make_config(tmp_path / "x", **settings, compile=True)
    for changes in ({"gradient_checkpointing": False}, {"checkpoint_every": 2}):
        with pytest.raises(SgfluxError, match="saves memory only with gradient_checkpointing"):
            make_config(tmp_path / "x", **{**settings, **changes})
    pytest.importorskip("torchao")
    train(make_config(tmp_path / "planned", **settings, dry_run=True))
    result = train(make_config(tmp_path / "run", **settings, dtype="bf16"))
    assert result.bundle is not None
