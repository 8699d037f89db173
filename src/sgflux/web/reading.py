"""The third tab: an evaluation's report, and any of its rows in the editor."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.web.adapters import NONE_FOUND, find_runs
from sgflux.web.choice import Choice, folder_trouble
from sgflux.web.evaluations import REPORT_FILE, RESULTS_FILE, EvaluatedRow, read_rows
from sgflux.web.panels import message, text
from sgflux.web.trouble import in_brief, trouble_of

ROUTE = "/sgflux/reports"
"""Beginning of the reports' addresses."""

REPORTS: dict[str, Path] = {}
"""Token -> report that a client has opened."""

_COLUMNS: list[dict[str, Any]] = [
    {"name": "row", "label": "Row", "field": "row", "sortable": True, "align": "left"},
    {"name": "graph", "label": "Graph", "field": "graph", "align": "left"},
    {"name": "right", "label": "Judge", "field": "right", "sortable": True, "align": "left"},
]
_JUDGED = {True: "✓ all hold", False: "✗ not all hold", None: "not judged"}


class ReportTab:
    """The tab of one client; it only reads."""

    def __init__(self, *, runs: Path, open_graph: Callable[[SceneGraph, int], None]) -> None:
        """Keep what the tab works with.

        Args:
            runs: Folder in which evaluations are looked for.
            open_graph: Function that shows a graph and a seed in the editor.
        """
        self._runs, self._open_graph = runs, open_graph
        self._rows: dict[int, EvaluatedRow] = {}
        self._token: str | None = None

    def build(self) -> None:
        """Make the elements of the tab."""
        with Element("div").classes("sg-card"):
            self._folder = Choice(
                lambda: find_runs(self._runs, RESULTS_FILE),
                label="Evaluation (its --output-dir)",
                trouble=lambda folder: folder_trouble(folder, read_rows),
                none_found=NONE_FOUND.format(
                    what="evaluation", folder=self._runs.absolute(), command="eval"
                ),
                on_change=self._choose,
            )
        self._below = Element("div")
        self._choose()

    def refresh(self) -> None:
        """Look again which evaluations there are."""
        self._folder.refresh()

    def _choose(self) -> None:
        self._below.clear()
        self.close()
        folder = Path(self._folder.field.value or "")
        self._rows = {}

        def read() -> None:
            self._rows = dict(enumerate(read_rows(folder)))

        if not self._folder.field.value or trouble_of(str(folder), read) is not None:
            return  # the field says what is wrong
        with self._below, Element("div").classes("sg-evaluation"):
            with Element("div").classes("sg-card"):
                self._build_rows()
            with Element("div").classes("sg-card sg-report"):
                self._build_report(folder / REPORT_FILE)

    def _build_rows(self) -> None:
        text("h2", "Rows")
        text("p", "Choose a row to open its graph in the editor, with the seed of its noise.")
        rows = [
            {
                "id": number,
                "row": row.row,
                "graph": "; ".join(map(str, row.graph.labelled_triples()))
                or "; ".join(f"({label})" for label in row.graph.labels()),
                "right": _JUDGED[row.is_right],
            }
            for number, row in self._rows.items()
        ]
        self._trouble = Element("div")
        search = ui.input("Search").props("outlined dense clearable")
        search.classes("sg-field")
        table = ui.table(columns=_COLUMNS, rows=rows, row_key="id", pagination=12)
        table.props("flat dense hide-selected-banner").classes("sg-rows")
        table.bind_filter_from(search, "value")
        table.add_slot(
            "body-cell-graph",
            '<q-td :props="props"><button type="button" class="sg-link" '
            "@click=\"() => $parent.$emit('open', props.row.id)\">"
            "{{ props.value }}</button></q-td>",
        )
        table.on("open", self._open)

    def _open(self, event: Any) -> None:
        row = self._rows[int(event.args)]
        self._trouble.clear()
        try:
            self._open_graph(row.graph, row.seed)
        except SgfluxError as error:
            with self._trouble:
                message(f"Row {row.row} cannot be opened: {in_brief(str(error))}", "error")

    def _build_report(self, path: Path) -> None:
        text("h2", "Report")
        if not path.is_file():
            message(f"There is no {path}; 'sgflux eval report' makes it.")
            return
        self._token = secrets.token_urlsafe(24)
        REPORTS[self._token] = path
        address = f"{ROUTE}/{self._token}"
        text("a", "Open in a window of its own", href=address, target="_blank", rel="noopener")
        frame = Element("iframe").classes("sg-frame-report")
        frame._props.update({"src": address, "title": "Report", "sandbox": "allow-scripts"})

    def close(self) -> None:
        """Forget the report of the client."""
        if self._token is not None:
            REPORTS.pop(self._token, None)
            self._token = None
