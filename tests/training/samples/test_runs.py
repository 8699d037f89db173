"""Runs that draw sample graphs learn what runs without them learn, and show what the adapter draws.

If one of these failed, looking at a training would change it, or its pictures would be those of
other weights, other texts or another noise than they seem to be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgflux.bases.flux1.load import load_transformer
from sgflux.cli import main
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.checks import ConfigError
from sgflux.settings.model_source import ModelSource
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, shallow_dict
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig, equal
from tests.helpers.training_adapter import write_training_adapter

GRAPHS = """man, riding, horse
dog, above, ball; dog#2, left of, ball

{"objects": ["lamp", "owl"], "relationships": [[1, "on", 0]]}
"""
"""Words that no example has, twins, several statements, and both forms of a graph."""


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    path = tmp_path / "graphs.txt"
    path.write_text(GRAPHS)
    return path


class Script:
    """A judge that says in each reading how many of its statements hold."""

    name = "script"

    def __init__(self, *holding: int, knows: Callable[[SceneGraph], bool] = lambda _: True) -> None:
        self.holding, self.knows = [0, *holding], knows  # the first reading is of grey pictures
        self.pictures: list[Sequence[np.ndarray]] = []

    def refusal(self, graph: SceneGraph) -> str | None:
        return None if self.knows(graph) else "it does not know the owl"

    def read(
        self, pictures: Sequence[np.ndarray], graphs: Sequence[SceneGraph]
    ) -> list[Mapping[Triple, str]]:
        self.pictures.append(pictures)
        left = self.holding[len(self.pictures) - 1]
        said: list[Mapping[Triple, str]] = []
        for graph in graphs:
            own = {}
            for statement in graph.labelled_triples():
                own[statement] = "holds" if left > 0 else "contradicted"
                left -= 1
            said.append(own)
        return said


def state_of(folder: Path, step: int = 4) -> dict[str, Any]:
    """All that a checkpoint keeps, but the settings."""
    state = shallow_dict(TrainingState.load(folder / f"step{step}.pt"))
    return {**state, "config": None}


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == kind]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema_decay": 0.0, "dtype": "bf16", "latent_cache_dir": "cache"},
        {"gradient_checkpointing": True, "encoder_device": "cpu", "offload_blocks": True},
        {"training_adapter": "lora.safetensors", "losses": {"lambda_words": 0.0}},
    ],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_what_is_learned_does_not_depend_on_the_samples(
    make_config: MakeConfig, flux: Path, tmp_path: Path, graphs: Path, settings: dict[str, Any]
) -> None:
    """Bit for bit, with torch's own generator, and with what validation says."""
    if "training_adapter" in settings:
        lora = tmp_path / "lora.safetensors"
        write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
        settings = {**settings, "training_adapter": str(lora)}
    if "offload_blocks" in settings:
        settings = {**settings, "offload_folder": tmp_path / "blocks"}
    if "latent_cache_dir" in settings:
        settings = {**settings, "latent_cache_dir": tmp_path / "cache"}
    train(make_config(tmp_path / "plain", **settings))
    train(make_config(tmp_path / "drawn", sample_graphs=graphs, **settings))
    plain, drawn = (state_of(tmp_path / name) for name in ("plain", "drawn"))
    assert [name for name in plain if not equal(plain[name], drawn[name])] == []
    assert [row["loss"] for row in rows(tmp_path / "plain", "validation")] == [
        row["loss"] for row in rows(tmp_path / "drawn", "validation")
    ]
    assert len(list((tmp_path / "drawn" / "samples").rglob("*.png"))) == 2 * (3 + 1)


def test_the_pictures_are_those_that_the_bundle_draws(
    make_config: MakeConfig, flux: Path, tmp_path: Path, graphs: Path
) -> None:
    """With averaged weights and without the training adapter, as in ``sgflux sample``."""
    lora = tmp_path / "training.safetensors"
    write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
    config = make_config(
        tmp_path / "run",
        sample_graphs=graphs,
        training_adapter=str(lora),
        losses={"lambda_words": 0.0},
        select_by="last",
        ema_decay=0.9,
        batch_size=1,
        seed=5,
    )
    bundle = train(config).bundle
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(flux), adapter=bundle)
    pictures = []
    for place in range(3):
        picture, info = read_picture(tmp_path / "run" / "samples" / "step4" / f"{place:03d}.png")
        (again,) = pipeline.sample_batch(
            [SceneGraph.from_json(info["graph"])],
            [info["prompt"]],
            [5],
            steps=config.run.sample_steps,
            height=16,
            width=16,
        )
        assert np.array_equal(picture, again)
        assert info["adapter"] == pipeline.adapter_fingerprint
        assert info["training_step"] == 4
        pictures.append(picture)
    assert info["prompt"] == "a photo of lamp and owl"
    early, _ = read_picture(tmp_path / "run" / "samples" / "step2" / "000.png")
    assert (early != pictures[0]).any(), "the weights have not moved"
    assert bundle is not None
    sheet = (tmp_path / "run" / "samples" / "step4.png").read_bytes()
    assert (bundle / "sample_graphs.png").read_bytes() == sheet
    assert "![sample graphs](sample_graphs.png)" in (bundle / "README.md").read_text()


