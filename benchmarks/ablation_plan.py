"""Units of an ablation, their expected time, and the check that a folder holds the same one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_rows import Recipe
from result_files import write_json

from sgflux.errors import SgfluxError

BUDGETS = ("examples", "time")
"""What two recipes have in common: how many examples they see, or how long they train."""

ARMS = ("null_graph", "graph", "negative_graph", "contradiction")
"""What is drawn of every test item."""

WORLD: Mapping[str, Any] = {
    "triples": "1,2,3,4",
    "twins": 0.3,
    "hold_out_combinations": 20,
    "hold_out_shapes": ["star of 3", "fork of 4 with twins: end and end, 2 apart"],
    "resolution": 64,
    "seed": 0,
}
"""The bundled world that recipes are compared in, without the numbers of pictures.

It is not the demo's: what was compared here, and the settings that followed from it, have never
seen a picture on which the demo reports its figures."""

GRAPH_SCALE = 1.5
"""Graph scale of the pictures of recipes that do not learn a scale in training; docs/ablation.md
says how it was chosen."""

TIMED = 4
"""Number of recipes that are trained under equal time: the best ones under equal examples."""

HOURS = 30
"""Largest number of CPU hours that an ablation may be expected to take."""

ABOUT_AS_FAST = 0.05
"""A recipe whose steps cost as much as the compared one's, to this share, has one budget."""


@dataclass(frozen=True)
class Scale:
    """Size of an ablation.

    Attributes:
        sizes: Numbers of training pictures a predicate.
        seeds: Number of seeds.
        steps: Number of steps under the budget ``examples``.
        batch_size: Number of examples a step.
        test_per_class: Number of test pictures a predicate.
        items: Number of test items that are evaluated, balanced by predicate; 0 for all.
        sampling_steps: Number of Euler steps of a picture.
        turns: Number of turns in which the pace of the recipes of equal time is measured.
    """

    sizes: tuple[int, ...] = (400,)
    seeds: int = 3
    steps: int = 1500
    batch_size: int = 24
    test_per_class: int = 20
    items: int = 240
    sampling_steps: int = 8
    turns: int = 3


QUICK = Scale((2,), 1, 4, 4, 4, 12, 1, 1)


@dataclass(frozen=True)
class Speed:
    """Measured speed of this machine, in CPU time, which does not depend on what else it does.

    Attributes:
        step: Seconds of a step of the recipe ``plain``.
        picture: Seconds of a picture.
        evaluation: Further seconds of an evaluation, for any number of pictures.
    """

    step: float
    picture: float
    evaluation: float

    def seconds(self, unit: Unit, scale: Scale) -> float:
        """Expected seconds of a unit; validations count as a tenth of a training."""
        # Under equal time every recipe takes what the compared one takes.
        cost = unit.recipe.cost if unit.budget == "examples" else 1.0
        items = scale.items or 24 * scale.test_per_class
        training = 1.1 * scale.steps * cost * self.step
        return training + self.evaluation + items * len(ARMS) * self.picture


@dataclass(frozen=True)
class Unit:
    """One training and its evaluation."""

    recipe: Recipe
    size: int
    seed: int
    budget: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.recipe.name}-{self.budget}-{self.size}-seed{self.seed}"


def has_time_of_its_own(recipe: Recipe) -> bool:
    """Whether another number of steps than ``plain``'s fits into the time of ``plain``."""
    return abs(recipe.cost - 1) > ABOUT_AS_FAST


def planned_units(
    recipes: Sequence[Recipe], scale: Scale, *, timed: Sequence[Recipe]
) -> list[Unit]:
    """All trainings in their order.

    Only the largest size is trained under equal time, since the time of a step does not depend on
    the size.

    Args:
        recipes: Recipes to train.
        scale: Size of the ablation.
        timed: Those that are trained under equal time as well, where that is another training.
    """
    examples = [
        Unit(recipe, size, seed, "examples")
        for seed in range(scale.seeds)
        for size in scale.sizes
        for recipe in recipes
    ]
    time = [
        Unit(recipe, max(scale.sizes), seed, "time")
        for seed in range(scale.seeds)
        for recipe in timed
        if has_time_of_its_own(recipe)
    ]
    return examples + time


def check_record(path: Path, record: dict[str, Any]) -> None:
    """Begin a folder's record, or check that the folder's content was made with the same settings.

    Recipes may be added and left out, and seeds may be added; a recipe must not change.

    Raises:
        SgfluxError: naming what differs.
    """
    record = json.loads(json.dumps(record))
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        old, new = (_flat(one) for one in (known, record))
        differing = [name for name in old if name in new and old[name] != new[name]]
        differing = [name for name in differing if name != "scale.seeds"]
        if differing:
            listed = "; ".join(f"{name} was {old[name]}, is {new[name]}" for name in differing)
            raise SgfluxError(
                f"{path.parent} holds an ablation that was made otherwise ({listed}); give another "
                "--out-dir, or the same settings"
            )
        record["recipes"] = {**known["recipes"], **record["recipes"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten two levels of names into one."""
    return {
        f"{outer}.{inner}" if isinstance(part, Mapping) else outer: value
        for outer, part in content.items()
        for inner, value in (part if isinstance(part, Mapping) else {"": part}).items()
    }


def steps_per_second(folder: Path) -> float:
    """Median steps a second of the training in a unit's folder.

    Raises:
        SgfluxError: if there was none.
    """
    path = folder / "training" / "metrics.jsonl"
    rates = []
    if path.is_file():
        rows = map(json.loads, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
        rates = [row["steps_per_second"] for row in rows if row["kind"] == "train"]
    if not rates:
        raise SgfluxError(f"{path} says of no step how long it took; delete {folder}")
    return statistics.median(rates)
