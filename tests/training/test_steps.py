"""What one optimizer step learns from: its own examples, noise and share of the gradient.

If one of these failed, two devices would learn from one noise, or accumulated gradients would be
summed instead of averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.models.adapter import GraphLoraModel
from sgflux.settings.losses import LossSettings
from sgflux.training.checkpoints.checkpoint import TrainingState
from sgflux.training.processes.processes import Processes
from sgflux.training.run.train import train
from tests.helpers.training import Drawn, MakeConfig, TwoInOne, training_rows

NO_VALIDATION: dict[str, Any] = {"val_jsonl": None, "val_every": 250, "val_sigmas": 4}


def test_an_epoch_shows_every_example_once_and_each_step_its_own_noise(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn()
    monkeypatch.setattr("sgflux.training.steps.draw_batch", drawn)
    train(make_config(tmp_path / "run", max_steps=6, batch_size=1, gradient_accumulation_steps=2))
    assert len(drawn.rows) == 12
    for epoch in (drawn.rows[:6], drawn.rows[6:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(6))
    assert len(set(drawn.seeds)) == 12


def test_processes_draw_different_examples_and_different_noise(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices that learn from one noise would do the work of one."""
    drawn = {}
    for index in (0, 1):
        recorder = drawn[index] = Drawn()
        monkeypatch.setattr("sgflux.training.steps.draw_batch", recorder)
        # One of two processes by itself: what it draws depends on its index alone.
        alone = TwoInOne(index=index, count=2, device=torch.device("cpu"))
        monkeypatch.setattr(Processes, "start", classmethod(lambda cls, device, p=alone: p))
        train(make_config(tmp_path / str(index), batch_size=1, **NO_VALIDATION))
    assert len(drawn[0].rows) == len(drawn[1].rows) == 4
    shown = [row for pair in zip(drawn[0].rows, drawn[1].rows, strict=True) for row in pair]
    assert sorted(row for rows in shown[:6] for row in rows) == list(range(6))
    assert not set(drawn[0].seeds) & set(drawn[1].seeds)


def test_accumulated_passes_are_averaged(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the same batch is once that batch: a sum would double loss, gradient and clipping."""
    first: dict[int, dict[str, Any]] = {}
    for parts in (1, 2):
        monkeypatch.setattr("sgflux.training.steps.draw_batch", Drawn(repeat=True))
        config = make_config(
            tmp_path / str(parts),
            max_steps=1,
            gradient_accumulation_steps=parts,
            **NO_VALIDATION,
            losses=LossSettings.from_flat(lambda_words=0),
        )
        train(config)
        (first[parts],) = training_rows(config.run.output_dir)
    assert first[2]["loss"] == pytest.approx(first[1]["loss"], rel=1e-5)
    assert first[2]["grad_norm"] == pytest.approx(first[1]["grad_norm"], rel=1e-4)


def test_a_gradient_is_clipped_before_the_optimizer_sees_it(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """AdamW's first moment after one step is a tenth of the gradient that it was given."""
    config = make_config(tmp_path / "run", max_steps=1, max_grad_norm=1e-3, save_every=1)
    train(config)
    state = TrainingState.load(config.run.output_dir / "step1.pt").optimizer["state"]
    moments = torch.cat([entry["exp_avg"].flatten() for entry in state.values()])
    assert float(moments.norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_validation_looks_at_the_averaged_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    """It chooses among the weights that the bundle will hold."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def note(model: GraphLoraModel, step: int) -> dict[str, float]:
        weights = model.trainable_parameters().items()
        seen[step] = {name: weight.detach().clone() for name, weight in weights}
        return {}

    config = make_config(tmp_path / "run", ema_decay=0.9)
    train(config, validate=note)
    state = TrainingState.load(config.run.output_dir / "step2.pt")
    assert state.ema is not None
    for name, average in state.ema.items():
        assert torch.equal(seen[2][name], average), name
    assert any(not torch.equal(seen[2][name], raw) for name, raw in state.trainable.items())
