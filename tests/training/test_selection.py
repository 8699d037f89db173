"""The best adapter is the one that was asked for, and a run ends when its figure stays where it is.

If one of these failed, another adapter than the best would be kept, or a run would be ended too
early, too late, or elsewhere than the same run without an interruption.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sgflux.settings.validation import SelectBy, ValidationSettings
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState
from sgflux.training.run.train import train
from sgflux.training.selection import Patience, is_better
from tests.helpers.training import MakeConfig, equal

STUCK: dict[str, Any] = {
    "select_by": "val_loss",
    "early_stopping_patience": 2,
    "early_stopping_min_delta": 100.0,  # nothing is better than the first validation
    "val_every": 1,
    "save_every": 1,
    "max_steps": 9,
    "log_every": 2,
}


def row(loss: float, accuracy: float) -> dict[str, float]:
    return {"loss": loss, "ranking_accuracy": accuracy}


def test_better_means_what_was_asked_for() -> None:
    best = row(1.0, 0.6)
    assert is_better(row(0.9, 0.5), best, by="val_loss")
    assert not is_better(row(1.0, 0.9), best, by="val_loss")
    assert is_better(row(2.0, 0.7), best, by="ranking_accuracy")
    assert is_better(row(0.9, 0.6), best, by="ranking_accuracy")
    assert not is_better(row(1.0, 0.6), best, by="ranking_accuracy")
    assert is_better(row(9.0, 0.1), best, by="last")


def ends_after(by: SelectBy, values: list[float], **settings: Any) -> int | None:
    """The number of validations after which a run with these figures ends; None: it does not."""
    patience = Patience(ValidationSettings(select_by=by, **settings), by=by)
    name = "loss" if by == "val_loss" else "ranking_accuracy"
    for number, value in enumerate(values, start=1):
        patience.see({name: value}, step=number)
        if patience.is_over:
            return number
    return None


@pytest.mark.parametrize(
    ("by", "values", "settings", "expected"),
    [
        ("val_loss", [3, 2, 1, 1, 2], {"early_stopping_patience": 2}, 5),
        ("val_loss", [3, 2, 3, 1, 2], {"early_stopping_patience": 2}, None),
        ("ranking_accuracy", [0.5, 0.6, 0.6, 0.5], {"early_stopping_patience": 2}, 4),
        ("ranking_accuracy", [0.5, 0.6, 0.7, 0.8], {"early_stopping_patience": 1}, None),
        # Small steps add up: each is compared with the last figure that was better.
        (
            "val_loss",
            [1.0, 0.95, 0.85, 0.8],
            {"early_stopping_patience": 2, "early_stopping_min_delta": 0.1},
            None,
        ),
        (
            "val_loss",
            [1.0, 0.95, 0.92],
            {"early_stopping_patience": 2, "early_stopping_min_delta": 0.1},
            3,
        ),
        ("val_loss", [1, 2, 3, 4, 5], {}, None),
    ],
)
def test_a_run_ends_after_so_many_validations_without_a_better_figure(
    by: SelectBy, values: list[float], settings: dict[str, Any], expected: int | None
) -> None:
    assert ends_after(by, values, **settings) == expected


def test_a_run_that_ends_early_says_why_and_leaves_a_whole_bundle(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    result = train(make_config(tmp_path / "run", **STUCK))
    assert (result.exit_status, result.step) == (0, 3)
    assert result.bundle is not None
    assert (result.bundle / "sgflux_adapter.json").is_file()
    log = (result.output_dir / "training.log").read_text()
    assert "the run ends early, after step 3: the validation loss has not fallen by" in log
    assert "(--early-stopping-patience 2)" in log
    steps = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").open()]
    assert [one["step"] for one in steps if one["kind"] == "train"] == [2, 3]
    assert AdapterWeights.load(result.output_dir / "final_graph_lora_token.pt").step == 3
    again = train(make_config(tmp_path / "run", resume="auto", **STUCK))
    assert (again.exit_status, again.step) == (0, 3)
    longer = {**STUCK, "early_stopping_patience": 4}
    assert train(make_config(tmp_path / "run", resume="auto", **longer)).step == 5


@pytest.mark.parametrize("at", [1, 2])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    make_config: MakeConfig, tmp_path: Path, at: int
) -> None:
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    train(make_config(whole, **STUCK))
    rest.mkdir()
    shutil.copy(whole / f"step{at}.pt", rest)
    assert train(make_config(rest, resume="auto", **STUCK)).step == 3
    states = [TrainingState.load(folder / "step3.pt") for folder in (whole, rest)]
    assert states[0].patience == states[1].patience
    assert equal(states[0].trainable, states[1].trainable)
