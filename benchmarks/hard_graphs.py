"""Measure an adapter on hard graphs: four statements, twins, held-out shapes, contradiction.

    python benchmarks/hard_graphs.py --adapter tiny --trained-on runs/full/data --estimate
    python benchmarks/hard_graphs.py --adapter tiny --trained-on runs/full/data \\
        --control runs/hard-control/final --folder runs/hard_graphs
    python benchmarks/hard_graphs.py --table benchmarks/results/hard_graphs.json

``--trained-on`` is the folder of the ``sgflux data world`` that the adapter was trained on. Its
held-out pairs and shapes are those of the two worlds on which the adapter is measured; their
pictures are new, and nothing else uses their seeds. ``--control`` is an adapter of the same recipe
that was trained with text that states the relations (``--prompt-mix.neutral 0
--prompt-mix.relational 1``). It is drawn from neutral text with its graph, as the adapter is.
``--control-of`` takes the control's figures from an earlier record instead, if that was measured on
the same pictures, base, judge and settings.

The first command only prints how many pictures are drawn, and the CPU time that they take here.
The second one draws and judges them by ``sgflux eval``; what is there already is kept, so it goes
on where it was stopped. It writes ``benchmarks/results/hard_graphs.json``, or ``--out``, and prints
its tables, as the third command does.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from measuring import ROOT, machine
from result_files import write_json

from sgflux.data.examples import read_examples
from sgflux.data.graph_texts import WORDINGS
from sgflux.data.prompts import prompt_for
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, EvaluationItem
from sgflux.evaluation.evaluator import evaluate
from sgflux.evaluation.metrics import Rows, difference_estimate
from sgflux.evaluation.records import PICTURE_RESULTS, read_lines
from sgflux.evaluation.report.data import read_results
from sgflux.evaluation.report.headline import Figure
from sgflux.evaluation.scoring import Judged, all_right_rows, graph_kinds, whole_graph_figures
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.evaluation import ARM_NAMES, ArmName, EvalConfig
from sgflux.world.dataset import write_world

WORLDS: Mapping[str, dict[str, Any]] = {
    "plain": {"triples": "1,2,3,4", "twins": 0.0, "seed": 20261151},
    "twins": {"triples": "2,3,4", "twins": 1.0, "seed": 20261152},
}
"""Name -> settings of a world whose test pictures are measured on and used for nothing else."""

TWINS, NEW_PAIRS, KNOWN_PAIRS = "twins, all numbers", "pairs held out", "pairs trained on"
"""Groups beside the kinds of graphs: trained shapes with twins, and the plain world by pairs."""

COLUMNS: Mapping[str, str] = {
    "graph": "adapter",
    "base_relational": "base in words",
    "base_neutral": "base, neutral",
    "null_graph": "no graph",
    "negative_graph": "roles swapped",
    "shuffled_graph": "another graph",
    "control": "text control",
}
"""Arm, or the control's arm -> heading of its column."""

Aim = tuple[str, float, float]
"""Text of an aim, the least share, and the least multiple of the base's share in words."""
AIMS: Mapping[str, Aim] = {
    "1 statement": ("≥ 99 %", 0.99, 0),
    "2 statements": ("≥ 95 %", 0.95, 0),
    "3 statements": ("≥ 80 %, 2 × words", 0.80, 2),
    "4 statements": ("≥ 60 %, 3 × words", 0.60, 3),
    TWINS: ("≥ 80 %", 0.80, 0),
}
WITHIN, FOLLOWED, OBJECTS = 0.10, 0.90, 0.97
"""Further aims: held-out shapes within so many of trained ones, pictures that follow the graph
against the text, and pictures without a graph that show both objects."""


# --- data -----------------------------------------------------------------------------------------


