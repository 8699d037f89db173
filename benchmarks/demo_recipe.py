"""Compare the demo's recipe with its former one, which drew at graph scale 1.5: paired, 3 seeds.

    python benchmarks/demo_recipe.py --folder runs/demo_recipe      (about an hour on one core)

Both recipes train on the demo's training pictures with three seeds of training. Their adapters draw
the same 480 test items of each of two worlds that nothing else uses, from the same noises. A
difference is the demo's figure minus the former one's, over the pictures of all seeds; its interval
is over items, so the pictures that one item has under three adapters are one cluster. What is there
already is kept, so the script goes on where it was stopped.

Writes ``benchmarks/results/demo_recipe.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from measuring import ROOT, machine
from result_files import write_json

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.drawing import JudgedPicture
from sgflux.evaluation.evaluator import evaluate
from sgflux.evaluation.metrics import Rows, macro_estimate, mean_estimate
from sgflux.evaluation.records import PICTURE_RESULTS, RESULTS, read_lines
from sgflux.evaluation.report.data import read_results
from sgflux.evaluation.scoring import all_right_rows, relation_rows, wins
from sgflux.evaluation.statistics import compare
from sgflux.settings.evaluation import EvalConfig
from sgflux.training.run.train import train_by_settings
from sgflux.world.dataset import write_world
from sgflux.world.demo import DEMO

WORLD_SEEDS = (20261141, 20261142)
"""Seeds of the worlds of the test items, which nothing else uses. The second one was added because
the first left the interval of two statements wider than two points to either side."""
SEEDS = (0, 1, 2)
FORMER: dict[str, Any] = {**DEMO.training, "max_steps": 700, "t_min": 0.2, "losses": {}}
RECIPES: Mapping[str, tuple[Mapping[str, Any], float]] = {
    "former": (FORMER, 1.5),
    "demo": (DEMO.training, DEMO.evaluation.get("graph_scale", 1.0)),
}
"""Name -> settings of the training, and graph scale with which its adapters draw."""

Judged = Mapping[Arm, list[JudgedPicture]]
FIGURES: Mapping[str, Callable[[Judged], Rows]] = {
    "relation accuracy": lambda judged: relation_rows(judged[Arm.GRAPH]),
    "both of two statements": lambda judged: all_right_rows(judged[Arm.GRAPH])[2],
    "win rate": lambda judged: [
        ((one + two) / 2, group, cluster) for one, two, group, cluster in wins(judged)["role_swap"]
    ],
}


def make_worlds(folder: Path) -> None:
    """Write the demo's pictures, and the test items."""
    if not (folder / "data").exists():
        write_world(folder / "data", progress=False, **DEMO.world)
    counts = {"train_per_class": 1, "val_per_class": 1, "test_per_class": 20}
    for seed in WORLD_SEEDS:
        if not (folder / f"test{seed}").exists():
            own = {**counts, "hold_out_combinations": 0, "seed": seed}
            write_world(folder / f"test{seed}", progress=False, **{**DEMO.world, **own})


def train(folder: Path, recipe: str, seed: int) -> float:
    """Train one adapter, if that was not done; returns its CPU time in seconds."""
    settings, own = RECIPES[recipe][0], folder / f"{recipe}-{seed}"
    spent = own / "seconds.json"
    if not spent.is_file():
        steps, started = settings["max_steps"], time.process_time()
        train_by_settings(
            train_jsonl=folder / "data" / "train.jsonl",
            val_jsonl=folder / "data" / "validation.jsonl",
            output_dir=own / "training",
            **{**settings, "seed": seed, "val_every": steps, "save_every": steps},
        )
        write_json(spent, {"cpu": time.process_time() - started})
    seconds: float = json.loads(spent.read_text(encoding="utf-8"))["cpu"]
    return seconds


def judge(folder: Path, recipe: str, seed: int, world: int) -> Judged:
    """Draw and judge the items of one world, if that was not done."""
    own = folder / f"{recipe}-{seed}"
    evaluation = own / f"evaluation{world}"
    if not (evaluation / RESULTS).is_file():
        config = EvalConfig.from_flat(
            data=folder / f"test{world}" / "test.jsonl",
            output_dir=evaluation,
            adapter=own / "training" / "final",
            arms=(Arm.GRAPH, Arm.NEGATIVE_GRAPH),
            ranking_sigmas=0,
            allow_seen_data=True,
            **{**DEMO.evaluation, "graph_scale": RECIPES[recipe][1]},
        )
        evaluate(config)
    return read_lines(evaluation / PICTURE_RESULTS, read_results(evaluation))


def figures(runs: Mapping[str, Sequence[Mapping[int, Judged]]]) -> dict[str, Any]:
    """Each figure of both recipes, by seed and over all, and the paired difference.

    Args:
        runs: Recipe -> judged pictures of each seed of training, by world.
    """
    found: dict[str, Any] = {}
    for name, rows_of in FIGURES.items():
        of_seeds = {
            recipe: [
                [
                    (value, group, f"{world} {cluster}")
                    for world, judged in worlds.items()
                    for value, group, cluster in rows_of(judged)
                ]
                for worlds in own
            ]
            for recipe, own in runs.items()
        }
        pooled = {recipe: list(chain.from_iterable(rows)) for recipe, rows in of_seeds.items()}
        estimate = macro_estimate if name == "relation accuracy" else mean_estimate
        found[name] = {
            **{
                recipe: {
                    "all": estimate(pooled[recipe]).to_json(),
                    "seeds": [mean_estimate(rows).value for rows in of_seeds[recipe]],
                }
                for recipe in runs
            },
            "difference": compare(pooled["demo"], pooled["former"]).to_json(),
        }
    return found


def main() -> None:
    """Train, draw, judge and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "demo_recipe.json"
    )
    arguments = parser.parse_args()
    make_worlds(arguments.folder)
    runs: dict[str, list[dict[int, Judged]]] = {recipe: [] for recipe in RECIPES}
    seconds: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
    for seed in SEEDS:
        for recipe in RECIPES:
            seconds[recipe].append(train(arguments.folder, recipe, seed))
            runs[recipe].append(
                {world: judge(arguments.folder, recipe, seed, world) for world in WORLD_SEEDS}
            )
    write_json(
        arguments.out,
        {
            "command": "python benchmarks/demo_recipe.py --folder runs/demo_recipe",
            "machine": machine(),
            "training_cpu_seconds": seconds,
            "figures": figures(runs),
        },
    )


if __name__ == "__main__":
    main()
