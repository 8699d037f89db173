"""The peak of memory that a run logs.

If one of these failed, the table of a run would show the memory of another card, or of the text
encoders, which training does not keep.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgflux.training.log.peak_memory import PeakMemory
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig, training_rows


def test_it_is_of_the_device_that_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device | None] = []

    def peak(device: torch.device | None = None) -> int:
        asked.append(device)
        return 3 * 2**29

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    second = torch.device("cuda", 1)
    memory = PeakMemory(second)
    memory.begin()
    assert memory.figures() == {"peak_memory_gib": 1.5}
    assert asked == [second, second]
    other = PeakMemory(torch.device("cpu"))
    other.begin()
    assert other.figures() == {}
    assert len(asked) == 2


def test_a_run_forgets_what_came_before_its_first_step(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.setattr(PeakMemory, "begin", lambda memory: done.append(memory.device.type))
    monkeypatch.setattr(PeakMemory, "figures", lambda memory: {"peak_memory_gib": float(len(done))})
    train(make_config(tmp_path / "run", max_steps=2, val_every=0, save_every=0))
    assert done == ["cpu"]
    assert [row["peak_memory_gib"] for row in training_rows(tmp_path / "run")] == [1.0, 1.0]
