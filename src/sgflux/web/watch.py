"""The second tab: a training run, live from its own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element
from PIL import Image

from sgflux.errors import SgfluxError
from sgflux.web.adapters import NONE_FOUND, find_runs
from sgflux.web.choice import Choice, folder_trouble
from sgflux.web.gallery import Gallery
from sgflux.web.panels import text
from sgflux.web.run_files import LOG_FILE, RunFiles

_EVERY = 2.0  # seconds between two looks at the files
_POINTS = 1000  # of a line; more are thinned out


class WatchTab:
    """The tab of one client; it only reads."""

    def __init__(self, *, gallery: Gallery, runs: Path) -> None:
        """Keep what the tab works with.

        Args:
            gallery: Pictures that browsers fetch.
            runs: Folder in which trainings are looked for.
        """
        self._gallery, self._runs = gallery, runs
        self._run: RunFiles | None = None
        self._sheet: tuple[Path, str] | None = None

    def build(self) -> None:
        """Make the elements of the tab."""
        with Element("div").classes("sg-card"):
            self._folder = Choice(
                lambda: find_runs(self._runs, LOG_FILE),
                label="Training run (its --output-dir)",
                trouble=lambda folder: folder_trouble(folder, _read),
                none_found=NONE_FOUND.format(
                    what="training", folder=self._runs.absolute(), command="train"
                ),
                on_change=self._choose,
            )
            self._facts = Element("div").classes("sg-facts").props("aria-live=polite")
        with Element("div") as self._below:
            with Element("div").classes("sg-charts"):
                self._loss = _chart("Losses on training data")
                self._ranking = _chart("Ranking accuracy and validation loss")
            self._samples = Element("div")
            self._log = text("pre", "", "sg-log", tabindex=0, aria_label="Last lines of the log")
        ui.timer(_EVERY, self._look)
        self._choose()

    def refresh(self) -> None:
        """Look again which trainings there are."""
        self._folder.refresh()

    def _choose(self) -> None:
        value = self._folder.field.value
        is_run = bool(value) and folder_trouble(value, _read) is None
        self._run = RunFiles(Path(value)) if is_run else None
        self.close()
        for element in (self._facts, self._samples):
            element.clear()
        for chart in (self._loss, self._ranking):
            _draw(chart, [])
        self._log.text = ""
        self._look()

    def _look(self) -> None:
        if self._folder.field.value is None:
            self.refresh()
        run = self._run
        self._below.set_visibility(run is not None)
        if run is None:
            return
        try:
            changed = run.read()
        except (SgfluxError, OSError):
            self._folder.field.validate()  # it says what is wrong; the next look may find it mended
            return
        if self._folder.field.error:
            self._folder.field.validate()
        if changed:
            self._show(run)
        self._show_sheet(run)

    def _show(self, run: RunFiles) -> None:
        self._facts.clear()
        with self._facts:
            for name, value in _facts(run):
                with Element("div"):
                    text("small", name)
                    text("strong", value)
        losses = [name for name in run.figures("train") if name.startswith("loss")]
        _draw(self._loss, [(name, run.series("train", name)) for name in losses])
        shown = ("ranking_accuracy", "loss", "loss_negative", "loss_null")
        _draw(self._ranking, [(name, run.series("validation", name)) for name in shown])
        self._log.text = "\n".join(run.log)

    def _show_sheet(self, run: RunFiles) -> None:
        newest = run.sheets[-1] if run.sheets else None
        if newest is None or (self._sheet is not None and self._sheet[0] == newest):
            return
        try:
            with Image.open(newest) as image:
                address = self._gallery.jpeg(image.convert("RGB"))
        except OSError:
            return  # it is still being written; the next look finds it whole
        self.close()
        self._sheet = newest, address
        self._samples.clear()
        with self._samples, Element("figure").classes("sg-card"):
            text("figcaption", f"Drawn during the training: {newest.name}")
            image_element = Element("img").classes("sg-sheet")
            image_element._props.update({"src": address, "alt": f"Sample sheet {newest.name}"})

    def close(self) -> None:
        """Drop the picture of the client."""
        if self._sheet is not None:
            self._gallery.drop([self._sheet[1]])
            self._sheet = None


def _read(folder: Path) -> RunFiles:
    """The files of a run, read once."""
    run = RunFiles(folder)
    run.read()
    return run


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    facts = [("Step", f"{run.step:,} of {run.steps:,}" if run.steps else "not begun")]
    if run.is_over:
        facts.append(("State", "finished"))
    else:
        facts.append(("Time left", run.left or "not known yet"))
    if (loss := run.last("train", "loss")) is not None:
        facts.append(("Loss", f"{loss:.4f}"))
    if (speed := run.last("train", "steps_per_second")) is not None:
        facts.append(("Steps per second", f"{speed:.2f}"))
    if (accuracy := run.last("validation", "ranking_accuracy")) is not None:
        facts.append(("Ranking accuracy", f"{100 * accuracy:.1f} %"))
    return facts


def _chart(title: str) -> ui.echart:
    with Element("div").classes("sg-card"):
        text("h2", title)
        chart = ui.echart(
            {
                "animation": False,
                "textStyle": {"fontFamily": "system-ui, sans-serif"},
                "grid": {"left": 52, "right": 52, "top": 34, "bottom": 34},
                "legend": {
                    "type": "scroll",
                    "top": 0,
                    "icon": "roundRect",
                    "itemWidth": 14,
                    "itemHeight": 4,
                    "textStyle": {"color": "#8a949b"},
                },
                "tooltip": {"trigger": "axis"},
                "title": {
                    "text": "Nothing has been measured yet.",
                    "left": "center",
                    "top": "middle",
                    "textStyle": {"color": "#8a949b", "fontSize": 14, "fontWeight": "normal"},
                },
                "xAxis": {"type": "value", "name": "", "splitLine": {"show": False}},
                "yAxis": [
                    {"type": "value", "scale": True, "splitLine": {"lineStyle": {"opacity": 0.25}}},
                    {"type": "value", "min": 0, "max": 1, "splitLine": {"show": False}},
                ],
                "color": ["#0f766e", "#c2571a", "#6d5fb3", "#8a949b", "#b3861f", "#3f7fb3"],
                "series": [],
            }
        )
        chart.classes("sg-chart")
    return chart


def _draw(chart: ui.echart, lines: Sequence[tuple[str, list[tuple[int, float]]]]) -> None:
    series: list[dict[str, Any]] = []
    for name, points in lines:
        if points:
            thin = points[:: -(-len(points) // _POINTS)]
            data = thin if thin[-1] == points[-1] else [*thin, points[-1]]
            series.append(
                {
                    "type": "line",
                    "name": name.replace("_", " "),
                    "data": data,
                    "yAxisIndex": 1 if "accuracy" in name else 0,
                    "showSymbol": len(data) < 20,
                    "lineStyle": {"width": 2},
                }
            )
    chart.options["series"] = series
    chart.options["title"]["show"] = not series
    chart.options["xAxis"]["show"] = chart.options["yAxis"][0]["show"] = bool(series)
    chart.options["yAxis"][1]["show"] = any(one["yAxisIndex"] for one in series)
    chart.update()
