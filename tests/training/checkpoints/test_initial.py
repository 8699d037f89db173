"""A run that starts from an adapter: its effect is taken over, its sizes followed, the rest is new.

Broken, ``--init-from`` trains from scratch without a word, or at another strength.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.load import load_transformer
from sgflux.bases.flux1.lora_formats import LORA_FORMATS, LoraWeights, read_lora, write_lora
from sgflux.cli import main
from sgflux.commands.inputs import check_start
from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.models.bundle import load_bundle
from sgflux.settings.model_source import ModelSource
from sgflux.settings.start import StartSettings
from sgflux.training.checkpoints.checkpoint import TrainingState
from sgflux.training.checkpoints.initial import InitialAdapter, load_initial
from sgflux.training.run.train import TrainResult, train
from tests.helpers.adapters import write_adapter
from tests.helpers.flags import settings_as_flags
from tests.helpers.flux import make_flux_folder
from tests.helpers.models import make_config as make_adapter_config
from tests.helpers.models import random_inputs, random_names
from tests.helpers.training import MakeConfig
from tests.helpers.training_adapter import write_training_adapter


@pytest.fixture(scope="module")
def first(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """An adapter that is not of the default sizes."""
    return train(
        make_config(
            tmp_path_factory.mktemp("first") / "run",
            sample_steps=0,
            lora_rank=3,
            lora_alpha=6.0,
            block_start=0,
            block_end=2,
            lora_targets="image",
            number_triples=False,
        )
    )


def train_one_step(config: MakeConfig, folder: Path, start: Path, **changes: Any) -> TrainResult:
    """Start from an adapter and take a step with a rate of almost nothing."""
    once = {"lora_rank": 16, "max_steps": 1, "save_every": 1, "sample_steps": 0}
    return train(config(folder, init_from=str(start), lr=1e-12, **once, **changes))


def initial_weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(TrainingState.load(folder / "step1.pt").trainable)


def test_a_run_starts_where_an_adapter_is_and_follows_its_sizes(
    make_config: MakeConfig, first: TrainResult, tmp_path: Path
) -> None:
    """With a rate of almost nothing the first step leaves the adapter's own weights."""
    assert first.bundle is not None
    _, before = load_bundle(first.bundle)
    result = train_one_step(make_config, tmp_path / "run", first.bundle, batch_size=3, seed=5)
    weights = initial_weights(result.output_dir)
    assert weights.keys() == before.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-9)
    assert result.bundle is not None
    config, _ = load_bundle(result.bundle)
    own, _ = load_bundle(first.bundle)
    assert (config.lora_rank, config.lora_alpha, config.block_end) == (3, 6.0, 2)
    assert config.encoder == own.encoder
    log = (result.output_dir / "training.log").read_text()
    assert "LoRA, conditioner and graph encoder are taken over" in log
    settings = json.loads((result.output_dir / "config.json").read_text())
    assert (settings["lora_rank"], settings["number_triples"]) == (3, False)
    assert "| started from | final |" in (result.bundle / "README.md").read_text()


