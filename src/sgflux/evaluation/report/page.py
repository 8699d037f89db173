"""``report.html``: an evaluation as one page that needs nothing else, fit to be shown to somebody.

Figures come from ``evaluation_results.json``, pictures from the evaluation's folder, curves from
the training's ``metrics.jsonl``. Style, charts and pictures are inside the page.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from sgflux.caveats import base_note, overlap_note
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.report.charts import Bar, BarRow, Series, bar_chart, line_chart, smooth
from sgflux.evaluation.report.data import Evaluation, read_evaluation
from sgflux.evaluation.report.headline import (
    ARM_TITLES,
    Figure,
    HeadlineRow,
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


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Heading of the section.
        body: HTML; a section with an empty one is left out.
    """

    title: str
    body: str


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
    sections = [
        Section("The figures", _figures(evaluation.results)),
        Section("By predicate", _by_predicate(evaluation.results)),
        Section("One item of each predicate, the same noise", _pictures(evaluation)),
        Section("Several statements in one graph", _several(evaluation)),
        Section("When text and graph disagree", _contradiction(evaluation)),
        Section("Training", _training(evaluation.training)),
        *extra_sections,
        Section("How it was measured", _method(evaluation.results)),
    ]
    style = (
        resources.files("sgflux.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    )
    body = "".join(
        f"<section><h2>{escape(section.title)}</h2>{section.body}</section>"
        for section in sections
        if section.body
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{_header(evaluation.results, title)}{body}"
        f"<footer>sgflux {escape(evaluation.results['versions']['sgflux'])}, "
        f"{time.strftime('%Y-%m-%d %H:%M')}</footer></main></body></html>\n"
    )


# --- the top ------------------------------------------------------------------------------------


def _header(results: Results, title: str) -> str:
    return (
        f'<header><p class="kicker">sgflux evaluation</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(verdict(results))}</p>{_cards(results)}'
        f'<p class="note">{_what_was_run(results)}</p></header>'
    )


def _what_was_run(results: Results) -> str:
    items = results["items"]
    noises = items["seeds_per_item"]
    return (
        f"Model <b>{escape(str(results['model']['model_id'] or results['generator']))}</b>, "
        f"adapter <code>{_short(results['adapter']['fingerprint'])}</code>{_base_note(results)}, "
        f"{items['rows']} of {items['of']} test items of "
        f"<code>{escape(results['data']['path'])}</code>, "
        f"{noises} noise{'s' if noises > 1 else ''} an item, seed {results['seeds']['seed']}. "
        "Every arm starts from the same noise. Intervals are at 95 %, clustered by image, and also "
        "hold near 0 and 100 %."
    )


def _base_note(results: Results) -> str:
    note = base_note(results)
    return f" (<b>{escape(note)}</b>)" if note else ""


def _cards(results: Results) -> str:
    ranking = results.get("ranking_accuracy") or {}
    cards = [
        ("Judge accuracy on real pictures", Figure.of(results["judge"], key="accuracy"), ""),
        ("Relation accuracy with the graph", arm_figure(results, Arm.GRAPH), " chief"),
        ("Base, told only the objects", arm_figure(results, Arm.BASE_NEUTRAL), ""),
        ("Win rate against the false graph", Figure.of(results.get("win_rate")), ""),
        (f"Ranking accuracy on real pictures{_errors(ranking)}", Figure.of(ranking), ""),
    ]
    return '<div class="cards">{}</div>'.format(
        "".join(
            f'<div class="card{style}"><div class="name">{name}</div>'
            f'<div class="figure">{_number(figure)}</div>'
            f'<div class="interval">{figure.interval or "&nbsp;"}</div></div>'
            for name, figure, style in cards
            if figure.value is not None
        )
    )


def _errors(ranking: Results) -> str:
    """The errors that the ranking accuracy compares, and the one that it leaves out."""
    errors = ranking.get("errors") or {
        "graph": {"value": ranking.get("error_graph")},
        "null_graph": {"value": ranking.get("error_null_graph")},
    }
    known = [
        f"{name} {errors[key]['value']:.3f}"
        for key, name in (("graph", "e(g⁺)"), ("negative_graph", "e(g⁻)"), ("null_graph", "e(∅)"))
        if key in errors and errors[key]["value"] is not None
    ]
    return f" <small>{', '.join(known)}</small>" if known else ""


def _number(figure: Figure) -> str:
    return "–" if figure.value is None else f"{100 * figure.value:.1f}<small> %</small>"


def _figures(results: Results) -> str:
    lines: list[str] = []
    group = ""
    for row in headline(results):
        if row.group != group:
            group = row.group
            lines.append(f'<tr class="group"><td colspan="6">{escape(group)}</td></tr>')
        lines.append(_figure_line(row, results))
    return (
        '<div class="wide"><table><thead><tr><th></th><th class="meter"></th>'
        '<th class="number">share</th>'
        '<th>95 % interval</th><th class="number">objects right</th><th class="number">n</th></tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>" + _how_to_read(results)
    )


def _how_to_read(results: Results) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in footnotes(results))
    if not _is_judged(results):
        return notes
    return (
        '<p class="note">Relation accuracy is averaged over predicates, so that each counts the '
        "same. In every arm the question is whether the picture shows what the <em>item</em> "
        "states: under a false or another graph the right answer is no.</p>" + notes
    )


def _figure_line(row: HeadlineRow, results: Results) -> str:
    value = min(max(row.figure.value or 0.0, 0.0), 1.0)  # a difference may be less
    if not row.figure.is_share:
        value = 0.0
    objects = ""
    if row.arm is not None:
        objects = Figure.of(results["arms"][str(row.arm)].get("objects_right")).percent
    chief = ' class="chief"' if row.arm is Arm.GRAPH else ""
    return (
        f'<tr{chief}><td>{escape(row.label)}<span class="told">{escape(row.note)}</span></td>'
        f'<td class="meter"><span><i style="width:{100 * value:.1f}%"></i></span></td>'
        f'<td class="number"><b>{row.figure.percent}</b></td>'
        f'<td class="interval">{row.figure.interval}</td>'
        f'<td class="number">{objects}</td><td class="number">{row.figure.n}</td></tr>'
    )


# --- charts -------------------------------------------------------------------------------------


def _by_predicate(results: Results) -> str:
    graph = predicate_figures(results, Arm.GRAPH)
    base = predicate_figures(results, Arm.BASE_NEUTRAL)
    judge = {
        name: Figure.of(entry) for name, entry in results["judge"].get("per_predicate", {}).items()
    }
    nothing = Figure(None)
    rows = [
        BarRow(
            name,
            main=_bar(figure),
            reference=_bar(base.get(name, nothing)),
            further=(_bar(judge.get(name, nothing)),),
        )
        for name, figure in sorted(graph.items(), key=lambda entry: -(entry[1].value or 0.0))
    ]
    if not rows:
        return ""
    chart = bar_chart(rows, columns=("g⁺", "base", "judge"), title="Relation accuracy by predicate")
    return (
        '<p class="note"><span class="key"></span> adapter with the true graph, with its 95 % '
        'interval &nbsp; <span class="key base"></span> base with neutral text &nbsp; '
        "“judge”: how often the judge itself is right about real pictures of the predicate</p>"
        f'<div class="wide">{chart}</div>'
    )


def _bar(figure: Figure) -> Bar:
    return Bar(figure.value, figure.low, figure.high)


def _training(rows: Sequence[Mapping[str, Any]]) -> str:
    train = _points((row for row in rows if row.get("kind") == "train"), "loss")
    judged = [row for row in rows if row.get("kind") == "validation"]
    charts = []
    if train:
        window = max(1, len(train) // 15)
        series = [Series("training (smoothed)", smooth(train, window=window), "base")]
        if validation := _points(judged, "loss"):
            series.append(Series("validation, g⁺", validation, "graph", dots=True))
        charts.append(("Loss by training step", line_chart(series, title="Loss by step")))
    errors = [
        Series(label, points, style, dots=True)
        for label, key, style in (
            ("true graph g⁺", "loss", "graph"),
            ("no graph", "loss_null", "null"),
            ("false graph g⁻", "loss_negative", "negative"),
        )
        if (points := _points(judged, key))
    ]
    if errors:
        chart = line_chart(errors, title="Validation error by graph")
        charts.append(("Validation error by graph", chart))
    if ranking := _points(judged, "ranking_accuracy"):
        series = [Series("e(g⁺) < e(g⁻)", ranking, "graph", dots=True)]
        for kind, style in (("role_swap", "negative"), ("predicate", "null")):
            parts = ({"step": r["step"], **(r.get("ranking_by_kind") or {})} for r in judged)
            if points := _points(parts, kind):
                series.append(Series(kind.replace("_", " "), points, style))
        chart = line_chart(series, title="Ranking accuracy by step", reference=0.5, percent=True)
        charts.append(("Ranking accuracy", chart))
    if not charts:
        return ""
    figures = "".join(
        f"<figure><figcaption>{name}</figcaption>{chart}</figure>" for name, chart in charts
    )
    return (
        '<p class="note">Validation is on real pictures that are neither trained on nor reported, '
        "with fixed noise. An adapter that reads its graph explains them better under the true one "
        "than under a false one. With a guided teacher (--lambda-words) both errors rise above the "
        "one without a graph, since the teacher's velocity is not the data's: there pictures are "
        "what tells adapters apart.</p>"
        f'<div class="charts">{figures}</div>'
    )


def _points(rows: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]


# --- pictures -----------------------------------------------------------------------------------


def _pictures(evaluation: Evaluation) -> str:
    panels = predicate_panels(evaluation)
    read = " Below each is what the judge reads in it, ✓ where that is what its caption states."
    return panels and (
        '<p class="note">The first test item of each predicate; none was picked for its looks.'
        f"{read if _is_judged(evaluation.results) else ''}</p>{panels}"
    )


def _several(evaluation: Evaluation) -> str:
    panels = several_panels(evaluation)
    note = '<p class="note">Every statement is judged by itself, in the order of the graph.</p>'
    return panels and (note if _is_judged(evaluation.results) else "") + panels


def _is_judged(results: Results) -> bool:
    """Whether anybody has looked at the pictures."""
    return results["judge"]["name"] != "none"


def _contradiction(evaluation: Evaluation) -> str:
    panels = contradiction_panels(evaluation)
    return panels and (
        '<p class="note">The text states another predicate than the graph: an adapter that reads '
        "its graph follows the graph.</p>" + panels
    )


# --- the end ------------------------------------------------------------------------------------


def _method(results: Results) -> str:
    arms = "; ".join(
        f"<b>{escape(name)}</b>: {escape(told)}"
        for arm, (name, told) in ARM_TITLES.items()
        if str(arm) in results["arms"]
    )
    judge = results["judge"]
    does = (
        "names the relation between two objects of a picture"
        if judge.get("classes")
        else "decides whether a statement holds in a picture"
    )
    note = judge.get("note") or (
        f"The judge “{judge['name']}” {does}. It was "
        f"first asked about {judge['calibrated_on']}; its accuracy above is a ceiling for every "
        "other figure."
    )
    ranking = results["ranking_accuracy"]
    entries = [
        ("command", f"<code>{escape(results['command'])}</code>"),
        ("model", _named(results["model"]["model_id"], results["model"]["fingerprint"])),
        ("base", escape(base_note(results) or "the one that the adapter was trained on")),
        ("adapter", _named(results["adapter"]["path"], results["adapter"]["fingerprint"])),
        ("judge", _named(judge["name"], judge.get("sha256"))),
        ("test data", _named(results["data"]["path"], results["data"]["sha256"])),
        ("overlap with training data", escape(overlap_note(results))),
        ("seeds", f"{results['seeds']['seed']}; noise {escape(results['seeds']['noise'])}"),
        ("sampling", _sampling(results["settings"])),
    ]
    if ranking.get("error_graph") is not None:
        errors = f"{ranking['error_graph']:.4f} with the graph, {ranking['error_null_graph']:.4f}"
        entries.append(("error on real pictures", f"{errors} without"))
    cut = results.get("prompts_cut")
    if cut is not None:
        listed = ", ".join(f"{arm} {entry['cut']}" for arm, entry in cut["arms"].items())
        entries.append(("prompts cut", f"after {cut['limit']} tokens: {escape(listed)}"))
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    entries.append(("versions", escape(versions)))
    entries.append(("time", f"{results['timing']['seconds']:.0f} s"))
    entries_listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in entries)
    return f"<p>{escape(note)}</p><p>Arms: {arms}.</p><dl class='run'>{entries_listed}</dl>"


def _named(name: str | None, fingerprint: str | None) -> str:
    if name is None:
        return "none"
    return f"{escape(name)} <code>{_short(fingerprint)}</code>"


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else escape(fingerprint[:16])


def _sampling(settings: Mapping[str, Any]) -> str:
    text = f"{settings['steps']} steps, graph scale {settings['graph_scale']:g}"
    if settings.get("height") and settings.get("width"):
        text += f", {settings['width']} × {settings['height']} pixels"
    return escape(text)
