"""Compare recipes of training by how well pictures follow their graphs in the bundled world.

    python benchmarks/ablation.py --out-dir runs/ablation            (half a day on two cores)
    python benchmarks/ablation.py --out-dir runs/ablation --estimate (prints the CPU time)
    python benchmarks/ablation.py --out-dir runs/large --device cuda --steps 3000 --items 0
    python benchmarks/ablation.py --out-dir runs/try --quick         (a rehearsal)

The same command with the same folder continues an interrupted ablation: finished units are kept,
and a training continues from its last checkpoint. SIGINT and SIGTERM save first. The script prints
how much CPU time the rest will take on this machine, at the start and after every unit. An ablation
that is expected to take more than 30 hours of it is refused (``--hours``). Several processes may
work in one folder, one for each GPU or core (OMP_NUM_THREADS=1). Each takes the next
unit that no other process works on.

Each recipe of ``ablation_rows.py`` is trained with several seeds, with two budgets. The budget
``examples`` gives every recipe the same number of steps. The four recipes that then draw most whole
graphs are trained with the budget ``time`` as well, on the largest size: as many steps as fit into
the wall time of the recipe ``plain``. How many these are is measured before, by short trainings of
the five recipes in turns, so that a machine that is busy for a while slows down all of them. A
recipe whose speed is within 5 % of ``plain``'s is not trained twice. All are evaluated on the same
test pictures of one to four statements, without and with twins, among them pairs of objects and
shapes of graphs never trained on, and text that contradicts the graph. Seeds are the outermost
loop, and equal time comes last.

After every training the script writes the results so far: ``results.json``, ``table.md`` and
``figure.png`` (see ``ablation_report.py``). They name the trainings that are not finished. A single
run's own intervals are in its ``evaluation_results.json``. A recipe whose loss is not finite is
listed with the reason, and the others go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ablation_locks import claimed, waiting_for
from ablation_plan import (
    ARMS,
    BUDGETS,
    GRAPH_SCALE,
    HOURS,
    QUICK,
    TIMED,
    WORLD,
    Scale,
    Speed,
    Unit,
    check_record,
    has_time_of_its_own,
    planned_units,
    steps_per_second,
)
from ablation_report import GAIN_OF, as_table, draw, figures_of, summary
from ablation_rows import PLAIN, RECIPES, Recipe
from result_files import write_json

import sgflux
from sgflux.bases.hub import resolve_model_id
from sgflux.data.examples import read_examples, write_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.records import RESULTS
from sgflux.files.writing import replacing
from sgflux.settings.losses import LossSettings
from sgflux.settings.training import TrainConfig
from sgflux.terminal.endings import exit_status
from sgflux.terminal.quiet import hide_loading_bars
from sgflux.training.log.run_log import duration
from sgflux.training.run.train import train
from sgflux.training.step_figures import NotFiniteError
from sgflux.world.dataset import write_world
from sgflux.world.demo import DEMO

SHARED = (
    *("model_id", "height", "width", "dtype", "lr", "gate_lr_scale", "t_min", "t_max"),
    *("ema_decay", "val_examples", "lora_rank", "lora_alpha", "block_start", "block_end"),
)
"""Settings that all recipes take from the demo's training, where it has them."""

RECORD, SPEED, FAILED = "ablation.json", "speed.json", "failed.json"
PACE = "pace.json"
"""Recipe -> its steps a second, divided by those of ``plain``, in every turn."""
PACE_STEPS = 16
"""Number of steps of a training that measures the pace."""


class InterruptedTrainingError(Exception):
    """A training was asked to stop and has saved; the argument is the exit status."""


def finish_training(config: TrainConfig) -> None:
    """Train to the last step.

    Raises:
        InterruptedTrainingError: if the training was asked to stop.
    """
    result = train(config)
    if result.interrupted_by is not None:
        raise InterruptedTrainingError(result.exit_status)


