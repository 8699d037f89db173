"""Measure the accuracy of random drawing on the bundled world, which reports print as chance.

    python benchmarks/chance.py        (a few minutes on one core)

The evaluation's blind generator draws the objects of a prompt in random relations, and the bundled
judge reads the pictures. Each of the 24 predicates is drawn equally often, in either direction, and
the judge may find no relation, so that the accuracy is below 1/24. The script writes a world of its
own.

Writes ``src/sgflux/assets/world_chance.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from result_files import write_json

from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.world.chance import CHANCE_FILE
from sgflux.world.dataset import write_world

WORLD_SEED = 20261130
"""Of a world that nothing else uses."""
PER_PREDICATE = 200
ARM = "base_neutral"


def measure(folder: Path, *, per_predicate: int = PER_PREDICATE) -> dict[str, Any]:
    """Draw and judge; returns the content of :data:`CHANCE_FILE`.

    Args:
        folder: New or empty folder for the world and the pictures.
        per_predicate: Number of test items of each predicate; half of them have two statements.
    """
    write_world(
        folder / "world",
        train_per_class=0,
        val_per_class=0,
        test_per_class=per_predicate,
        triples="1,2",
        seed=WORLD_SEED,
    )
    config = EvalConfig.from_flat(
        data=folder / "world" / "test.jsonl",
        output_dir=folder / "evaluation",
        generator="blind",
        arms=(ARM,),
    )
    results = evaluate(config, show_progress=False)
    arm = results["arms"][ARM]
    relation = {
        name: entry for name, entry in arm["relation_accuracy"].items() if name != "per_predicate"
    }
    return {
        "command": "python benchmarks/chance.py",
        "generator": "blind",
        "judge": results["judge"]["name"],
        "world_seed": WORLD_SEED,
        "pictures": arm["pictures"],
        "relation_accuracy": {"value": relation.pop("macro"), **relation},
        "all_triples_right": arm["all_triples_right"],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=CHANCE_FILE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    write_json(given.out, found)
    print(found["relation_accuracy"], found["all_triples_right"])


if __name__ == "__main__":
    main()
