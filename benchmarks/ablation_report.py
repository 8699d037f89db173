"""Report an ablation: means over seeds with their intervals, as a table and a figure.

    python benchmarks/ablation_report.py benchmarks/results/ablation.json

prints the tables from the values of the single seeds.

An interval is the 95 % interval of the mean over seeds, by Student's t. Equal values have none,
since a few equal values do not show how much the next one would differ. A gain is the difference
from the recipe to which one thing was added, seed by seed. A seed has the same pictures, order and
noise in every recipe, so that the interval of a gain is narrower than those of the two means.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_plan import BUDGETS
from result_files import write_json

from sgflux.files.writing import replacing
from sgflux.intervals import student_t95

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

KINDS = {
    "one": "1 statement",
    "two": "2 statements",
    "three": "3 statements",
    "four": "4 statements",
    "twins": ", twins",
}
"""Name of a share of pictures that show whole graphs -> the kind of graph, or the end of its name
for all kinds of trained shapes with twins."""

TITLES = {
    "whole_graphs": "whole graphs",
    **{name: kind.strip(", ") for name, kind in KINDS.items()},
    "both_right": "two statements right",
    "held_out_combinations": "unseen pairs",
    "null_graph": "relation without graph",
}
"""What tables and pictures call a figure, where it is not its name."""

GAIN_OF = "whole_graphs"
"""The figure whose gain the table has: the mean of the shares of :data:`KINDS`. Results from before
graphs were counted as wholes have the gain of their relation accuracy."""

SHOWN = ("whole_graphs", "three", "four", "twins", "follows_graph")
"""The figures that the picture shows."""

_COLORS = ("#4477aa", "#aaccee", "#cc6633", "#eebb99", "#228833", "#99cc99")


def figures_of(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Figures of one evaluation; a figure that it lacks is None."""
    kinds = {name: _whole(results.get("graph_kinds") or {}, kind) for name, kind in KINDS.items()}
    shares = [share for share in kinds.values() if share is not None]
    whole = statistics.fmean(shares) if shares else None
    figures = {name: _at(results, path) for name, path in FIGURES.items()}
    return {GAIN_OF: whole, **kinds, **figures}


def _whole(kinds: Mapping[str, Any], wanted: str) -> float | None:
    """The share of pictures that show whole graphs of a kind, or of all kinds with such an end."""
    found = [
        kinds[kind]["arms"]["graph"]["all_right"]
        for kind in kinds
        if kind == wanted or (wanted.startswith(",") and kind.endswith(wanted))
    ]
    count = sum(one["n"] for one in found)
    return sum(one["value"] * one["n"] for one in found) / count if count else None


def _at(results: Any, path: Sequence[str]) -> float | None:
    for name in path:
        if not isinstance(results, Mapping) or results.get(name) is None:
            return None
        results = results[name]
    return float(results)


def summary(
    own: Mapping[int, Mapping[str, float | None]],
    compared: Mapping[int, Mapping[str, float | None]],
) -> dict[str, Any]:
    """Figures of a recipe over its seeds, and its gain over the compared recipe.

    Args:
        own: Figures of the recipe by seed.
        compared: Figures by seed of the recipe that it is compared with.
    """
    names = dict.fromkeys(name for row in own.values() for name in row)
    figures = {
        name: interval([value for row in own.values() if (value := row[name]) is not None])
        for name in names
    }
    pairs = [(own[seed][GAIN_OF], compared[seed][GAIN_OF]) for seed in own if seed in compared]
    gains = [a - b for a, b in pairs if a is not None and b is not None]
    return {"seeds": len(own), "figures": figures, "gain": interval(gains)}


