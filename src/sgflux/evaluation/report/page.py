"""``report.html``: an evaluation as one page that needs nothing else, fit to be shown to somebody.

Figures come from ``evaluation_results.json``, pictures from the evaluation's folder, curves from
the training's ``metrics.jsonl``. Style, charts and pictures are inside the page. This module
computes what is shown; ``page.html.jinja``, ``charts.html.jinja``, ``page.css`` and ``page.js`` say
how.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgflux.caveats import base_note, caveats, overlap_note
from sgflux.evaluation.records import correction_lines
from sgflux.evaluation.report.answers import answers, as_sentence
from sgflux.evaluation.report.charts import LineChart, Series, smooth
from sgflux.evaluation.report.data import Evaluation, read_evaluation
from sgflux.evaluation.report.headline import HeadlineRow, footnotes, headline
from sgflux.evaluation.report.panels import CHOICES, RANDOM_SEED, panels
from sgflux.evaluation.report.tables import (
    REFERENCES,
    arm_rows,
    calibration_tables,
    confusion,
    kind_table,
    moved_rows,
    predicate_rows,
    quality_tables,
    reference_arm,
    traces,
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
        rows: Lines of a table of figures; without any there is no table.
        link: Text and address of a link; None: there is none.
    """

    title: str
    text: str
    code: str = ""
    rows: Sequence[HeadlineRow] = ()
    link: tuple[str, str] | None = None


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
    arms, predicates, shown = arm_rows(results), predicate_rows(evaluation), panels(evaluation)
    return TEMPLATES.get_template("page.html.jinja").render(
        title=title,
        style=_source("page.css"),
        script=_source("page.js"),
        results=results,
        base_note=base_note(results),
        overlap_note=overlap_note(results),
        caveats=caveats(results),
        noises=results["items"]["seeds_per_item"],
        judged=results["judge"]["name"] != "none",
        answers=answers(results, arms, predicates),
        judge_note=as_sentence(results["judge"].get("note") or ""),
        arms=arms,
        tested=any(row.test for row in arms),
        corrected=any(row.corrected.value is not None for row in arms),
        correction_notes=correction_lines(results.get("correction")),
        calibration=calibration_tables(results),
        kinds=kind_table(results),
        predicates=predicates,
        reference=None if (arm := reference_arm(results)) is None else REFERENCES[arm],
        doubtful=any(row.is_doubtful for row in predicates),
        confusion=confusion(evaluation),
        quality=quality_tables(results),
        moved=moved_rows(results),
        panels=shown,
        choices={
            name: words
            for name, words in CHOICES.items()
            if any(name in panel.choices for panel in shown)
        },
        random_seed=RANDOM_SEED,
        predicate_names=sorted({name for one in evaluation.pictures for name in one.predicates}),
        has_boxes=any(picture.boxes for panel in shown for picture in panel.pictures),
        traces=traces(evaluation),
        rows=headline(results),
        footnotes=footnotes(results),
        training=_training(evaluation.training),
        extra_sections=extra_sections,
        written=time.strftime("%Y-%m-%d %H:%M"),
    )


def _source(name: str) -> str:
    """Text of a file that is laid into the page as it is."""
    assert TEMPLATES.loader is not None, "the environment has one"
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]


def _training(rows: Sequence[Mapping[str, Any]]) -> list[LineChart]:
    """Curves of a training: what it learns from, and what validation says of it."""
    train = _points((row for row in rows if row.get("kind") == "train"), "loss")
    judged = [row for row in rows if row.get("kind") == "validation"]
    drawn = [row for row in rows if row.get("kind") == "samples"]
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
                    ("negative graph g⁻", "loss_negative", "negative"),
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
        LineChart(
            "Statements of the sample graphs",
            [
                Series(label, _points(drawn, key), style, dots=True)
                for label, key, style in (
                    ("hold", "obeyed", "graph"),
                    ("are contradicted", "contradicted", "negative"),
                    ("lack an object", "not_found", "null"),
                )
            ],
            percent=True,
        ),
    ]
    observed = (
        replace(chart, series=[one for one in chart.series if one.points]) for chart in charts
    )
    return [chart for chart in observed if chart.series]


def _points(rows: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]
