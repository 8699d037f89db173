"""The configuration files that come with the project are configurations.

If one of these failed, a configuration that the documentation names would not be accepted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sgflux.commands.train import parse_train_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
FILES = ["--train-jsonl", "train.jsonl", "--val-jsonl", "val.jsonl", "--output-dir", "run"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_read(path: Path) -> None:
    config = parse_train_config(["--config", str(path), *FILES])
    assert bool(config.losses.ranking.lambda_rel_rank) == (path.stem == "tiny_ranking")
    assert bool(config.losses.words.lambda_words) == (path.stem != "tiny_photos")