def interval(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean, and its 95 % interval by Student's t.

    Values that do not differ have no interval, and an empty sequence has no mean either.
    """
    if not values:
        return None
    mean = statistics.fmean(values)
    bounds = None
    if max(values) - min(values) > 1e-9:
        half = student_t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        # The last digits of a quantile are scipy's version's own.
        bounds = [round(mean - half, 12), round(mean + half, 12)]
    return {"mean": mean, "ci95": bounds, "values": list(values)}


def as_table(rows: Sequence[Mapping[str, Any]], *, unfinished: Sequence[str] = ()) -> str:
    """Markdown tables: an overview, then a table for each size and budget with a line a recipe.

    Args:
        rows: Rows of ``results.json``: recipe, what, per_class, budget, and either ``failed`` or
            the result of :func:`summary`.
        unfinished: Names of the trainings that are not finished.
    """
    # Ranking accuracy stands only beside its errors, and the ablation's results hold none.
    done = [row["figures"] for row in rows if "figures" in row]
    known = dict.fromkeys(name for figures in done for name in figures)
    names = [name for name in known if name != "ranking_accuracy"]
    heads = ["recipe", "gain", *map(_title, names)]
    lines = []
    for size, budget in dict.fromkeys((row["per_class"], row["budget"]) for row in rows):
        lines += [f"### {size} pictures a predicate, equal {budget}", ""]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for row in rows:
            if (row["per_class"], row["budget"]) != (size, budget):
                continue
            if "failed" in row:
                cells = [f"failed: {row['failed']}"] + [""] * (len(heads) - 2)
            else:
                figures = [_cell(row["figures"][name]) for name in names]
                cells = [_cell(row["gain"], sign="+"), *figures]
            lines.append(f"| **{row['recipe']}** | {' | '.join(cells)} |")
        lines.append("")
    if unfinished:
        lines += [f"Not finished: {', '.join(unfinished)}.", ""]
    return "\n".join(_overview(rows) + lines)


def _overview(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each recipe: its gain, and its figure at each size.

    The gain is over the pairs of all sizes together, which makes its interval narrower.
    """
    done = [row for row in rows if "failed" not in row]
    sizes = list(dict.fromkeys(row["per_class"] for row in done))
    heads = ["recipe", "what it adds", "to", "gain", "gain in equal time"]
    heads += [f"{size} pictures a predicate" for size in sizes]
    has_whole = any(GAIN_OF in row["figures"] for row in done)
    shown = GAIN_OF if has_whole else "relation_accuracy"
    title = f"{_title(shown).capitalize()}, all sizes together"
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for recipe in dict.fromkeys(row["recipe"] for row in done):
        own = [row for row in done if row["recipe"] == recipe]
        over = own[0]["over"] or ""
        cells = [f"**{recipe}**", own[0]["what"].removeprefix(f"{over} + "), over]
        for budget in BUDGETS:
            gains = [row["gain"] for row in own if row["budget"] == budget and row["gain"]]
            values = [value for gain in gains for value in gain["values"]]
            cells.append(_cell(interval(values), sign="+"))
        for size in sizes:
            here = (row for row in own if (row["per_class"], row["budget"]) == (size, BUDGETS[0]))
            cells.append(_cell(next((row["figures"][shown] for row in here), None)))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


def _cell(figure: Mapping[str, Any] | None, *, sign: str = "") -> str:
    if figure is None:
        return "–"
    text = f"{100 * figure['mean']:{sign}.1f}"
    if figure["ci95"] is not None:
        text += f" ± {100 * (figure['ci95'][1] - figure['mean']):.1f}"
    return text


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a dot with its interval for each recipe, size and budget, in one panel a figure.

    Args:
        rows: Rows as in :func:`as_table`; those that failed are left out.
        path: Path of the PNG, which is not written if there is no row to show.
    """
    from matplotlib.figure import Figure

    shown = [row for row in rows if "figures" in row]
    if not shown:
        return
    recipes = list(dict.fromkeys(row["recipe"] for row in shown))
    kinds = list(dict.fromkeys((row["per_class"], row["budget"]) for row in shown))
    figure = Figure(figsize=(13, 1.6 + 0.42 * len(recipes)), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, name in zip(panels, SHOWN, strict=True):
        for number, kind in enumerate(kinds):
            places, means, halves = [], [], []
            for row in shown:
                found = row["figures"].get(name)
                if (row["per_class"], row["budget"]) != kind or found is None:
                    continue
                shift = (number - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
                places.append(recipes.index(row["recipe"]) + shift)
                means.append(100 * found["mean"])
                bounds = found["ci95"]
                halves.append(0.0 if bounds is None else 100 * (bounds[1] - found["mean"]))
            axes.errorbar(
                means,
                places,
                xerr=halves,
                fmt="o",
                markersize=4,
                capsize=2,
                color=_COLORS[number % len(_COLORS)],
                label=f"{kind[0]} pictures a predicate, equal {kind[1]}",
            )
        axes.set_xlim(-2, 102)
        axes.set_xlabel("%")
        axes.set_title(_title(name))
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(recipes)), recipes)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def with_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``results.json`` with means and intervals computed from the seeds' values."""
    if "failed" in row:
        return dict(row)
    figures = {name: found and interval(found["values"]) for name, found in row["figures"].items()}
    return {**row, "figures": figures, "gain": row["gain"] and interval(row["gain"]["values"])}


def main() -> None:
    """Print the tables of a results file, and update its means and intervals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, help="The results.json of an ablation.")
    path = parser.parse_args().results
    results = json.loads(path.read_text(encoding="utf-8"))
    results["rows"] = [with_intervals(row) for row in results["rows"]]
    write_json(path, results)
    print(as_table(results["rows"], unfinished=results.get("unfinished", ())))


if __name__ == "__main__":
    main()
