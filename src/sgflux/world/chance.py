"""What drawing at random gets right: measured once on the bundled world, read wherever it is shown.

A predicate guessed among 24 would be right in one case of 24. A picture is no guess among 24: it
has a direction, the judge may read no relation in it, and its objects may be hidden. So chance is
what the evaluation's blind generator reaches (``benchmarks/chance.py``), which is less.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHANCE_FILE = Path(__file__).parent.parent / "assets" / "world_chance.json"
"""The measurement, by the bundled judge."""


def random_drawing(judge: str) -> dict[str, Any] | None:
    """Read the relation accuracy of pictures drawn at random: value, ci95, n.

    Returns:
        None for a judge with whom it has not been measured.
    """
    found = json.loads(CHANCE_FILE.read_text(encoding="utf-8"))
    return dict(found["relation_accuracy"]) if found["judge"] == judge else None
