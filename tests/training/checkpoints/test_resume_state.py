"""What a resumed run remembers beside its weights: nothing is measured twice, nothing forgotten.

If one of these failed, a resumed run would validate twice, forget its best adapter, or draw other
random numbers than an uninterrupted one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig, equal


def validated_steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    return [row["step"] for row in map(json.loads, lines) if row["kind"] == "validation"]


def resumed_elsewhere(
    make_config: MakeConfig, tmp_path: Path, *, at: int, **changes: Any
) -> tuple[Path, Path]:
    """A whole run, and one that goes on in a folder of its own from the whole one's step ``at``."""
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    train(make_config(whole, **changes))
    rest.mkdir()
    shutil.copy(whole / f"step{at}.pt", rest)
    train(make_config(rest, resume="auto", **changes))
    return whole, rest


def test_a_step_that_was_validated_is_not_validated_again(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    whole, rest = resumed_elsewhere(make_config, tmp_path, at=2)
    assert validated_steps(whole) == [2, 4]
    assert validated_steps(rest) == [4]


def test_the_best_adapter_is_remembered(make_config: MakeConfig, tmp_path: Path) -> None:
    """A run that forgets it ends with a worse adapter than it had."""
    whole, rest = resumed_elsewhere(
        make_config, tmp_path, at=2, select_by="val_loss", lr=100.0, val_every=1
    )
    best = [AdapterWeights.load(folder / "best_graph_lora_token.pt") for folder in (whole, rest)]
    assert best[0].step <= 2, "else the resumed part finds the same one by itself"
    assert best[1].step == best[0].step
    assert equal(best[0].trainable, best[1].trainable)
    states = [TrainingState.load(folder / "step4.pt") for folder in (whole, rest)]
    assert equal(states[0].best, states[1].best)


def test_the_figures_of_the_last_validation_are_remembered(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """A run that is killed after its last step still writes them."""
    whole, rest = resumed_elsewhere(make_config, tmp_path, at=4)
    last, again = (
        AdapterWeights.load(folder / "final_graph_lora_token.pt") for folder in (whole, rest)
    )
    assert last.metrics["ranking_n"] > 0
    assert again.metrics == last.metrics


def test_what_the_model_confuses_is_remembered(make_config: MakeConfig, tmp_path: Path) -> None:
    """A run that forgets it draws other hard negatives until it has measured again."""
    losses = LossSettings.from_flat(
        lambda_rel_rank=0.5,
        negatives=NegativeMix(role_swap=0.0, predicate=0.0, hard_predicate=1.0),
        hard_negatives_every=2,
    )
    # Measured before step 3, saved after it, and due again only after the last step.
    whole, rest = resumed_elsewhere(make_config, tmp_path, at=3, losses=losses, save_every=1)
    states = [TrainingState.load(folder / "step4.pt") for folder in (whole, rest)]
    assert states[0].confusion is not None
    assert states[0].confusion["step"] == 2
    assert equal(states[0].confusion, states[1].confusion)
    assert equal(states[0].trainable, states[1].trainable)


def test_torchs_own_generator_goes_on_where_it_was(make_config: MakeConfig, tmp_path: Path) -> None:
    """Nothing of sgflux draws from it, but a layer of somebody's encoder may."""
    folder = tmp_path / "run"
    train(make_config(folder, max_steps=2))
    state = TrainingState.load(folder / "step2.pt")
    elsewhere = torch.Generator().manual_seed(99).get_state()
    assert not torch.equal(state.rng, elsewhere)
    replace(state, rng=elsewhere).save(folder / "step2.pt")
    train(make_config(folder, max_steps=2, resume="auto", sample_steps=0))
    assert torch.equal(torch.get_rng_state(), elsewhere)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_optimizer_and_the_average_go_on_where_they_were(
    make_config: MakeConfig, tmp_path: Path, decay: float
) -> None:
    whole, rest = resumed_elsewhere(make_config, tmp_path, at=2, ema_decay=decay)
    states = [TrainingState.load(folder / "step4.pt") for folder in (whole, rest)]
    for part in ("trainable", "ema", "optimizer"):
        assert equal(getattr(states[0], part), getattr(states[1], part)), part
