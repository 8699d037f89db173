"""``report.html``: an evaluation as one page that needs nothing else, fit to be shown to somebody.

Figures come from ``evaluation_results.json``, pictures from the evaluation's folder, curves from
the training's ``metrics.jsonl``. Style, charts and pictures are inside the page. This module
computes what is shown; ``page.html.jinja``, ``charts.html.jinja`` and ``page.css`` say how.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgflux.caveats import base_note, overlap_note
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.report.charts import LineChart, Series, smooth
from sgflux.evaluation.report.data import Evaluation, read_evaluation
from sgflux.evaluation.report.headline import (
    ARM_TITLES,
    Figure,
    Results,
    arm_figure,
    footnotes,
    headline,
    predicate_figures,
    verdict,
)
from sgflux.evaluation.report.panels import (
    contradiction_panels,
    predicate_panels,
    several_panels,
)
from sgflux.files.writing import replacing

REPORT = "report.html"
TEMPLATES = Environment(
    loader=PackageLoader("sgflux.evaluation.report", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Heading of the section.
        text: A paragraph.
        code: A paragraph that is set as code; an empty one is left out.
    """

    title: str
    text: str
    code: str = ""


def write_report(
    folder: str | Path,
    *,
    title: str = "Do the pictures obey the graph?",
    metrics: str | Path | None = None,
    extra_sections: Sequence[Section] = (),
) -> Path:
    """Write ``report.html`` into an evaluation's folder.

    Args:
        folder: Folder into which ``sgflux eval`` wrote its results.
        title: Title of the page.
        metrics: the training's ``metrics.jsonl``, for the curves; None leaves them out.
        extra_sections: come before the last one, which says how everything was measured.

    Returns:
        The page's path.

    Raises:
        SgfluxError: if results or pictures are missing or damaged; the message names the file.
    """
    folder = Path(folder)
    evaluation = read_evaluation(folder, metrics=None if metrics is None else Path(metrics))
    page = render(evaluation, title=title, extra_sections=extra_sections)
    path = folder / REPORT
    with replacing(path) as file:
        file.write(page.encode("utf-8"))
    return path


def render(evaluation: Evaluation, *, title: str, extra_sections: Sequence[Section] = ()) -> str:
    """The page."""
    results = evaluation.results
    style, *_ = PackageLoader("sgflux.evaluation.report", "").get_source(TEMPLATES, "page.css")
    return TEMPLATES.get_template("page.html.jinja").render(
        title=title,
        style=style,
        results=results,
        lead=verdict(results),
        cards=[
            ("Judge accuracy on real pictures", Figure.of(results["judge"], key="accuracy"), ""),
            ("Relation accuracy with the graph", arm_figure(results, Arm.GRAPH), "chief"),
            ("Base, told only the objects", arm_figure(results, Arm.BASE_NEUTRAL), ""),
            ("Win rate against the false graph", Figure.of(results.get("win_rate")), ""),
            (
                "Ranking accuracy on real pictures",
                Figure.of(results.get("ranking_accuracy")),
                "ranking",
            ),
        ],
        errors=_errors(results.get("ranking_accuracy") or {}),
        base_note=base_note(results),
        overlap_note=overlap_note(results),
        noises=results["items"]["seeds_per_item"],
        rows=headline(results),
        objects_right={
            arm: Figure.of(entry.get("objects_right")) for arm, entry in results["arms"].items()
        },
        judged=results["judge"]["name"] != "none",
        footnotes=footnotes(results),
        predicates=_by_predicate(results),
        predicate_panels=predicate_panels(evaluation),
        several_panels=several_panels(evaluation),
        contradiction_panels=contradiction_panels(evaluation),
        training=_training(evaluation.training),
        extra_sections=extra_sections,
        arms=[title for arm, title in ARM_TITLES.items() if arm in results["arms"]],
        written=time.strftime("%Y-%m-%d %H:%M"),
    )


def _errors(ranking: Results) -> str:
    """The errors that the ranking accuracy compares, and the one that it leaves out."""
    errors = ranking.get("errors") or {
        "graph": {"value": ranking.get("error_graph")},
        "null_graph": {"value": ranking.get("error_null_graph")},
    }
    return ", ".join(
        f"{name} {errors[key]['value']:.3f}"
        for key, name in (("graph", "e(g⁺)"), ("negative_graph", "e(g⁻)"), ("null_graph", "e(∅)"))
        if key in errors and errors[key]["value"] is not None
    )


def _by_predicate(results: Results) -> list[tuple[str, list[Figure]]]:
    """Relation accuracy of each predicate with and without the graph, and its judge's own."""
    graph = predicate_figures(results, Arm.GRAPH)
    base = predicate_figures(results, Arm.BASE_NEUTRAL)
    judge = results["judge"].get("per_predicate", {})
    return [
        (name, [graph[name], base.get(name, Figure(None)), Figure.of(judge.get(name))])
        for name in sorted(graph, key=lambda name: -(graph[name].value or 0.0))
    ]


def _training(rows: Sequence[Mapping[str, Any]]) -> list[LineChart]:
    """Curves of a training: what it learns from, and what validation says of it."""
    train = _points((row for row in rows if row.get("kind") == "train"), "loss")
    judged = [row for row in rows if row.get("kind") == "validation"]
    parts = [{"step": row["step"], **(row.get("ranking_by_kind") or {})} for row in judged]
    validation = _points(judged, "loss")
    smoothed = smooth(train, window=max(1, len(train) // 15))
    ranking = _points(judged, "ranking_accuracy")
    charts = [
        LineChart(
            "Loss by training step",
            [
                Series("training (smoothed)", smoothed, "base"),
                Series("validation, g⁺", validation if train else (), "graph", dots=True),
            ],
        ),
        LineChart(
            "Validation error by graph",
            [
                Series(label, _points(judged, key), style, dots=True)
                for label, key, style in (
                    ("true graph g⁺", "loss", "graph"),
                    ("no graph", "loss_null", "null"),
                    ("false graph g⁻", "loss_negative", "negative"),
                )
            ],
        ),
        LineChart(
            "Ranking accuracy",
            [
                Series("e(g⁺) < e(g⁻)", ranking, "graph", dots=True),
                *(
                    Series(kind.replace("_", " "), _points(parts, kind), style)
                    for kind, style in (("role_swap", "negative"), ("predicate", "null"))
                    if ranking
                ),
            ],
            reference=0.5,
            percent=True,
        ),
    ]
    observed = (
        replace(chart, series=[one for one in chart.series if one.points]) for chart in charts
    )
    return [chart for chart in observed if chart.series]


def _points(rows: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]
