"""The terms of the loss within a run: which examples and noise levels they look at.

If one of these failed, a term would look at other examples or noise levels than the flow-matching
loss beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from sgflux.settings.losses import LossSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.objective import FlowMatchingObjective
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig


def test_an_example_without_its_graph_is_not_ranked(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """Its branch saw no graph, so that it has nothing to prefer."""
    config = make_config(
        tmp_path / "run",
        losses=LossSettings.from_flat(lambda_rel_rank=0.1, lambda_words=0),
        null_graph_probability=0.999,
    )
    train(config)
    lines = map(json.loads, (config.run.output_dir / "metrics.jsonl").read_text().split("\n")[:-1])
    pairs = [row["rank_pairs"] for row in lines if row["kind"] == "train"]
    assert pairs == [0.0] * 4


def test_the_anchor_looks_at_all_noise_levels_of_sampling(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held at one level only, the others would be free to wear down."""
    levels: set[float] = set()
    original = FlowMatchingObjective.anchor_errors

    def noting(self: FlowMatchingObjective, batch: Batch, sigma: Tensor) -> Any:
        levels.update(sigma.tolist())
        return original(self, batch, sigma)

    monkeypatch.setattr(FlowMatchingObjective, "anchor_errors", noting)
    losses = LossSettings.from_flat(lambda_words=0, lambda_anchor=0.5)
    train(make_config(tmp_path / "run", losses=losses, batch_size=6, max_steps=4))
    assert len(levels) == 4
