"""What a run says, where, and what is left of it after a resume.

If one of these failed, the log of a resumed run would have rows twice, or lack them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgflux.training.log.run_log import RunLog, drop_later_rows, duration


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train_row(step: int) -> dict[str, float]:
    return {"step": step, "loss": 1.5, "lr": 0.1, "steps_per_second": 2.0}


def test_messages_before_the_folder_is_in_use_are_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(silent=False)
    log.say("early")
    assert not list(tmp_path.iterdir())
    log.open(tmp_path, step=0, max_steps=4)
    log.train(train_row(2), max_steps=4)
    log.validation({"step": 2, "loss": 1.0, "by_sigma": [{"sigma": 0.5, "loss": None}]})
    log.close()
    lines = (tmp_path / "training.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "early",
        "step 2/4  loss 1.5000  lr 1.00e-01  2.00 steps/s  1 s left",
    ]
    assert capsys.readouterr().out.splitlines()[0] == "early"
    assert [row["kind"] for row in rows(tmp_path)] == ["train", "validation"]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_ranking_run_says_both_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(silent=False)
    log.open(tmp_path, step=0, max_steps=4)
    errors = {"error_positive": 1.25, "error_negative": 1.5}
    shown = {"error_positive": "e(g+)", "error_negative": "e(g-)"}
    log.train({**train_row(2), **errors}, max_steps=4, shown=shown)
    log.close()
    assert "loss 1.5000  e(g+) 1.2500  e(g-) 1.5000  lr" in capsys.readouterr().out


def test_rows_of_steps_that_come_again_are_dropped(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"ste')
    drop_later_rows(metrics, step=4)
    assert [row["step"] for row in rows(tmp_path)] == [2, 4]


def test_a_silent_log_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(silent=True)
    log.open(tmp_path, step=0, max_steps=4)
    log.say("hello")
    log.train(train_row(2), max_steps=4)
    log.validation({"step": 2, "loss": 1.0})
    log.close()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tensorboard_reads_the_scalars_and_forgets_what_comes_again(tmp_path: Path) -> None:
    """A resumed run says its later steps anew."""
    for start, loss in ((0, 1.0), (2, 5.0)):
        log = RunLog(silent=False)
        log.open(tmp_path, step=start, max_steps=4)
        for step in range(start + 1, 5 if start else 4):
            log.train({**train_row(step), "loss": loss}, max_steps=4)
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True)
    events.Reload()
    found = {entry.step: entry.value for entry in events.Scalars("train/loss")}
    assert found == {1: 1.0, 2: 1.0, 3: 5.0, 4: 5.0}


def test_the_time_that_is_left_has_the_validations_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(silent=False)
    log.train(train_row(2), max_steps=4, pauses=60.0)
    log.train(train_row(2), max_steps=4, pauses=60.0, may_end_early=True)
    plain, early = capsys.readouterr().out.splitlines()
    assert plain.endswith("steps/s  1 min 01 s left")
    assert early.endswith("steps/s  at most 1 min 01 s left")
