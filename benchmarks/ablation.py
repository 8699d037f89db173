"""What helps a graph to be obeyed: recipes against each other on the bundled world.

    python benchmarks/ablation.py --out-dir runs/ablation            (days on two cores)
    python benchmarks/ablation.py --out-dir runs/ablation --device cuda
    python benchmarks/ablation.py --out-dir runs/try --quick         (does it run at all?)

It runs unattended, and goes on where it was stopped: with the same command and folder, whatever is
finished is kept, and a training goes on from its last checkpoint. SIGINT and SIGTERM save first.

Each recipe of ``ablation_rows.py`` is trained with several seeds, on several sizes of data, with
two budgets: ``examples`` gives every recipe the same number of steps, ``time`` as many as fit into
the wall time of the recipe ``plain`` (by the rates measured under ``examples``; so the machine
should do nothing else). Each is evaluated on the same test pictures: combinations never trained on,
two triples, and text that contradicts the graph among them.

After every training the results so far are written anew: ``results.json``, ``table.md`` and
``figure.png``. An interval is the 95 % one of the mean over seeds, by Student's t; a single run's
own bootstrap interval is in its ``evaluation_results.json``. A recipe whose classifier is refused
is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablation_rows import CLASSIFIERS, PLAIN, RECIPES, Recipe

from sgflux.config import LossConfig, TrainConfig
from sgflux.data.examples import read_examples, write_examples
from sgflux.data.files import replacing
from sgflux.data.world_dataset import write_world
from sgflux.demo import DEMO
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import RESULTS, EvalConfig, evaluate
from sgflux.models.relation_classifier import CARD_FILE
from sgflux.training.classifier_training import ClassifierConfig, train_classifier
from sgflux.training.trainer import train

ARMS = ("null_graph", "graph", "negative_graph", "contradiction")

FIGURES = {
    "relation_accuracy": ("arms", "graph", "relation_accuracy", "macro"),
    "win_rate": ("win_rate", "value"),
    "both_right": ("arms", "graph", "both_right", "value"),
    "held_out_combinations": ("arms", "graph", "held_out_combinations", "held_out", "macro"),
    "follows_graph": ("contradiction", "follows_graph", "value"),
    "follows_text": ("contradiction", "follows_text", "value"),
    "ranking_accuracy": ("ranking_accuracy", "value"),
    "objects_right": ("arms", "graph", "objects_right", "value"),
    "null_graph": ("arms", "null_graph", "relation_accuracy", "macro"),
}
"""Name -> where it is in ``evaluation_results.json``."""

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond, the normal one is near.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Scale:
    """How large the ablation is.

    Attributes:
        sizes: training pictures a predicate.
        seeds: of the trainings.
        steps: of the budget ``examples``.
        batch_size: examples a step.
        test_per_class: test pictures a predicate.
        items: test items that are evaluated; 0: all.
        sampling_steps: Euler steps of a picture.
        classifier_steps: of the classifiers' training.
    """

    sizes: tuple[int, ...]
    seeds: int
    steps: int
    batch_size: int
    test_per_class: int
    items: int
    sampling_steps: int
    classifier_steps: int


FULL = Scale((50, 500), 3, 1500, 48, 20, 0, 8, 3000)
QUICK = Scale((2,), 1, 4, 4, 2, 4, 1, 2)


class InterruptedTrainingError(Exception):
    """A training was asked to stop, and has saved; the argument is the exit status."""


@dataclass(frozen=True)
class Unit:
    """One training and its evaluation."""

    recipe: Recipe
    size: int
    seed: int
    budget: str

    def folder(self, out_dir: Path) -> Path:
        """Where it is kept."""
        name = f"{self.recipe.name}-{self.budget}-{self.size}-seed{self.seed}"
        return out_dir / "runs" / name


class Ablation:
    """All units, in one folder."""

    def __init__(self, out_dir: Path, scale: Scale, *, device: str, names: Sequence[str]) -> None:
        """Keep the parts; ``names`` are the recipes to run, beside the one compared with."""
        self.out_dir = out_dir
        self.scale = scale
        self.device = device
        self.recipes = [one for one in RECIPES if one.name in {PLAIN, *names}]
        self.data = out_dir / "data"

    def run(self) -> None:
        """Run whatever is not finished, seed by seed: after the first one the table is whole."""
        self._write_data()
        for size in self.scale.sizes:
            for kind in CLASSIFIERS:
                if any(one.classifier == kind for one in self.recipes):
                    self._make_classifier(kind, size)
        for seed in range(self.scale.seeds):
            for size in self.scale.sizes:
                for recipe in self.recipes:
                    for budget in ("examples", "time"):
                        self._run_unit(Unit(recipe, size, seed, budget))
                        self.report()
        self.report()

    # -- what the units share ------------------------------------------------------------------

    def _train_file(self, size: int) -> Path:
        return self.data / f"train{size}.jsonl"

    def _write_data(self) -> None:
        """The world once; a smaller size is a part of the largest, so that the test is the same."""
        if not self.data.exists():
            world = {**DEMO.world, "test_per_class": self.scale.test_per_class}
            world |= {"train_per_class": max(self.scale.sizes), "val_per_class": 5}
            write_world(self.data, **world, progress=sys.stderr.isatty())
        examples = read_examples(self.data / "train.jsonl")
        for size in self.scale.sizes:
            taken: dict[str, int] = {}
            rows = []
            for example in examples:
                predicate = example.triple.predicate
                taken[predicate] = taken.get(predicate, 0) + 1
                if taken[predicate] <= size:
                    rows.append(example)
            write_examples(self._train_file(size), rows)

    def _classifier(self, kind: str, size: int) -> Path:
        return self.out_dir / "classifiers" / f"{kind}-{size}"

    def _make_classifier(self, kind: Any, size: int) -> None:
        folder = self._classifier(kind, size)
        if (folder / CARD_FILE).is_file():
            return
        config = ClassifierConfig(
            train_jsonl=self._train_file(size),
            val_jsonl=self.data / "validation.jsonl",
            out_dir=folder,
            kind=kind,
            steps=self.scale.classifier_steps,
            latent_cache_dir=self.out_dir / "cache",
            device=self.device,
            **{name: DEMO.training[name] for name in ("model_id", "height", "width", "dtype")},
        )
        card = train_classifier(config)
        print(f"{folder.name}: held-out accuracy {card.held_out['accuracy']:.1%}", flush=True)

    # -- one unit ------------------------------------------------------------------------------

    def _run_unit(self, unit: Unit) -> None:
        folder = unit.folder(self.out_dir)
        results, refusal = folder / "evaluation" / RESULTS, folder / "refused.json"
        if results.is_file() or refusal.is_file():
            return
        steps = self._steps(unit)
        if steps is None:
            return
        print(f"--- {folder.name}: {steps} steps", flush=True)
        training = folder / "training"
        if not (training / "final").is_dir():
            if training.exists() and not list(training.glob("step*.pt")):
                shutil.rmtree(training)  # stopped before its first checkpoint
            try:
                result = train(self._config(unit, training, steps))
            except SgfluxError as error:
                if unit.recipe.classifier is None or "refused as a loss" not in str(error):
                    raise
                folder.mkdir(parents=True, exist_ok=True)
                _write_json(refusal, {"reason": str(error)})
                return
            if result.interrupted_by is not None:
                raise InterruptedTrainingError(result.exit_status)
        evaluate(
            EvalConfig(
                data=self.data / "test.jsonl",
                out_dir=folder / "evaluation",
                adapter=training / "final",
                arms=ARMS,
                items=self.scale.items,
                steps=self.scale.sampling_steps,
                model_id=DEMO.training["model_id"],
                device=self.device,
            ),
            show_progress=sys.stderr.isatty(),
        )

    def _config(self, unit: Unit, folder: Path, steps: int) -> TrainConfig:
        losses = dict(unit.recipe.losses)
        if unit.recipe.classifier is not None:
            losses["classifier"] = self._classifier(unit.recipe.classifier, unit.size)
        every = max(1, steps // 4)
        settings = {
            **DEMO.training,
            "train_jsonl": self._train_file(unit.size),
            "val_jsonl": self.data / "validation.jsonl",
            "output_dir": folder,
            "latent_cache_dir": self.out_dir / "cache",
            "max_steps": steps,
            "batch_size": self.scale.batch_size,
            "val_every": every,
            "save_every": every,
            "keep_checkpoints": 1,
            "log_every": min(10, every),
            "seed": unit.seed,
            "device": self.device,
            "resume": "auto",
        }
        return TrainConfig(**{**settings, **unit.recipe.settings}, losses=LossConfig(**losses))

    def _steps(self, unit: Unit) -> int | None:
        """How many steps the unit has; None where its budget gives it nothing of its own."""
        if unit.budget == "examples":
            return self.scale.steps
        if unit.recipe.name == PLAIN:
            return None  # it is what the time is measured by
        by_examples = Unit(unit.recipe, unit.size, unit.seed, "examples")
        plain = Unit(self.recipes[0], unit.size, unit.seed, "examples")
        rates = [_steps_per_second(one.folder(self.out_dir)) for one in (by_examples, plain)]
        if rates[0] is None or rates[1] is None:
            return None  # it was refused
        return max(2, round(self.scale.steps * rates[0] / rates[1]))

    # -- the report ----------------------------------------------------------------------------

    def report(self) -> None:
        """Write what is known so far."""
        rows = [
            row
            for size in self.scale.sizes
            for budget in ("examples", "time")
            for recipe in self.recipes
            if (row := self._row(recipe, size, budget)) is not None
        ]
        content = {"scale": vars(self.scale), "rows": rows}
        _write_json(self.out_dir / "results.json", content)
        with replacing(self.out_dir / "table.md") as file:
            file.write(as_table(rows).encode())
        draw(rows, self.out_dir / "figure.png")

    def _row(self, recipe: Recipe, size: int, budget: str) -> dict[str, Any] | None:
        # Under equal time, the recipe that sets the time is its own run under equal examples.
        own = "examples" if recipe.name == PLAIN else budget
        units = [Unit(recipe, size, seed, own) for seed in range(self.scale.seeds)]
        folders = [unit.folder(self.out_dir) for unit in units]
        found = [
            json.loads((folder / "evaluation" / RESULTS).read_text(encoding="utf-8"))
            for folder in folders
            if (folder / "evaluation" / RESULTS).is_file()
        ]
        head = {"recipe": recipe.name, "what": recipe.what, "per_class": size, "budget": budget}
        refused = [folder / "refused.json" for folder in folders]
        reasons = [json.loads(path.read_text())["reason"] for path in refused if path.is_file()]
        if reasons:
            return {**head, "refused": reasons[0]}
        if not found:
            return None
        figures = {
            name: interval([value for one in found if (value := _at(one, path)) is not None])
            for name, path in FIGURES.items()
        }
        return {**head, "seeds": len(found), "figures": figures}


def interval(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean, and its 95 % interval by Student's t; none of a single value, nothing of no value."""
    if not values:
        return None
    mean = statistics.fmean(values)
    bounds = None
    if len(values) > 1:
        quantile = _T95[len(values) - 2] if len(values) <= len(_T95) + 1 else 1.96
        half = quantile * statistics.stdev(values) / math.sqrt(len(values))
        bounds = [mean - half, mean + half]
    return {"mean": mean, "ci95": bounds, "values": list(values)}


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: one line a recipe, one table for each size and budget."""
    names = list(FIGURES)
    lines = []
    for size, budget in dict.fromkeys((row["per_class"], row["budget"]) for row in rows):
        lines += [f"### {size} pictures a predicate, equal {budget}", ""]
        lines.append("| recipe | " + " | ".join(name.replace("_", " ") for name in names) + " |")
        lines.append("|---" * (1 + len(names)) + "|")
        for row in rows:
            if (row["per_class"], row["budget"]) != (size, budget):
                continue
            if "refused" in row:
                lines.append(f"| {row['recipe']} | refused: {row['refused']}" + " |" * len(names))
                continue
            cells = [_cell(row["figures"][name]) for name in names]
            lines.append(f"| {row['recipe']} ({row['what']}) | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    text = f"{figure['mean']:.1%}"
    if figure["ci95"] is not None:
        text += f" ± {figure['ci95'][1] - figure['mean']:.1%}"
    return text


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars of relation accuracy and win rate, with their intervals."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if "figures" in row]
    if not shown:
        return
    figure = Figure(figsize=(11, 1.2 + 0.28 * len(shown)), layout="constrained")
    for axes, name in zip(
        figure.subplots(1, 2, sharey=True), ("relation_accuracy", "win_rate"), strict=True
    ):
        known = [(place, row["figures"][name]) for place, row in enumerate(shown)]
        known = [(place, value) for place, value in known if value is not None]
        means = [value["mean"] for _, value in known]
        errors = [
            0.0 if value["ci95"] is None else value["ci95"][1] - value["mean"] for _, value in known
        ]
        axes.barh([place for place, _ in known], means, xerr=errors, color="#4477aa", capsize=2)
        axes.set_xlim(0, 1)
        axes.set_title(name.replace("_", " "))
    axes.set_yticks(
        range(len(shown)), [f"{r['recipe']}  {r['per_class']} {r['budget']}" for r in shown]
    )
    axes.invert_yaxis()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _steps_per_second(folder: Path) -> float | None:
    path = folder / "training" / "metrics.jsonl"
    if not path.is_file():
        return None
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    rates = [row["steps_per_second"] for row in rows if row["kind"] == "train"]
    return statistics.median(rates) if rates else None


def _at(results: Any, path: Sequence[str]) -> float | None:
    for name in path:
        if not isinstance(results, dict) or results.get(name) is None:
            return None
        results = results[name]
    return float(results)


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def main() -> int:
    """Run the ablation, or the rest of it."""
    names = [recipe.name for recipe in RECIPES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out-dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--recipes", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    parser.add_argument("--seeds", type=int, help="trainings of each recipe; default 3, quick: 1")
    parser.add_argument("--report-only", action="store_true", help="write the tables anew")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    if given.seeds is not None:
        scale = replace(scale, seeds=given.seeds)
    ablation = Ablation(given.out_dir, scale, device=given.device, names=given.recipes)
    try:
        if given.report_only:
            ablation.report()
        else:
            ablation.run()
    except InterruptedTrainingError as stopped:
        return int(stopped.args[0])
    except SgfluxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
