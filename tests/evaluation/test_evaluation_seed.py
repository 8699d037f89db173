"""The seed of an evaluation decides its negatives and its noise.

If one of these failed, two evaluations with one seed would not be comparable, or two seeds would
be the same evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.world.dataset import write_world


def lines_of(data: Path, out_dir: Path, *, seed: int) -> list[dict[str, Any]]:
    config = EvalConfig.from_flat(
        data=data, output_dir=out_dir, generator="oracle", arms=("negative_graph",), seed=seed
    )
    evaluate(config, show_progress=False, say=lambda line: None)
    return [json.loads(line) for line in (out_dir / "results.jsonl").read_text().split("\n")[:-1]]


def test_another_seed_draws_other_negatives_from_other_noise(tmp_path: Path) -> None:
    """With a seed that the items ignore, repeated evaluations would not be independent."""
    sizes = {"train_per_class": 0, "val_per_class": 0, "test_per_class": 1}
    write_world(tmp_path / "world", triples="2", **sizes)
    first, second = (
        lines_of(tmp_path / "world" / "test.jsonl", tmp_path / str(seed), seed=seed)
        for seed in (0, 1)
    )
    assert [line["row"] for line in first] == [line["row"] for line in second]
    assert all(a["seed"] != b["seed"] for a, b in zip(first, second, strict=True))
    changed = sum(a["graph"] != b["graph"] for a, b in zip(first, second, strict=True))
    assert changed > 0