def test_verdicts_stand_in_the_log_the_metrics_tensorboard_and_the_card(
    make_config: MakeConfig, tmp_path: Path, graphs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Script(1, 2, knows=lambda graph: "owl" not in graph.objects)
    config = make_config(tmp_path / "run", sample_graphs=graphs, judge="script")
    bundle = train(config, observe=lambda: judge).bundle
    log = capsys.readouterr().out
    assert "3 sample graphs with 4 statements, of which the judge 'script' reads 3" in log
    assert "graphs.txt:4 is drawn but not judged: it does not know the owl" in log
    assert "sample graphs: 1 of 3 statements hold, 2 contradicted, 0 not found" in log
    first, second = rows(tmp_path / "run", "samples")
    figures = ("step", "obeyed", "contradicted", "not_found", "statements")
    assert [first[name] for name in figures] == [2, 1 / 3, 2 / 3, 0.0, 3]
    assert second["obeyed"] == 2 / 3
    assert second["pictures"]["samples/step4/001.png"] == {
        "graph": "dog, above, ball; dog#2, left of, ball",
        "verdicts": {"dog, above, ball": "holds", "dog#2, left of, ball": "contradicted"},
    }
    assert second["pictures"]["samples/step4/002.png"]["verdicts"] == {}
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert [event.value for event in board.Scalars("samples/obeyed")] == pytest.approx(
        [1 / 3, 2 / 3]
    )
    assert [event.step for event in board.Images("samples/000 man, riding, horse")] == [2, 4]
    assert "validation/ranking_accuracy" in board.Tags()["scalars"]
    assert bundle is not None
    card = (bundle / "README.md").read_text()
    assert "Of their 3 judged statements, the judge script says that 67 % hold" in card


def test_an_interrupted_run_goes_on_to_the_same_pictures_and_weights(
    make_config: MakeConfig, tmp_path: Path, graphs: Path
) -> None:
    settings: dict[str, Any] = {
        "sample_graphs": graphs,
        "judge": "script",
        "select_by": "obeyed",
        "early_stopping_patience": 3,
    }
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    train(make_config(whole, **settings), observe=lambda: Script(3, 1))

    def interrupt(model: object, step: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    stopped = train(make_config(rest, **settings), validate=interrupt, observe=lambda: Script(3, 1))
    assert (stopped.exit_status, stopped.step) == (143, 2)
    (rest / "samples" / "step3").mkdir()
    (rest / "samples" / "step3.png").write_bytes(b"of a step that comes again")
    train(make_config(rest, resume="auto", **settings), observe=lambda: Script(1))
    one, other = state_of(whole), state_of(rest)
    assert [name for name in one if not equal(one[name], other[name])] == []
    assert one["patience"] == {"best": 0.75, "step": 2, "waited": 1}
    names = sorted(path.relative_to(whole) for path in (whole / "samples").rglob("*.png"))
    assert names == sorted(path.relative_to(rest) for path in (rest / "samples").rglob("*.png"))
    for name in names:
        assert (whole / name).read_bytes() == (rest / name).read_bytes(), name


@pytest.mark.parametrize("validated", [True, False])
def test_the_adapter_that_obeys_most_is_kept(
    make_config: MakeConfig, tmp_path: Path, graphs: Path, validated: bool
) -> None:
    changes: dict[str, Any] = (
        {} if validated else {"val_jsonl": None, "val_sigmas": 4, "losses": {"lambda_words": 0.0}}
    )
    config = make_config(
        tmp_path / "run",
        sample_graphs=graphs,
        judge="script",
        select_by="obeyed",
        max_steps=6,
        **changes,
    )
    result = train(config, observe=lambda: Script(1, 3, 2))
    best = AdapterWeights.load(tmp_path / "run" / "best_graph_lora_token.pt")
    assert (best.step, best.metrics["obeyed"], best.metrics["select_by"]) == (4, 0.75, "obeyed")
    assert ("loss" in best.metrics) == validated
    assert result.bundle is not None
    card = (result.bundle / "README.md").read_text()
    assert "The checkpoint was chosen by the share that holds, on these very pictures." in card
    # Other graphs would choose another adapter.
    graphs.write_text("man, riding, horse\n")
    with pytest.raises(SgfluxError, match="trained with another file of sample graphs"):
        train(make_config(tmp_path / "run", sample_graphs=graphs, judge="script", max_steps=8,
                          select_by="obeyed", resume="auto", **changes),
              observe=lambda: Script(1))  # fmt: skip


def test_other_graphs_may_be_drawn_when_a_run_goes_on(
    make_config: MakeConfig, tmp_path: Path, graphs: Path
) -> None:
    train(make_config(tmp_path / "run", sample_graphs=graphs))
    graphs.write_text("man, riding, horse\n")
    train(make_config(tmp_path / "run", sample_graphs=graphs, max_steps=6, resume="auto"))
    assert (tmp_path / "run" / "samples" / "step6" / "000.png").is_file()
    train(make_config(tmp_path / "run", max_steps=8, resume="auto"))
    assert not (tmp_path / "run" / "samples" / "step8").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("man riding horse", r"graphs\.txt:3: .*"),
        ("man, ridng, horse", r"graphs\.txt:3: unknown predicate 'ridng'; nearest known: 'riding'"),
        ('{"objects": ["man"], "relationships": []}', r"graphs\.txt:3 states no relation"),
        ('{"objects": ["man"], "relationships": [[0, "on", 1]]}', r"graphs\.txt:3: "),
    ],
)
def test_a_bad_line_is_named_before_anything_is_encoded(
    make_config: MakeConfig, tmp_path: Path, graphs: Path, line: str, message: str
) -> None:
    graphs.write_text(f"man, riding, horse\n\n{line}\ndog, above, ball\n")
    with pytest.raises(SgfluxError, match=message) as raised:
        train(make_config(tmp_path / "run", sample_graphs=graphs))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_the_command_names_a_bad_file_before_it_reads_the_data(
    tmp_path: Path, graphs: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--train-jsonl", str(scenes / "train.jsonl"), "--output-dir", str(tmp_path / "run")]
    graphs.write_text("man riding horse\n")
    assert main(["train", *flags, "--model-id", "tiny", "--sample-graphs", str(graphs)]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{graphs}:1: " in line
    assert not (tmp_path / "run").exists()


def test_the_bundled_world_has_its_judge_by_default(
    tmp_path: Path, graphs: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs.write_text("man, riding, horse\nman, riding, owl\n")
    flags = ["--train-jsonl", str(scenes / "train.jsonl"), "--output-dir", str(tmp_path / "run")]
    flags += ["--model-id", "tiny", "--sample-graphs", str(graphs), "--device", "cpu", "--dry-run"]
    assert main(["train", *flags]) == 0
    said = capsys.readouterr().out
    assert "2 sample graphs with 2 statements, of which the judge 'world' reads 1" in said
    assert f"{graphs}:2 is drawn but not judged: the world judge does not know" in said
    assert main(["train", *flags, "--judge", "none"]) == 0
    assert "2 sample graphs with 2 statements, which no judge reads" in capsys.readouterr().out


def test_words_of_the_training_data_may_be_used(
    make_config: MakeConfig, tmp_path: Path, scenes: Path, graphs: Path
) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    path = tmp_path / "data" / "train.jsonl"
    path.write_text(path.read_text().replace('"riding"', '"saddling"'))
    graphs.write_text("man, saddling, horse\n")
    train(make_config(tmp_path / "run", train_jsonl=path, sample_graphs=graphs, dry_run=True))


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (Script(0, knows=lambda _: False), "judge 'script' can judge none of the sample graphs"),
        (None, "judge 'script' was asked for, and the run was given none"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused_before_anything_is_encoded(
    make_config: MakeConfig, tmp_path: Path, graphs: Path, judge: Script | None, message: str
) -> None:
    config = make_config(tmp_path / "run", sample_graphs=graphs, judge="script")
    with pytest.raises(SgfluxError, match=message):
        train(config, observe=None if judge is None else lambda: judge)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "world"}, "judge .* has no effect without sample_graphs"),
        ({"detector": "a"}, "detector .* has no effect without sample_graphs"),
        ({"sample_graphs": "a", "sample_steps": 0}, "sample_graphs are drawn in sample_steps"),
        ({"select_by": "obeyed"}, "select_by 'obeyed' is the share .* give sample_graphs"),
        ({"select_by": "obeyed", "sample_graphs": "a", "judge": "none"}, "a judge other than"),
        ({"sample_graphs": "a", "val_jsonl": None, "select_by": "val_loss"}, "without val_jsonl"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(tmp_path / "run", **{"val_sigmas": 4, **changes})