def test_a_run_can_have_more_lora_layers_than_what_it_starts_from(
    make_config: MakeConfig, first: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They start at zero, so that the adapter draws as before; fewer layers are a contradiction."""
    assert first.bundle is not None
    _, before = load_bundle(first.bundle)
    more = {"lora_targets": "all+ff+single"}
    result = train_one_step(make_config, tmp_path / "run", first.bundle, **more)
    weights = initial_weights(result.output_dir)
    added = weights.keys() - before.keys()
    for name in before:
        torch.testing.assert_close(weights[name], before[name], rtol=0, atol=1e-9)
    assert {name.split(".lora_")[0].split(".", 3)[3] for name in added} >= {
        "attn.add_k_proj",
        "ff.net.2",
        "proj_out",
    }
    assert all(weights[n].abs().max() < 1e-9 for n in added if n.endswith("lora_B.weight"))
    said = capsys.readouterr().out
    assert re.search(r"\d+ of the adapter's \d+ LoRA layers are not in", said)
    assert result.bundle is not None
    blocks = "double blocks 0 to 1 of 3, and all single blocks"
    assert f"adapter:    {blocks}\n" in said
    assert f"| blocks | {blocks} |\n" in (result.bundle / "README.md").read_text()
    fewer = {"init_from": str(result.bundle), "lora_targets": "image", "max_steps": 1}
    with pytest.raises(SgfluxError, match=r"has lora_targets 'all\+ff\+single', this run 'image'"):
        train(make_config(tmp_path / "fewer", lora_rank=16, **fewer))


def test_a_setting_that_is_given_its_default_follows_the_adapter_and_a_line_says_so(
    make_config: MakeConfig, first: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"lora_rank": 16, "lora_targets": "all", "dry_run": True}
    train(make_config(tmp_path / "run", init_from=str(first.bundle), **changes))
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("from "))
    assert "final, which settings at their defaults follow: " in line
    assert "lora_targets image" in line
    assert "lora_rank 3, lora_alpha 6.0" in line


def test_it_resumes_without_what_it_started_from(
    make_config: MakeConfig, first: TrainResult, tmp_path: Path
) -> None:
    assert first.bundle is not None
    source = tmp_path / "adapter"
    shutil.copytree(first.bundle, source)
    changes = {"lora_rank": 16, "init_from": str(source), "sample_steps": 0}
    whole = train(make_config(tmp_path / "whole", **changes))
    rest = tmp_path / "rest"
    rest.mkdir()
    shutil.copy(whole.output_dir / "step2.pt", rest)
    shutil.rmtree(source)
    again = make_config(rest, resume="auto", **changes)
    assert main(["train", *settings_as_flags(again.to_json())]) == 0
    states = [TrainingState.load(folder / "step4.pt") for folder in (whole.output_dir, rest)]
    for name, value in states[0].trainable.items():
        assert torch.equal(value, states[1].trainable[name]), name


@pytest.mark.parametrize("gone", ["gone", "gone.safetensors"])
def test_the_command_looks_at_what_a_run_starts_from_unless_it_goes_on(
    tmp_path: Path, gone: str
) -> None:
    init_from, checkpoint = str(tmp_path / gone), tmp_path / "run" / "step2.pt"

    def check(resume: str | None) -> None:
        start = StartSettings(init_from=init_from, resume=resume)
        check_start(start, output_dir=checkpoint.parent, allow_download=False)

    for resume in (None, "auto"):  # there is no checkpoint yet
        with pytest.raises(SgfluxError, match=r"init_from: .*gone"):
            check(resume)
    checkpoint.parent.mkdir()
    checkpoint.touch()
    for resume in ("auto", str(checkpoint)):
        check(resume)
    with pytest.raises(SgfluxError, match=r"init_from: .*gone"):
        check(None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_rank": 5}, "has lora_rank 3, this run 5; leave it out"),
        ({"block_start": 1, "block_end": 2}, "has block_start 0, this run 1"),
        ({"graph_mode": "temb"}, "has graph_mode 'token', this run 'temb'"),
    ],
)
def test_a_setting_that_contradicts_the_adapter_is_named(
    make_config: MakeConfig,
    first: TrainResult,
    tmp_path: Path,
    changes: dict[str, object],
    said: str,
) -> None:
    settings = {"lora_rank": 16, "init_from": str(first.bundle), **changes}
    with pytest.raises(SgfluxError, match=f"init_from: .*{said}"):
        train(make_config(tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


def test_an_adapter_says_itself_how_its_boxes_are_read(
    make_config: MakeConfig, flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings about boxes in training need no other flag, and contradict no adapter."""

    def adapter(name: str, **encoder: bool) -> Path:
        return write_adapter(tmp_path / name, flux, blocks=(0, 2), **encoder)

    with_boxes = adapter("boxes", read_boxes=True, box_attention=True)
    without = adapter("none")
    predicts = adapter("predicts", read_boxes=True, predict_layout=True)
    changes = {"lora_rank": 16, "dry_run": True, "boxes_dropout": 0.2}

    def begin(source: Path, **more: Any) -> None:
        train(make_config(tmp_path / "run", init_from=str(source), **changes, **more))

    begin(with_boxes)
    assert "read_boxes True, box_attention True" in capsys.readouterr().out
    for source, more, said in (
        (without, {}, r"none: boxes_dropout \(0.2\) has no effect without read_boxes or"),
        (with_boxes, {"box_positions": True}, "has box_positions False, this run True"),
        (
            with_boxes,
            {"losses": {"lambda_layout": 1.0}},
            "has no predictor of boxes, which lambda_layout",
        ),
        (predicts, {}, "has a predictor of boxes; give lambda_layout"),
    ):
        with pytest.raises(SgfluxError, match=f"init_from: .*{said}"):
            begin(source, **more)
    with pytest.raises(SgfluxError, match=r"boxes_dropout .* has no effect without read_boxes"):
        make_config(tmp_path / "run", **changes)


def test_an_adapter_of_one_token_a_triple_is_refused_before_anything_is_encoded(
    make_config: MakeConfig, flux: Path, tmp_path: Path
) -> None:
    """``sgflux import`` makes such ones; what the message advises to give instead is taken."""
    made = {"blocks": (0, 2), "tokens_per_triple": 1}
    token = write_adapter(tmp_path / "token", flux, **made)
    temb = write_adapter(tmp_path / "temb", flux, graph_mode="temb", **made)

    def begin(source: Path) -> None:
        train(make_config(tmp_path / "run", init_from=str(source), lora_rank=16, dry_run=True))

    with pytest.raises(SgfluxError, match=r"init_from: .*token makes 1 .*; give its pytorch_lora"):
        begin(token)
    begin(token / "pytorch_lora_weights.safetensors")
    begin(temb)


def test_what_cannot_be_started_from_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(b"half")
    for source, said in (
        (tmp_path / "nothing", "nothing is no adapter bundle"),
        (tmp_path / "half.safetensors", "half.safetensors"),
    ):
        with pytest.raises(SgfluxError, match=f"init_from: .*{said}"):
            train(make_config(tmp_path / "run", init_from=str(source)))


def test_an_adapter_of_another_base_is_refused_unless_it_is_meant(
    make_config: MakeConfig, first: TrainResult, flux: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(flux, other)
    (path,) = (other / "vae").glob("*.safetensors")
    weights = load_file(path)
    save_file({name: value * 1.1 for name, value in weights.items()}, path, {"format": "pt"})
    changes = {
        "lora_rank": 16,
        "init_from": str(first.bundle),
        "model_id": str(other),
        "sample_steps": 0,
        "max_steps": 1,
    }
    for dry in (True, False):  # found before anything is encoded
        with pytest.raises(SgfluxError, match=r"another base: vae differs: adapter \w+, here \w+"):
            train(make_config(tmp_path / "run", dry_run=dry, **changes))
    result = train(make_config(tmp_path / "run2", allow_other_base=True, **changes))
    assert "vae differs" in (result.output_dir / "training.log").read_text()


# --- anybody's LoRA -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LORA_FORMATS)
def test_a_lora_in_any_layout_acts_as_it_did(tmp_path: Path, layout: str) -> None:
    """At another rank and alpha than the run's, too; the graph's part starts untrained."""
    flux_folder = make_flux_folder(tmp_path / "flux")
    names, inputs = random_names(), random_inputs()
    transformer = load_transformer(ModelSource(model_id=str(flux_folder)))
    config = make_adapter_config(transformer, lora_rank=2, lora_alpha=3.0)
    source = build_model(transformer=transformer, config=config, name_features=names)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name.removeprefix("lora."): torch.randn(value.shape, generator=generator)
        for name, value in source.trainable_state().items()
        if name.startswith("lora.")
    }
    path = tmp_path / "theirs.safetensors"
    write_lora(path, LoraWeights.with_alpha(weights, 3.0), layout=layout)  # type: ignore[arg-type]
    state = source.trainable_state()
    source.load_trainable_state({**state, **{f"lora.{n}": v for n, v in weights.items()}})
    expected = source(None, inputs)

    base = load_transformer(ModelSource(model_id=str(flux_folder)))
    model = build_model(
        transformer=base,
        config=make_adapter_config(base, lora_rank=5, lora_alpha=7.0),
        name_features=names,
    )
    lines = load_initial(model, InitialAdapter(name="theirs", lora=read_lora(path)))
    torch.testing.assert_close(model(None, inputs), expected, rtol=1e-4, atol=1e-4)
    assert "16 of its 16 layers are taken over" in lines[0]
    assert "graph encoder and the conditioner start untrained" in lines[0]
    assert len(lines) == 1
    # What is added beyond its rank can still learn.
    a = model.adapter_parameters()["lora.transformer_blocks.3.attn.to_q.lora_A.weight"]
    assert bool(a[2:].any())


def test_layers_without_a_place_are_counted_and_the_rank_is_followed(
    make_config: MakeConfig,
    flux: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "theirs.safetensors"
    write_training_adapter(path, load_transformer(ModelSource(model_id=str(flux))))
    weights = {}
    for name, value in load_file(path).items():  # rank 20, as the default 16 is too small for
        down = name.endswith("lora_A.weight")
        wide = torch.zeros(20, value.shape[1]) if down else torch.zeros(value.shape[0], 20)
        wide[: value.shape[0], : value.shape[1]] = value
        weights[name] = wide
    save_file(weights, path)
    changes = {"init_from": str(path), "sample_steps": 0, "max_steps": 1}
    result = train(make_config(tmp_path / "run", lora_rank=16, **changes))
    assert result.bundle is not None
    config, _ = load_bundle(result.bundle)
    assert (config.lora_rank, config.lora_alpha) == (20, 20.0)
    output = capsys.readouterr().out
    assert "lora_rank 20, lora_alpha 20" in output
    assert re.search(r"\d+ of its \d+ layers are taken over; the graph encoder and", output)
    assert "are left out: what they do is missing" in output
    assert "does not say which base" in output
    with pytest.raises(SgfluxError, match="has rank 20, more than lora_rank 2; give lora_rank 20"):
        train(make_config(tmp_path / "run2", **changes))
    only_single = {n: v for n, v in weights.items() if "single_transformer" in n}
    save_file(only_single, path)
    with pytest.raises(SgfluxError, match="has no LoRA on a layer that this adapter changes"):
        train(make_config(tmp_path / "run3", lora_rank=16, **changes))
