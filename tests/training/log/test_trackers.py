"""Trackers get what TensorBoard gets, or the run says what is missing before it loads anything.

If one of these failed, a curve would be missing or have another name elsewhere, or a run would fail
hours after its start for want of a package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.settings.checks import ConfigError
from sgflux.settings.run import TRACKER_NAMES, RunSettings
from sgflux.training.log.trackers import TRACKERS, Kind
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig


class Kept(GeneralTracker):
    """One of accelerate's trackers that keeps what it is told."""

    name = "kept"
    requires_logging_directory = False
    tracker = None

    def __init__(self, project: str, run: str, *, breaks: bool = False) -> None:
        super().__init__()
        self.names, self.breaks = (project, run), breaks
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int | None, dict[str, Any]]] = []
        self.state = "made"

    def start(self) -> None:
        self.state = "started"

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        if self.breaks:
            raise ConnectionError("no route to host")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.state = "finished"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """The trackers that are made in the place of wandb's."""
    made: list[Kept] = []

    def make(project: str, run: str) -> Kept:
        made.append(Kept(project, run))
        return made[-1]

    monkeypatch.setitem(TRACKERS, "wandb", Kind("json", make))
    return made


def test_a_tracker_gets_the_numbers_of_tensorboard_under_the_same_names(
    make_config: MakeConfig, tmp_path: Path, kept: list[Kept]
) -> None:
    config = make_config(tmp_path / "run", log_with="tensorboard,wandb", tracker_project="mine")
    train(config)
    (tracker,) = kept
    assert (tracker.names, tracker.state) == (("mine", "run"), "finished")
    assert tracker.settings["lora_rank"] == 2
    assert tracker.settings["losses.lambda_words"] == config.losses.words.lambda_words
    assert all(value is None or type(value) in (int, float, str, bool)
               for value in tracker.settings.values())  # fmt: skip
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    found = {
        (name, event.step): event.value
        for name in board.Tags()["scalars"]
        for event in board.Scalars(name)
    }
    told = {(name, step): value for step, row in tracker.logged for name, value in row.items()}
    assert told == pytest.approx(found)
    assert {"train/loss", "validation/ranking_accuracy"} <= {name for name, _ in told}


def test_without_tensorboard_there_is_no_event_file(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    train(make_config(tmp_path / "run", log_with="none", max_steps=1, sample_steps=0))
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size


def test_a_package_that_is_not_installed_is_named_before_anything_is_loaded(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", Kind("no_such_package", Kept))
    config = make_config(tmp_path / "run")
    flags = ["--train-jsonl", str(config.data.train_jsonl), "--output-dir", str(tmp_path / "run")]
    status = main(["train", *flags, "--model-id", "tiny", "--log-with", "mlflow"])
    assert status
    (line,) = capsys.readouterr().err.splitlines()
    assert "'mlflow' needs a package that is not installed: pip install no_such_package" in line
    assert not (tmp_path / "run").exists()
    with pytest.raises(SgfluxError, match="pip install no_such_package"):
        train(make_config(tmp_path / "run", log_with="mlflow"))


def test_a_tracker_that_fails_is_named(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Kind("json", lambda project, run: Kept(project, run, breaks=True))
    monkeypatch.setitem(TRACKERS, "wandb", broken)
    with pytest.raises(SgfluxError, match="log_with: kept failed: no route to host; leave it out"):
        train(make_config(tmp_path / "run", log_with="wandb"))


@pytest.mark.parametrize("names", ["", "tensorboard,", "wandb,wandb", "wanb", "none,wandb"])
def test_names_that_mean_no_tracker_are_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="log_with must be"):
        RunSettings(output_dir=Path("run"), log_with=names)


def test_every_tracker_of_the_settings_can_be_made() -> None:
    """A name that the table lacks would be accepted, and get nothing."""
    assert {"tensorboard", *TRACKERS} == set(TRACKER_NAMES)
    with pytest.raises(ConfigError, match=r"tracker_project .* has no effect"):
        RunSettings(output_dir=Path("run"), tracker_project="mine")


def test_the_metrics_do_not_depend_on_the_trackers(
    make_config: MakeConfig, tmp_path: Path, kept: list[Kept]
) -> None:
    losses = []
    for name, trackers in (("plain", "none"), ("told", "wandb")):
        train(make_config(tmp_path / name, log_with=trackers, sample_steps=0))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
