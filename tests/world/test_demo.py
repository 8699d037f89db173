"""The demo: every stage once, nothing twice, and never over something else.

If one of these failed, the demo would repeat or skip a stage, or overwrite somebody's folder.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sgflux.bases.name import BaseName
from sgflux.cli import main
from sgflux.data.examples import read_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.records import RESULTS
from sgflux.models import bundle_folder
from sgflux.models.bundle import recommend_drawing
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.settings.training import TrainConfig
from sgflux.training.run.train import TrainResult, train_by_settings
from sgflux.world.dataset import write_world
from sgflux.world.demo import DEMO, FULL, Preset, choose_preset, controlled, run_demo
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder

CONTROL, FULL_CONTROL = controlled(DEMO), controlled(FULL)
PRESETS = (DEMO, FULL, CONTROL, FULL_CONTROL)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_presets_are_settings_that_exist(preset: Preset) -> None:
    TrainConfig.from_flat(
        train_jsonl="a", val_jsonl="b", output_dir="c", resume="auto", **preset.training
    )
    EvalConfig.from_flat(
        data=Path("a"), output_dir=Path("b"), adapter=Path("c"), **preset.evaluation
    )
    if preset.second_training is not None:
        TrainConfig.from_flat(
            train_jsonl="a",
            val_jsonl="b",
            output_dir="c",
            resume="auto",
            init_from="d",
            **{**preset.training, **preset.second_training},
        )
    if preset.hard is not None:
        EvalConfig.from_flat(
            data=Path("a"), output_dir=Path("b"), adapter=Path("c"), **preset.hard["evaluation"]
        )


def test_a_folder_of_the_bundled_adapters_name_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first stage is a failure here, so that a late refusal does not train for minutes."""
    monkeypatch.setattr("sgflux.world.demo.write_world", lambda *_, **__: pytest.fail("too late"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sgflux_adapter.json").write_text("{}")
    with pytest.raises(SgfluxError, match="the adapter 'tiny' is the one that comes with sgflux"):
        run_demo(DEMO, out_dir=tmp_path / "demo")
    assert not (tmp_path / "demo" / "data").exists()


def test_the_control_differs_by_its_text_alone() -> None:
    assert {**CONTROL.training, "prompt_mix": None} == {**DEMO.training, "prompt_mix": None}
    again, control = FULL.second_training, FULL_CONTROL.second_training
    assert {**again, "prompt_mix": None} == {**control, "prompt_mix": None}
    assert control["prompt_mix"] == CONTROL.training["prompt_mix"]
    assert (CONTROL.world, CONTROL.evaluation) == (DEMO.world, DEMO.evaluation)
    mix = TrainConfig.from_flat(
        train_jsonl="a", val_jsonl="b", output_dir="c", **CONTROL.training
    ).conditions.prompt_mix
    assert mix.kinds() == ("relational",)


def test_the_short_demo_alone_draws_hard_graphs_with_the_bundled_adapter() -> None:
    """The bundled adapter is no control, and its figures below a control's would say that it is.
    The longer demo trains on such graphs itself."""
    assert [preset.name for preset in PRESETS if preset.hard is not None] == ["demo"]


def test_hard_graphs_are_of_three_statements_with_and_without_twins(tmp_path: Path) -> None:
    assert DEMO.hard is not None
    write_world(tmp_path / "world", **DEMO.hard["world"])
    graphs = [row.graph for row in read_examples(tmp_path / "world" / "test.jsonl")]
    assert {len(graph.relationships) for graph in graphs} == {3}
    with_twins = sum(graph.labels() != graph.objects for graph in graphs)
    assert 15 <= with_twins <= len(graphs) - 15, "each row of the table needs its pictures"


def test_flags_choose_among_four_different_presets() -> None:
    chosen = [choose_preset(full=f, control=c) for f in (False, True) for c in (False, True)]
    assert chosen == [DEMO, CONTROL, FULL, FULL_CONTROL]
    assert len({preset.name for preset in chosen}) == 4
    assert len({preset.recipe for preset in chosen}) == 4


def test_every_demo_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {}

    def note(preset: Preset, *, out_dir: Path) -> int:
        folders[preset.name] = out_dir.as_posix()
        return 0

    monkeypatch.setattr("sgflux.world.demo.run_demo", note)
    for flags in ([], ["--control"], ["--full"], ["--full", "--control", "--output-dir", "here"]):
        assert main(["demo", *flags]) == 0
    assert folders == {
        "demo": "runs/demo",
        "demo-control": "runs/demo-control",
        "full": "runs/full",
        "full-control": "here",
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    folder = tmp_path_factory.mktemp("flux") / "model"
    model = str(make_flux_folder(folder, num_layers=3, num_single_layers=1))
    size = {"model_id": model, "height": 16, "width": 16, "device": "cpu"}
    return Preset(
        name="small",
        purpose="A test.",
        world={"train_per_class": 1, "val_per_class": 1, "test_per_class": 1},
        training={**size, "dtype": "fp32", "max_steps": 2, "val_every": 1, "lora_rank": 2},
        evaluation={
            **size,
            "judge": "none",
            "items": 2,
            "steps": 1,
            "ranking_sigmas": 1,
            "arms": ("base_neutral", "null_graph", "graph", "negative_graph"),
        },
    )


def run(preset: Preset, out_dir: Path) -> str:
    screen = io.StringIO()
    assert run_demo(preset, out_dir=out_dir, console=Console(file=screen, width=200)) == 0
    return screen.getvalue()


def test_a_demo_ends_in_a_report_and_a_second_call_only_shows_it(
    tmp_path: Path, small: Preset
) -> None:
    out = tmp_path / "[/demo] :smile:"  # rich would take these words for its own
    first = run(small, out)
    assert first.count("done in") == 3
    assert "Ranking accuracy" in first
    report = out / "evaluation" / "report.html"
    assert str(report) in first
    page = report.read_text()
    assert "About this run" in page
    assert small.purpose in page
    assert json.loads((out / "demo.json").read_text())["preset"] == "small"

    before = (out / "training" / "final" / "sgflux_adapter.json").stat().st_mtime_ns
    second = run(small, out)
    assert second.count("there already") == 3
    assert (out / "training" / "final" / "sgflux_adapter.json").stat().st_mtime_ns == before

    # Interrupted after the training: what was finished is kept.
    record = json.loads((out / "demo.json").read_text())
    del record["seconds"]["evaluation"]
    (out / "demo.json").write_text(json.dumps(record))
    third = run(small, out)
    assert third.count("there already") == 2
    assert third.count("done in") == 1

    other = dataclasses.replace(small, name="other")
    with pytest.raises(SgfluxError, match=r"holds the demo 'small', not 'other'"):
        run(other, out)
    changed = dataclasses.replace(small, world={**small.world, "seed": 1})
    with pytest.raises(SgfluxError, match="another version or recipe"):
        run(changed, out)


def test_a_second_training_starts_from_the_first_ones_adapter_and_is_evaluated(
    tmp_path: Path, small: Preset
) -> None:
    twice = dataclasses.replace(small, second_training={"max_steps": 1, "lr": 1e-3})
    out = tmp_path / "demo"
    assert run(twice, out).count("done in") == 4
    with (out / "second_training" / "config.json").open() as file:
        config = json.load(file)
    assert config["init_from"] == str(out / "training" / "final")
    assert (config["max_steps"], config["lr"]) == (1, 1e-3)
    assert config["lora_rank"] == small.training["lora_rank"]
    results = json.loads((out / "evaluation" / RESULTS).read_text())
    assert results["settings"]["adapter"] == str(out / "second_training" / "final")
    report = (out / "evaluation" / "report.html").read_text()
    assert "second_training" in report
    assert dataclasses.replace(twice, second_training=None).recipe != twice.recipe


def test_the_bundled_adapter_draws_hard_graphs_at_the_end(
    tmp_path: Path, small: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = write_adapter(tmp_path / "bundled", "tiny", strength=0.1, named=BaseName.of("tiny"))
    recommend_drawing(bundled, RecommendedDrawing(steps=2))
    monkeypatch.setattr(bundle_folder, "_BUNDLED_FOLDER", bundled)
    few = {"train_per_class": 0, "val_per_class": 0, "test_per_class": 1, "triples": 3}
    arms = ("base_relational", "graph")
    evaluation = {"items": 2, "arms": arms, "ranking_sigmas": 0, "device": "cpu"}
    hard = {"world": {**few, "twins": 1.0}, "evaluation": evaluation}
    out = tmp_path / "demo"
    screen = run(dataclasses.replace(small, hard=hard), out)
    assert screen.count("done in") == 4
    assert "4/4" in screen
    results = json.loads((out / "hard" / "evaluation_results.json").read_text())
    assert (results["adapter"]["path"], results["settings"]["steps"]) == ("tiny", 2)
    page = (out / "evaluation" / "report.html").read_text()
    assert 'href="../hard/report.html"' in page
    assert (out / "hard" / "report.html").is_file()
    for arm in ("Base, relational text", "Adapter, true graph g⁺"):
        assert f"3 statements, twins: {arm}" in screen
        assert f"3 statements, twins: {arm}" in page
    again = run(dataclasses.replace(small, hard=hard), out)
    assert again.count("there already") == 4
    assert "3 statements, twins: Adapter" in again


def test_training_selection_and_reporting_have_files_of_their_own(
    tmp_path: Path, small: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo that selects on the pictures that it reports would flatter itself."""
    used: dict[str, str | None] = {}

    def note_training(**settings: Any) -> TrainResult:
        used["trained on"] = settings["train_jsonl"].name
        used["selected on"] = settings["val_jsonl"].name
        return train_by_settings(**settings)

    def note_evaluation(config: EvalConfig, **settings: Any) -> Any:
        used["reported on"] = config.data.name
        return evaluate(config, **settings)

    monkeypatch.setattr("sgflux.world.demo.train_by_settings", note_training)
    monkeypatch.setattr("sgflux.world.demo.evaluate", note_evaluation)
    run(small, tmp_path / "demo")
    assert used == {
        "trained on": "train.jsonl",
        "selected on": "validation.jsonl",
        "reported on": "test.jsonl",
    }


def test_a_folder_in_use_is_left_alone(tmp_path: Path, small: Preset) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SgfluxError, match="is in use and holds no demo; give another --output-dir"):
        run(small, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "record",
    [
        "{",
        '{"preset": "small", "recipe": "RECIPE"}',
        '{"preset": "small", "recipe": "RECIPE", "seconds": {"data": "1"}}',
        '{"preset": "small", "recipe": "RECIPE", "seconds": {"data": -1}}',
        '{"preset": "small", "recipe": "RECIPE", "seconds": {"date": 1}}',
        '{"preset": ["small"], "recipe": 1, "seconds": {}}',
        "[]",
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, small: Preset, record: str) -> None:
    (tmp_path / "demo.json").write_text(record.replace("RECIPE", small.recipe))
    with pytest.raises(SgfluxError, match=r"demo\.json: is damaged"):
        run(small, tmp_path)
