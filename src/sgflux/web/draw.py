"""The first tab: draw a graph, and see the same noise drawn in several ways."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.model_source import ModelSource
from sgflux.web.command import CommandWindow
from sgflux.web.drawing_card import DrawingCard
from sgflux.web.gallery import Gallery
from sgflux.web.graph_card import GraphCard
from sgflux.web.history import Entry, History
from sgflux.web.panels import Panels, message, text
from sgflux.web.sketch import Sketch, Timeline
from sgflux.web.studio import Job, Phase, Studio
from sgflux.web.trouble import in_brief

FIRST_GRAPH = "dog, above, box"
_LOADING = "Loading the model …"  # or torch, which the worker imports first


@dataclass(frozen=True)
class _Row:
    """A row of an evaluation that was opened.

    Attributes:
        names: Names of its objects, in lower case.
        seed: Seed of its noise.
        seed_before: Seed that the field had before.
    """

    names: frozenset[str]
    seed: int
    seed_before: float | None


def _names(graph: SceneGraph) -> frozenset[str]:
    return frozenset(map(str.casefold, graph.objects))


class DrawTab:
    """The tab of one client; two clients share nothing but the worker."""

    def __init__(
        self,
        *,
        studio: Studio,
        gallery: Gallery,
        runs: Path,
        model: ModelSource,
        adapter: str | None,
    ) -> None:
        """Keep what the tab works with.

        Args:
            studio: Worker that draws.
            gallery: Pictures that browsers fetch.
            runs: Folder in which adapters are looked for.
            model: Base model of the command line.
            adapter: Adapter of the command line; None: the first that is found.
        """
        self._studio, self._gallery = studio, gallery
        self._settings = DrawingCard(
            runs=runs,
            model=model,
            adapter=adapter,
            on_change=self._on_setting,
            on_any_word=lambda allowed: self._graph.allow_any_word(allowed),
        )
        self._graph = GraphCard(
            SceneGraph.parse(FIRST_GRAPH),
            known=self._settings.known_objects,
            on_change=self._on_graph,
            on_read=self._settings.name_text,
        )
        self._history = History(gallery, on_choose=self._repeat)
        self._command = CommandWindow()
        self._shown: Entry | None = None
        self._drawing: Entry | None = None
        self._row: _Row | None = None
        self._said = ""
        self._kept: MutableMapping[str, Any] | None = None

    def build(self) -> None:
        """Make the elements of the tab."""
        with Element("div").classes("sg-columns"):
            with Element("section").classes("sg-left"):
                self._graph.build()
                self._settings.build()
            with Element("section").classes("sg-right"):
                self._build_buttons()
                self._pictures = Element("div")
                with self._pictures, Element("div").classes("sg-welcome"):
                    self._invitation = text("h2", "")
                    text(
                        "p",
                        "The same noise is drawn by the base model, by the adapter without a "
                        "graph, with your graph, and with its roles swapped.",
                    )
                self._history.build()
        self._command.build()
        self._timer = ui.timer(0.2, self._poll, active=False)
        self._graph.refresh()
        self._invite()

    def _build_buttons(self) -> None:
        with Element("div").classes("sg-buttons"):
            self._draw = ui.button("Draw", on_click=self._on_draw).props("no-caps unelevated")
            self._cancel = ui.button("Cancel", on_click=self._on_cancel).props("no-caps flat")
            self._cancel.set_visibility(False)
            self._status = Element("div").classes("sg-job").props("aria-live=polite")
        self._trouble = Element("div")

    def refresh(self) -> None:
        """Look again which adapters there are."""
        self._settings.refresh()

    # --- graph and settings -------------------------------------------------------------------

    def load(self, graph: SceneGraph, *, seed: int) -> None:
        """Show another graph and seed, such as those of a row of an evaluation.

        Raises:
            SceneGraphError: if the graph has too many objects for the editor.
        """
        sketch = Sketch().with_graph(graph)
        before = self._settings.values()["seed"] if self._row is None else self._row.seed_before
        self._row = None
        self._settings.show({"seed": seed})
        self._settings.accept(graph)
        self._graph.take(sketch)
        self._row = _Row(_names(graph), seed, before)

    def keep_in(self, storage: MutableMapping[str, Any]) -> None:
        """Keep graph and settings where they outlast a reload, and show those that are there.

        Args:
            storage: Values that are kept for the browser's tab, as plain JSON.
        """
        kept: Mapping[str, Any] | None = storage.get("draw")
        if kept is not None:
            self._settings.show(kept["settings"])
            self._graph.timeline = Timeline(Sketch.from_json(kept["sketch"]))
            self._graph.refresh()
        self._kept = storage

    def _on_setting(self) -> None:
        self._graph.name_unknown()
        self._keep()

    def _on_graph(self) -> None:
        row = self._row
        if row is not None and row.names.isdisjoint(_names(self._graph.graph)):
            self._row = None
            if self._settings.values()["seed"] == row.seed:
                self._settings.show({"seed": row.seed_before})
        self._keep()

    def _keep(self) -> None:
        self._mark()
        self._invite()
        if self._kept is not None:
            sketch, settings = self._graph.timeline.now.to_json(), self._settings.values()
            self._kept["draw"] = {"sketch": sketch, "settings": settings}

    # --- drawing ------------------------------------------------------------------------------

    def _on_draw(self) -> None:
        is_good, graph = self._settings.validate(), self._graph.checked()
        if graph is None or not is_good:
            return
        order = self._settings.order(graph)
        job = self._studio.submit(order)

        def show_command(title: str, record: dict[str, Any]) -> None:
            self._command.show(title, self._studio.command(job, record))

        panels = Panels(self._gallery, job, show_command)
        self._drawing = Entry(self._graph.timeline.now, job, panels)
        self._trouble.clear()
        self._draw.disable()
        self._cancel.set_visibility(True)
        self._timer.activate()
        self._poll()

    def _on_cancel(self) -> None:
        if self._drawing is not None:
            self._drawing.job.cancel()

    def _show(self, entry: Entry) -> None:
        """Note whose pictures stand on the page; those before are dropped unless remembered."""
        before, self._shown = self._shown, entry
        if before not in (None, entry) and not before.is_remembered:
            before.drop(self._gallery)
        self._mark()

    def _mark(self) -> None:
        """Mark the pictures as long as they are not of the graph and the settings of the page."""
        if self._shown is None:
            return
        changed = {
            "the graph": self._shown.sketch.graph() != self._graph.graph,
            "the settings": not self._settings.repeats(self._shown.job.order),
        }
        self._shown.panels.mark(" and ".join(what for what, is_so in changed.items() if is_so))

    def _invite(self) -> None:
        """Say in place of the first pictures what to do, or what goes on."""
        if self._shown is not None:
            return
        words = "Press Draw to see this graph drawn"
        if self._drawing is not None:
            words = self._said
        elif not self._graph.graph.objects:
            words = "Make a graph, then press Draw"
        self._invitation.text = words

    def _poll(self) -> None:
        """Show what has become of the drawing."""
        entry = self._drawing
        if entry is None:
            return
        job = entry.job
        is_over = job.is_over  # the worker goes on meanwhile
        entry.panels.update(self._pictures)
        if entry.panels.are_there:
            self._show(entry)
        self._say(job)
        if is_over:
            self._drawing = None
        self._invite()
        if not is_over:
            return
        self._timer.deactivate()
        self._draw.enable()
        self._cancel.set_visibility(False)
        if job.error is not None:
            with self._trouble:
                message(in_brief(job.error), "error")
        if job.phase is Phase.DONE:
            self._history.add(entry)

    def _say(self, job: Job) -> None:
        ahead = self._studio.ahead(job) if job.phase is Phase.WAITING else 0
        words = {
            Phase.WAITING: f"Waiting; drawings before yours: {ahead}" if ahead else _LOADING,
            Phase.LOADING: _LOADING,
            Phase.LOOKING: "Looking which parts depend on each word …",
            Phase.CANCELLED: "Cancelled.",
            Phase.FAILED: "Nothing was drawn; the message says why.",
            Phase.DONE: "Point at a word below a picture to see which parts depend on it.",
        }.get(job.phase, "Drawing …")
        if job.phase is Phase.DONE and not any(drawn.heat for drawn in job.drawn.values()):
            words = "Done."
        if words == self._said:
            return
        self._said = words
        self._status.clear()
        with self._status:
            if not job.is_over:
                ui.spinner(size="1.1em")
            text("span", words)

    def _repeat(self, entry: Entry) -> None:
        """Show a drawing of the history, with the graph and the settings that repeat it."""
        order = entry.job.order
        self._settings.accept(order.graph)
        self._graph.take(entry.sketch)
        self._settings.show_order(order)  # the seed may have been that of a row
        if self._drawing is None:
            self._trouble.clear()
            self._pictures.clear()
            entry.panels.rebuild(self._pictures)
            self._show(entry)
            self._say(entry.job)

    def close(self) -> None:
        """Forget the client: cancel its drawing and drop its pictures."""
        self._history.close()
        if self._drawing is not None:
            self._drawing.job.cancel()
        if self._shown is not None:
            self._shown.drop(self._gallery)