class Ablation:
    """All trainings and evaluations of an ablation, in one folder."""

    def __init__(self, out_dir: Path, scale: Scale, *, device: str, names: Sequence[str]) -> None:
        """Hold the settings.

        Args:
            out_dir: Folder of the ablation.
            scale: Size of the ablation.
            device: Device that trains and draws.
            names: Names of the recipes to run, beside ``plain``.
        """
        self.out_dir = out_dir
        self.scale = scale
        self.device = device
        self.recipes = [one for one in RECIPES if one.name in {PLAIN, *names}]
        self.plain = next(one for one in self.recipes if one.name == PLAIN)
        self.data = out_dir / "data"

    @property
    def units(self) -> list[Unit]:
        """All trainings: until those of equal examples are finished, any four have equal time."""
        examples = planned_units(self.recipes, self.scale, timed=())
        others = [one for one in self.recipes if one.name != PLAIN and has_time_of_its_own(one)]
        if all(map(self._is_finished, examples)):
            others = self._by_figure()
        return planned_units(self.recipes, self.scale, timed=others[:TIMED])

    def _by_figure(self) -> list[Recipe]:
        """Recipes by their mean figure under equal examples, the best first."""
        size = max(self.scale.sizes)
        means = {}
        for recipe in self.recipes:
            found = self._results(recipe, size, "examples").values()
            values = [figures_of(one)[GAIN_OF] for one in found if "reason" not in one]
            shares = [value for value in values if value is not None]
            if recipe.name != PLAIN and shares:
                means[recipe.name] = statistics.fmean(shares)
        named = {recipe.name: recipe for recipe in self.recipes}
        return [named[name] for name in sorted(means, key=lambda name: -means[name])]

    def run(self, *, hours: float) -> None:
        """Run all units that are not finished.

        Raises:
            SgfluxError: if they are expected to take more CPU hours than these.
        """
        self.begin()
        if (seconds := self._rest()) > 3600 * hours:
            raise SgfluxError(
                f"the ablation will take about {duration(seconds)} of CPU time, more than "
                f"{hours:g} hours; give fewer --recipes, --steps or --seeds, or more --hours"
            )
        while rest := [unit for unit in self.units if not self._is_finished(unit)]:
            if not any(self._take(unit) for unit in rest):
                time.sleep(5)  # all that is left is in other processes' hands
        self.report()

    def _take(self, unit: Unit) -> bool:
        """Run a unit, unless another process works on it or on a unit that it needs."""
        with claimed(self._folder(unit)) as is_mine:
            if not is_mine or self._is_finished(unit) or not self._is_ready(unit):
                return False
            self._run_unit(unit)
        self.report()
        print(f"=== {self.outlook()}", flush=True)
        return True

    def _is_ready(self, unit: Unit) -> bool:
        """Whether all that decides about the unit is finished: who is best, and how fast it is."""
        examples = planned_units(self.recipes, self.scale, timed=())
        return unit.budget == "examples" or all(map(self._is_finished, examples))

    def _timed_by(self, unit: Unit) -> tuple[Unit, Unit]:
        """The same unit under equal examples, and the unit that sets the time."""
        own = replace(unit, budget="examples")
        return own, replace(own, recipe=self.plain)

    def begin(self) -> None:
        """Write the data, measure the machine's speed, and print the expected time."""
        with waiting_for(self.out_dir):
            check_record(self.out_dir / RECORD, self._record())
            self._write_data()
            if not (self.out_dir / SPEED).is_file():
                self._measure_speed()
        print(f"=== {self.outlook()}", flush=True)

    def outlook(self) -> str:
        """A line with the finished share and the expected time of the rest."""
        speed, units = self._speed(), self.units
        done = sum(map(self._is_finished, units))
        return (
            f"{done} of {len(units)} trainings are done; the rest will take about "
            f"{duration(self._rest())} of CPU time ({speed.step:.2f} s a plain step, "
            f"{speed.picture:.2f} s a picture)"
        )

    def _speed(self) -> Speed:
        return Speed(**json.loads((self.out_dir / SPEED).read_text(encoding="utf-8")))

    def _rest(self) -> float:
        """Expected CPU seconds of all units that are not finished."""
        speed = self._speed()
        rest = (unit for unit in self.units if not self._is_finished(unit))
        return sum(speed.seconds(unit, self.scale) for unit in rest)

    # -- what the units share ------------------------------------------------------------------

    def _record(self) -> dict[str, Any]:
        """All settings that the results depend on."""
        weights = sorted((Path(resolve_model_id(DEMO.training["model_id"]))).rglob("*.safetensors"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
        return {
            "sgflux": sgflux.__version__,
            "scale": asdict(self.scale),
            "world": dict(WORLD),
            "training": self._shared(),
            "sampling": self._sampling(),
            "model": digest,
            "recipes": {
                one.name: {
                    "settings": one.settings,
                    "losses": one.losses,
                    "graph_scale": one.graph_scale,
                }
                for one in self.recipes
            },
        }

    def _shared(self) -> dict[str, Any]:
        """Settings that all recipes share with the demo, without those that they vary."""
        return {name: DEMO.training[name] for name in SHARED if name in DEMO.training}

    def _sampling(self) -> dict[str, Any]:
        """Sampling settings of all recipes that have no graph scale of their own."""
        return {"graph_scale": GRAPH_SCALE, "dtype": DEMO.evaluation["dtype"]}

    def _train_file(self, size: int) -> Path:
        return self.data / f"train{size}.jsonl"

    def _write_data(self) -> None:
        """Write the world once; smaller sizes are parts of the largest, with the same test set."""
        if not self.data.exists():
            write_world(
                self.data,
                **WORLD,
                train_per_class=max(self.scale.sizes),
                val_per_class=5,
                test_per_class=self.scale.test_per_class,
                progress=sys.stderr.isatty(),
            )
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

    def _measure_speed(self) -> None:
        """Time a few steps and pictures of the recipe ``plain``."""
        folder = self.out_dir / "speed"
        shutil.rmtree(folder, ignore_errors=True)
        unit = Unit(self.plain, min(self.scale.sizes), 0, "examples")

        def train_for(steps: int) -> float:
            started = time.process_time()
            shutil.rmtree(folder, ignore_errors=True)
            config = self.training_config(unit, folder / "training", steps)
            finish_training(config.changed(val_every=0, save_every=0, keep_checkpoints=3))
            return time.process_time() - started

        def evaluate_on(items: int) -> float:
            started = time.process_time()
            shutil.rmtree(folder / "evaluation", ignore_errors=True)
            self._evaluate(folder, items=items, graph_scale=None)
            return time.process_time() - started

        train_for(2)  # encodes the data and loads what is loaded once
        step = (train_for(10) - train_for(2)) / 8
        few, more = 4, 12
        first, second = evaluate_on(few), evaluate_on(more)
        picture = (second - first) / ((more - few) * len(ARMS))
        speed = Speed(step, picture, max(0.0, first - few * len(ARMS) * picture))
        write_json(self.out_dir / SPEED, asdict(speed))
        shutil.rmtree(folder)

    # -- one unit ------------------------------------------------------------------------------

    def _folder(self, unit: Unit) -> Path:
        return self.out_dir / "runs" / unit.name

    def _is_finished(self, unit: Unit) -> bool:
        folder = self._folder(unit)
        return (folder / "evaluation" / RESULTS).is_file() or (folder / FAILED).is_file()

    def _run_unit(self, unit: Unit) -> None:
        folder = self._folder(unit)
        folder.mkdir(parents=True, exist_ok=True)
        if (reason := self._why_not(unit)) is not None:
            write_json(folder / FAILED, {"reason": reason})
            return
        steps = self._steps(unit)
        print(f"--- {folder.name}: {steps} steps", flush=True)
        training = folder / "training"
        if not (training / "final").is_dir():
            if training.exists() and not list(training.glob("step*.pt")):
                shutil.rmtree(training)  # stopped before its first checkpoint
            try:
                finish_training(self.training_config(unit, training, steps))
            except NotFiniteError as error:
                write_json(folder / FAILED, {"reason": str(error)})
                return
        scale = unit.recipe.graph_scale
        self._evaluate(folder, items=self.scale.items, graph_scale=scale)

    def _why_not(self, unit: Unit) -> str | None:
        """Reason not to train a unit; None if there is none."""
        if unit.budget == "time":
            for one in self._timed_by(unit):
                if (self._folder(one) / FAILED).is_file():
                    reason = json.loads((self._folder(one) / FAILED).read_text("utf-8"))["reason"]
                    return f"{one.name} failed: {reason}"
        return None

    def _evaluate(self, folder: Path, *, items: int, graph_scale: float | None) -> dict[str, Any]:
        own = {} if graph_scale is None else {"graph_scale": graph_scale}
        return evaluate(
            EvalConfig.from_flat(
                data=self.data / "test.jsonl",
                output_dir=folder / "evaluation",
                adapter=folder / "training" / "final",
                arms=ARMS,
                items=items,
                steps=self.scale.sampling_steps,
                batch_size=32,
                model_id=DEMO.training["model_id"],
                device=self.device,
                **{**self._sampling(), **own},
            ),
            show_progress=sys.stderr.isatty(),
        )

    def training_config(self, unit: Unit, folder: Path, steps: int) -> TrainConfig:
        """Training settings of a unit."""
        losses = {"lambda_words": 0.0, **unit.recipe.losses}
        every = max(1, steps // 4)
        settings = {
            **self._shared(),
            "train_jsonl": self._train_file(unit.size),
            "val_jsonl": self.data / "validation.jsonl",
            "output_dir": folder,
            "latent_cache_dir": self.out_dir / "cache",
            "max_steps": steps,
            "batch_size": self.scale.batch_size,
            "val_every": every,
            "save_every": every,
            "keep_checkpoints": 1,
            "select_by": "last",  # no recipe is to be helped by the loss that it minimises
            "log_every": min(10, every),
            "seed": unit.seed,
            "device": self.device,
            "resume": "auto",
        }
        return TrainConfig.from_flat(
            **{**settings, **unit.recipe.settings}, losses=LossSettings.from_flat(**losses)
        )

    def _steps(self, unit: Unit) -> int:
        """Number of steps of the unit."""
        if unit.budget == "examples":
            return self.scale.steps
        with waiting_for(self.out_dir):
            pace = self._pace()
            timed = {one.recipe.name: one.recipe for one in self.units if one.budget == "time"}
            if missing := {name: one for name, one in timed.items() if name not in pace}:
                pace |= self._measure_pace(missing)
                write_json(self.out_dir / PACE, pace)
        return max(2, round(self.scale.steps * statistics.median(pace[unit.recipe.name])))

    def _pace(self) -> dict[str, list[float]]:
        """The paces that were measured; none before any was."""
        path = self.out_dir / PACE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _measure_pace(self, timed: Mapping[str, Recipe]) -> dict[str, list[float]]:
        """Train ``plain`` and recipes of equal time for a few steps, in turns."""
        folder, size = self.out_dir / "pace", max(self.scale.sizes)
        shutil.rmtree(folder, ignore_errors=True)
        pace: dict[str, list[float]] = {name: [] for name in timed}
        for turn in range(self.scale.turns):
            rates = {}
            for name, recipe in {PLAIN: self.plain, **timed}.items():
                own = folder / f"{name}-{turn}"
                config = self.training_config(
                    Unit(recipe, size, turn, "examples"), own / "training", PACE_STEPS
                )
                finish_training(
                    config.changed(val_every=0, save_every=0, keep_checkpoints=3, log_every=1)
                )
                rates[name] = steps_per_second(own)
            for name in timed:
                pace[name].append(rates[name] / rates[PLAIN])
        shutil.rmtree(folder, ignore_errors=True)
        return pace

    # -- the report ----------------------------------------------------------------------------

    def report(self) -> None:
        """Write the results so far."""
        with waiting_for(self.out_dir):
            self._report()

    def _report(self) -> None:
        rows = [
            row
            for size in self.scale.sizes
            for budget in self._budgets(size)
            for recipe in self.recipes
            if (row := self._row(recipe, size, budget)) is not None
        ]
        unfinished = [unit.name for unit in self.units if not self._is_finished(unit)]
        record = {**self._record(), "unfinished": unfinished, "rows": rows}
        if pace := self._pace():
            record["pace"] = pace
        write_json(self.out_dir / "results.json", record)
        with replacing(self.out_dir / "table.md") as file:
            file.write(as_table(rows, unfinished=unfinished).encode())
        draw(rows, self.out_dir / "figure.png")

    def _budgets(self, size: int) -> tuple[str, ...]:
        """Budgets that a size of data was trained with."""
        own = [unit for unit in self.units if unit.size == size]
        trained = {unit.budget for unit in own if self._is_finished(unit)}
        return tuple(budget for budget in BUDGETS if budget in trained)

    def _row(self, recipe: Recipe, size: int, budget: str) -> dict[str, Any] | None:
        head = {"recipe": recipe.name, "what": recipe.what, "over": recipe.over}
        head |= {"per_class": size, "budget": budget}
        timed = {PLAIN, *(unit.recipe.name for unit in self.units if unit.budget == "time")}
        if budget == "time" and recipe.name not in timed:
            return None
        own = self._found(recipe, size, budget)
        reasons = [found["reason"] for found in own.values() if "reason" in found]
        if reasons:
            return {**head, "failed": reasons[0]}
        if not own:
            return None
        over = [one for one in self.recipes if one.name == recipe.over]
        compared = self._found(over[0], size, budget) if over else {}
        figures = [
            {seed: figures_of(one) for seed, one in side.items() if "reason" not in one}
            for side in (own, compared)
        ]
        return {**head, **summary(*figures)}

    def _found(self, recipe: Recipe, size: int, budget: str) -> dict[int, dict[str, Any]]:
        """Results of the finished units by seed, or the reason why there are none."""
        if budget == "time" and not has_time_of_its_own(recipe):
            budget = "examples"
        return self._results(recipe, size, budget)

    def _results(self, recipe: Recipe, size: int, budget: str) -> dict[int, dict[str, Any]]:
        found = {}
        for seed in range(self.scale.seeds):
            folder = self._folder(Unit(recipe, size, seed, budget))
            for path in (folder / FAILED, folder / "evaluation" / RESULTS):
                if path.is_file():
                    found[seed] = json.loads(path.read_text(encoding="utf-8"))
                    break
        return found


def main() -> int:
    """Run or continue the ablation."""
    names = [recipe.name for recipe in RECIPES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out-dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--recipes", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="Rehearse with a few steps.")
    parser.add_argument(
        "--sizes", nargs="+", type=int, help="Numbers of training pictures a predicate."
    )
    parser.add_argument(
        "--hours", type=float, default=HOURS, help="Largest expected CPU time that is accepted."
    )
    parser.add_argument("--seeds", type=int, help="Number of seeds of each recipe.")
    parser.add_argument("--steps", type=int, help="Number of steps under equal examples.")
    parser.add_argument("--batch-size", type=int, help="Number of examples a step.")
    parser.add_argument("--items", type=int, help="Number of test items; 0 evaluates all.")
    parser.add_argument("--sampling-steps", type=int, help="Number of Euler steps of a picture.")
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument(
        "--estimate", action="store_true", help="Print the expected CPU time, and stop."
    )
    todo.add_argument("--report-only", action="store_true", help="Write the tables, and stop.")
    given = parser.parse_args()
    scale = QUICK if given.quick else Scale()
    changes = {name: getattr(given, name, None) for name in asdict(scale)}
    scale = replace(
        scale,
        **{
            name: tuple(value) if name == "sizes" else value
            for name, value in changes.items()
            if value is not None
        },
    )
    ablation = Ablation(given.out_dir, scale, device=given.device, names=given.recipes)

    def run() -> int:
        hide_loading_bars()
        try:
            if given.report_only:
                ablation.report()
            elif given.estimate:
                ablation.begin()
            else:
                ablation.run(hours=given.hours)
        except InterruptedTrainingError as stopped:
            return int(stopped.args[0])
        return 0

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