def world_settings(name: str, trained_on: Mapping[str, Any], per_class: int) -> dict[str, Any]:
    """Return the settings of a world that holds out what a training world held out.

    Args:
        name: A key of :data:`WORLDS`.
        trained_on: Arguments in the summary of the training world.
        per_class: Number of test rows of each predicate.
    """
    settings = {
        **WORLDS[name],
        "train_per_class": 0,
        "val_per_class": max(1, per_class // 6),  # on which the base's wording is chosen
        "test_per_class": per_class,
        "resolution": trained_on["resolution"],
        "hold_out_combinations": trained_on["hold_out_combinations"],
        "hold_out_shapes": [
            shape
            for shape in trained_on.get("hold_out_shapes", ())
            if (" with twins: " in shape) == bool(WORLDS[name]["twins"])
        ],
    }
    if trained_on["hold_out_combinations"]:
        settings["hold_out_seed"] = trained_on.get("hold_out_seed", trained_on["seed"])
    return settings


def read_arguments(folder: Path) -> dict[str, Any]:
    """Return with which arguments a world was written.

    Raises:
        SgfluxError: if the folder holds no world.
    """
    path = folder / "summary.json"
    if not path.is_file():
        raise SgfluxError(f"{path} is not there; give the folder of a 'sgflux data world'")
    arguments: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["arguments"]
    return arguments


def make_world(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a world, if it is not there.

    Raises:
        SgfluxError: if the folder holds a world of other settings.
    """
    if not folder.exists():
        write_world(folder, progress=sys.stderr.isatty(), **settings)
    written = read_arguments(folder)
    differing = [
        f"{name} is {written[name]}, not {value}"
        for name, value in settings.items()
        if name in written and written[name] != value
    ]
    if differing:
        raise SgfluxError(f"{folder}: {'; '.join(differing)}; give another --folder")


# --- figures --------------------------------------------------------------------------------------


def only(judged: Judged, is_wanted: Callable[[EvaluationItem], bool]) -> Judged:
    """Return the pictures of some items."""
    return {
        arm: [picture for picture in pictures if is_wanted(picture.request.item)]
        for arm, pictures in judged.items()
    }


def groups_of(judged: Mapping[str, Judged]) -> dict[str, Any]:
    """Return group of test items -> how many pictures show whole graphs, in every arm.

    Args:
        judged: World -> its judged pictures.
    """
    groups = {name: own for world in judged.values() for name, own in graph_kinds(world).items()}
    further = {
        TWINS: only(judged["twins"], lambda item: not item.held_out_shape),
        NEW_PAIRS: only(judged["plain"], lambda item: item.held_out is True),
        KNOWN_PAIRS: only(judged["plain"], lambda item: item.held_out is False),
    }
    for name, pictures in further.items():
        if any(pictures.values()):
            groups[name] = whole_graph_figures(pictures)
    return groups


def held_out_differences(judged: Mapping[str, Judged]) -> dict[str, Any]:
    """Return what was held out -> the adapter's share of whole graphs there less the other one.

    A held-out shape is compared with the trained shapes of as many statements in the same world.
    """

    def rows(world: Judged, is_wanted: Callable[[EvaluationItem], bool]) -> Rows:
        found = all_right_rows(only(world, is_wanted).get(Arm.GRAPH, ()))
        # In each number of statements by itself, since the numbers are not equally hard.
        return [
            (value, str(size), cluster) for size, own in found.items() for value, _, cluster in own
        ]

    found = {
        f"shapes of graphs ({name})": (
            rows(world, lambda item: item.held_out_shape is True),
            rows(world, lambda item: item.held_out_shape is False),
        )
        for name, world in judged.items()
    }
    found["pairs of objects"] = (
        rows(judged["plain"], lambda item: item.held_out is True),
        rows(judged["plain"], lambda item: item.held_out is False),
    )
    return {
        name: difference_estimate(*sides).to_json() for name, sides in found.items() if all(sides)
    }


def with_control(groups: dict[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """Return the groups with the arm ``graph`` of the control's groups as the arm ``control``."""
    return {
        name: {**own, "arms": {**own["arms"], "control": control[name]["arms"]["graph"]}}
        if name in control
        else own
        for name, own in groups.items()
    }


def control_of(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with the control of an earlier one.

    Args:
        earlier: A record with a control.
        record: A record without one.

    Raises:
        SgfluxError: if the earlier record has no control, or was measured otherwise.
    """
    if earlier["control"] is None:
        raise SgfluxError("--control-of: the record has no control")

    def measured_on(one: Mapping[str, Any]) -> dict[str, Any]:
        pictures = [own["pictures_sha256"] for own in one["worlds"].values()]
        return {"world": pictures, **{name: one[name] for name in ("base", "judge", "settings")}}

    was, is_now = measured_on(earlier), measured_on(record)
    differing = [name for name in was if was[name] != is_now[name]]
    if differing:
        raise SgfluxError(f"--control-of: the record has other {' and '.join(differing)}")
    control = {
        name: {"arms": {"graph": own["arms"]["control"]}}
        for name, own in earlier["groups"].items()
        if "control" in own["arms"]
    }
    groups = with_control(record["groups"], control)
    measured = {"date": earlier["date"], "commit": earlier["commit"], **earlier["control"]}
    return {**record, "control": measured, "groups": groups}


# --- drawing --------------------------------------------------------------------------------------


def draw_and_judge(
    folder: Path, worlds: Path, settings: Mapping[str, Any], *, arms: tuple[ArmName, ...]
) -> tuple[dict[str, Judged], dict[str, dict[str, Any]]]:
    """Evaluate on both worlds, or finish that.

    Args:
        folder: Folder of the evaluations.
        worlds: Folder of the worlds.
        settings: Flat settings of the evaluations.
        arms: Arms that are drawn.

    Returns:
        World -> judged pictures, and world -> content of ``evaluation_results.json``.
    """
    judged: dict[str, Judged] = {}
    results: dict[str, dict[str, Any]] = {}
    for name in WORLDS:
        config = EvalConfig.from_flat(
            data=worlds / name / "test.jsonl",
            output_dir=folder / name,
            arms=arms,
            ranking_sigmas=0,
            **settings,
            **(
                {"base_prompts": worlds / name / "validation.jsonl"}
                if "base_relational" in arms and settings.get("generator") is None
                else {}
            ),
        )
        print(f"{name}: {folder / name}", flush=True)
        evaluate(config)
        results[name] = read_results(folder / name)
        judged[name] = read_lines(folder / name / PICTURE_RESULTS, results[name])
    return judged, results


def planned_pictures(worlds: Path, *, has_control: bool) -> dict[str, int]:
    """Return way to draw -> number of pictures: by the base, and without and with a graph."""
    counts = {"base": 0, "no graph": 0, "graph": 0}
    for name in WORLDS:
        test, validation = (
            read_examples(worlds / name / f"{split}.jsonl") for split in ("test", "validation")
        )
        for arm in Arm:
            way = "graph" if arm.has_graph else "no graph" if arm.uses_adapter else "base"
            counts[way] += len(test)
        wordings = {tuple(map(wording, validation)) for wording in WORDINGS.values()}
        counts["base"] += len(wordings) * len(validation)
        counts["graph"] += len(test) * has_control
    return counts


def seconds_a_picture(settings: Mapping[str, Any], data: Path) -> dict[str, float]:
    """Draw one batch in each way; returns way -> CPU seconds a picture."""
    config = EvalConfig.from_flat(data=data, **settings)
    pipeline = SceneGraphFluxPipeline.from_settings(config.model, config.trained, config.compute)
    examples = read_examples(data)[-config.drawing.batch_size :]
    prompts = [prompt_for(example, "neutral") for example in examples]
    pipeline.encode_text(prompts[:1])  # what a first call sets up is not timed
    found = {}
    for way in ("base", "no graph", "graph"):
        has_graph = way == "graph"
        started = time.process_time()
        pipeline.sample_batch(
            [example.graph for example in examples] if has_graph else None,
            prompts,
            range(len(prompts)),
            steps=config.drawing.steps,
            graph_scale=config.drawing.graph_scale if has_graph else 1.0,
            use_adapter=way != "base",
            # Boxes that are known cost less than predicted ones.
            boxes=config.boxes if has_graph and config.boxes != "oracle" else None,
        )
        found[way] = (time.process_time() - started) / len(prompts)
    return found


# --- tables ---------------------------------------------------------------------------------------


def cell(entry: Mapping[str, Any] | None) -> str:
    """A share with its interval, like "83.2 % (79.1 to 86.8)"; a dash where it was not measured."""
    figure = Figure.of(entry)
    return f"{figure.percent} ({figure.interval})" if figure.interval else figure.percent


def judged_aim(aim: Aim, arms: Mapping[str, Any]) -> str:
    """The aim, and whether the adapter reaches it."""
    text, least, multiple = aim
    reached = arms["graph"]["all_right"]["value"]
    words = arms.get("base_relational", {}).get("all_right", {}).get("value") or 0.0
    return f"{text}: {_met(reached >= least and reached >= multiple * words)}"


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def group_table(groups: Mapping[str, Any], figure: str) -> list[str]:
    """Markdown: a line a group, a column an arm.

    Args:
        groups: The groups of the record.
        figure: ``all_right``, beside which the aims stand, ``relation_accuracy`` or
            ``objects_right``.
    """
    drawn = set(chain.from_iterable(own["arms"] for own in groups.values()))
    columns = {arm: heading for arm, heading in COLUMNS.items() if arm in drawn}
    has_aims = figure == "all_right"
    headings = ["scenes", "n", *columns.values(), *(["aim"] if has_aims else [])]
    lines = [_line(headings), _line(["---"] * len(headings))]
    for name, own in groups.items():
        cells = [cell(own["arms"].get(arm, {}).get(figure)) for arm in columns]
        scenes = str(own["arms"]["graph"]["all_right"]["n"])
        aim = [judged_aim(AIMS[name], own["arms"]) if name in AIMS else ""] if has_aims else []
        lines.append(_line([name, scenes, *cells, *aim]))
    return lines


def contradiction_table(groups: Mapping[str, Any]) -> list[str]:
    """Markdown: whom pictures follow, by kind of graph; the aim is for up to three statements."""
    lines = [_line(["scenes", "graph", "text", "neither", "n", "aim"]), _line(["---"] * 6)]
    for name, own in groups.items():
        if (found := own["contradiction"]) is None or name in (NEW_PAIRS, KNOWN_PAIRS):
            continue
        figures = [found[who] for who in ("follows_graph", "follows_text", "neither")]
        is_aim = name in ("1 statement", "2 statements", "3 statements")
        aim = f"≥ 90 %: {_met(figures[0]['value'] >= FOLLOWED)}" if is_aim else ""
        lines.append(_line([name, *map(cell, figures), str(figures[0]["n"]), aim]))
    return lines


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What the tables do not say: differences, no graph, the judge, the base's wordings."""
    said = []
    if (control := record.get("control")) is not None:
        others = record["adapter"].get("stochastic_sampling", False)
        differs = control.get("stochastic_sampling", False) != others
        way = "by Euler steps alone, " if differs else ""
        said.append(
            f"Text control is {control['path']}, whose training text states the relations; it is "
            f"drawn {way}from neutral text with its graph."
        )
    for what, entry in record["held_out"].items():
        figure = Figure.of(entry)
        text = (
            f"Whole graphs with held-out {what} are {figure.points} against others of as many "
            f"statements ({figure.interval})"
        )
        if what.startswith("shapes"):
            text += f"; the aim, at most 10 points less, is {_met(entry['value'] >= -WITHIN)}"
        said.append(f"{text}.")
    null = record["groups"]["1 statement"]["arms"].get("null_graph")
    if null is not None:
        objects, chance = null["objects_right"], record["chance"]
        said.append(
            f"Without a graph, {cell(objects)} of the pictures of one statement show both objects "
            f"(aim ≥ 97 %: {_met((objects['value'] or 0) >= OBJECTS)}), and "
            f"{cell(null['relation_accuracy'])} the relation; random drawing gives {cell(chance)}."
        )
    for name, world in record["worlds"].items():
        told = ", ".join(f"{size}: {wording}" for size, wording in world["wordings"].items())
        said.append(
            f"World {name!r}: the judge reads {cell(world['judge_accuracy'])} of its test "
            f"pictures' statements; the base is told graphs by number of statements as {told}."
        )
    return said


def as_markdown(record: Mapping[str, Any]) -> str:
    """All tables of a record."""
    groups = record["groups"]
    settings = record["settings"]
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    parts = [
        ["Pictures that show every statement of their scene:"],
        group_table(groups, "all_right"),
        ["Single statements (mean over predicates):"],
        group_table(groups, "relation_accuracy"),
        ["All objects of the scene found:"],
        group_table(groups, "objects_right"),
        ["Pictures that follow the graph, where the text states another predicate:"],
        contradiction_table(groups),
        sentences(record),
        [f"Measured with {given}."],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


# --- the command ----------------------------------------------------------------------------------


def without_folders(word: str) -> str:
    """Return a word of the command line; of a path outside of this folder only its end."""
    path = Path(word)
    if not path.is_absolute():
        return word
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return "/".join(path.parts[-2:])


def given_command(script: str) -> str:
    """Return the command line of a benchmark."""
    words = ["python", f"benchmarks/{script}", *map(without_folders, sys.argv[1:])]
    return shlex.join(words)


def named_adapter(path: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record says of an adapter: its folder, its fingerprint, and its sampling."""
    of_plain = results["plain"]
    return {
        "path": without_folders(str(path)),
        "fingerprint": of_plain["adapter"]["fingerprint"],
        "stochastic_sampling": of_plain["settings"]["stochastic_sampling"],
    }


def measure(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    control: Path | None,
    trained_on: Mapping[str, Any],
) -> dict[str, Any]:
    """Draw, judge and count; returns what the JSON file says of it.

    Args:
        folder: Folder of the measurement, which holds its worlds.
        settings: Flat settings of the evaluations, with the adapter.
        control: Bundle of the control; None: there is none.
        trained_on: Arguments in the summary of the training world.
    """
    worlds, started = folder / "worlds", time.process_time()
    judged, results = draw_and_judge(folder / "adapter", worlds, settings, arms=ARM_NAMES)
    groups, of_control = groups_of(judged), None
    one = results["plain"]
    if control is not None:
        of_sampling = {"stochastic_sampling": one["settings"]["stochastic_sampling"]}
        its_judged, its_results = draw_and_judge(
            folder / "control",
            worlds,
            {**settings, **of_sampling, "adapter": control},
            arms=("graph",),
        )
        groups = with_control(groups, groups_of(its_judged))
        of_control = named_adapter(control, its_results)
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "adapter": {**named_adapter(settings["adapter"], results), "trained_on": dict(trained_on)},
        "control": of_control,
        "base": one["model"]["base"],
        "judge": {name: one["judge"][name] for name in ("name", "sha256")},
        "settings": {
            name: one["settings"][name]
            for name in ("steps", "graph_scale", "boxes", "batch_size", "dtype", "seed")
        },
        "chance": one["chance"]["random_drawing"],
        "worlds": {
            name: {
                "arguments": read_arguments(worlds / name),
                "sha256": own["data"]["sha256"],
                "pictures_sha256": own["data"]["pictures_sha256"],
                "judge_accuracy": {
                    "value": own["judge"]["accuracy"],
                    **{key: own["judge"][key] for key in ("ci95", "n")},
                },
                "wordings": own["base_prompts"]["chosen"],
            }
            for name, own in results.items()
        },
        "groups": groups,
        "held_out": held_out_differences(judged),
    }


def adapter_parser(doc: str | None, record: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of every measurement of one adapter.

    Args:
        doc: Docstring of the script, whose first line describes it.
        record: Name of the JSON file in ``benchmarks/results``.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    add = parser.add_argument
    add("--adapter", type=Path, help="Bundle of the adapter.")
    add("--trained-on", type=Path, help="Folder of the world that it was trained on.")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / record)
    add("--table", type=Path, metavar="JSON", help="Print the tables of a finished measurement.")
    return parser


def given_flags(
    parser: argparse.ArgumentParser, as_text: Callable[[Any], str]
) -> argparse.Namespace | None:
    """Read the flags; None if they only ask for the tables of a JSON file, which are then printed.

    Args:
        parser: A parser of :func:`adapter_parser`.
        as_text: Function that makes the tables of a record.
    """
    given = parser.parse_args()
    if given.table is not None:
        print(as_text(json.loads(given.table.read_text(encoding="utf-8"))))
        return None
    if given.adapter is None or given.trained_on is None:
        parser.error("give --adapter and --trained-on, or --table")
    return given


def main() -> None:
    """Estimate, or measure and print, or print what was measured."""
    parser = adapter_parser(__doc__, "hard_graphs.json")
    add = parser.add_argument
    add("--control", type=Path, help="Bundle of an adapter trained with text that states all.")
    add("--control-of", type=Path, metavar="JSON", help="Earlier record, whose control is kept.")
    add("--folder", type=Path, default=Path("runs/hard_graphs"), help="Folder of this adapter.")
    add("--estimate", action="store_true", help="Print pictures and CPU time, and draw nothing.")
    add("--per-class", type=int, default=60, help="Test items of each predicate, in each world.")
    add("--model-id", help="Base model; by default the one that the adapter names.")
    add("--boxes", choices=("predicted", "none", "oracle"), help="Boxes, as for 'sgflux eval'.")
    add("--steps", type=int, default=8)
    add("--graph-scale", type=float, default=1.0)
    add("--batch-size", type=int, default=32)
    add("--device", default="auto")
    add("--dtype", default="fp32")
    if (given := given_flags(parser, as_markdown)) is None:
        return
    earlier = None
    if given.control_of is not None:  # read now: it may be the file that is written
        earlier = json.loads(given.control_of.read_text(encoding="utf-8"))
    trained_on = read_arguments(given.trained_on)
    for name in WORLDS:
        settings = world_settings(name, trained_on, given.per_class)
        make_world(given.folder / "worlds" / name, settings)
    names = (
        "adapter",
        "model_id",
        "boxes",
        "steps",
        "graph_scale",
        "batch_size",
        "device",
        "dtype",
    )
    drawing = {name: getattr(given, name) for name in names}
    if given.estimate:
        worlds = given.folder / "worlds"
        counts = planned_pictures(worlds, has_control=given.control is not None)
        each = seconds_a_picture(drawing, worlds / "plain" / "test.jsonl")
        for way, count in counts.items():
            print(f"{way}: {count:,} pictures, {1000 * each[way]:.0f} ms of CPU time each")
        total = sum(counts[way] * each[way] for way in counts) / 60
        print(f"{sum(counts.values()):,} pictures, {total:.0f} minutes of CPU time to draw")
        return
    record = {
        "command": given_command("hard_graphs.py"),
        **machine(),
        **measure(given.folder, drawing, control=given.control, trained_on=trained_on),
    }
    if earlier is not None:
        record = control_of(earlier, record)
    write_json(given.out, record)
    print(as_markdown(record))


if __name__ == "__main__":
    main()
