"""The parts of the memory benchmark that need no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from flux_memory import MODES, SIZES, largest_batch  # noqa: E402


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 7, 8, 13, 256])
def test_the_largest_batch_is_found(largest: int) -> None:
    asked: list[int] = []

    def fits(batch: int) -> bool:
        asked.append(batch)
        return batch <= largest

    assert largest_batch(fits, limit=256) == largest
    assert len(asked) <= 17
    assert max(asked) <= 256


def test_it_estimates_every_mode_at_every_size() -> None:
    """And without a GPU it refuses to pretend."""
    script = ROOT / "benchmarks" / "flux_memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--dry-run"], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["mode"], row["size"]) for row in rows} == {
        (mode.name, size) for mode in MODES for size in SIZES
    }
    assert {"int8 checkpointed", "float8 checkpointed", "nf4"} <= {row["mode"] for row in rows}
    totals = {(row["mode"], row["size"]): row["total_gib"] for row in rows}
    for size in SIZES:
        order = ["plain", "checkpointed", "int8 checkpointed", "nf4 checkpointed"]
        assert totals["plain", size] > totals["checkpointed", size]
        own = [totals[mode, size] for mode in order]
        assert own == sorted(own, reverse=True)
