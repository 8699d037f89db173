"""The graph of one client: drawn in the editor, as text and as JSON, which stay in step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.reading import GivenGraph, read_graph
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.web.editor import GraphEditor
from sgflux.web.panels import message, text
from sgflux.web.sketch import Sketch, Timeline
from sgflux.web.trouble import in_brief
from sgflux.world.icons import OBJECT_NAMES


class GraphCard:
    """The three views of a graph, the way back to earlier graphs, and what is wrong with the graph.

    Attributes:
        timeline: Sketch of today, and those before it.
    """

    def __init__(
        self,
        first: SceneGraph,
        *,
        known: Callable[[], Sequence[str] | None],
        on_change: Callable[[], None],
        on_read: Callable[[SceneGraph], None],
    ) -> None:
        """Keep what the card works with.

        Args:
            first: Graph at first.
            known: Function that returns the objects that the model knows; None: it may know any.
            on_change: Function that is called after each change of the sketch.
            on_read: Function that is given the graph with canonical predicates, whenever it has
                been read.
        """
        self.timeline = Timeline(Sketch().with_graph(first))
        self._known, self._on_change, self._on_read = known, on_change, on_read
        self._takes_any_word = False
        self._is_setting = False

    def build(self) -> None:
        """Make the elements of the card."""
        with Element("div").classes("sg-card"):
            text("h2", "Scene graph")
            self._editor = GraphEditor(
                self.timeline.now,
                names=OBJECT_NAMES,
                on_change=self._on_editor,
                on_undo=lambda: self._go(self.timeline.undo),
                on_redo=lambda: self._go(self.timeline.redo),
            )
            self._remarks = Element("div")
            self._unknown = message("")
            self._text = self._field("As text").props("rows=1")
            with ui.expansion("As JSON").classes("sg-expansion"):
                self._json = self._field(None).props("aria-label=JSON")

    def _field(self, label: str | None) -> ui.textarea:
        field = ui.textarea(label, on_change=self._on_written, validation=self._trouble)
        field.props("outlined dense autogrow debounce=250 spellcheck=false hide-bottom-space")
        return field.classes("sg-field").props('input-class="sg-mono"')

    @property
    def graph(self) -> SceneGraph:
        """The graph as it is drawn; its predicates may be unknown."""
        return self.timeline.now.graph()

    def allow_any_word(self, allowed: bool) -> None:
        """Say whether any word is a predicate."""
        self._takes_any_word = allowed
        self._editor.allow_any_word(allowed)
        self._text.validate()
        self._json.validate()
        self._check()

    def take(self, sketch: Sketch, *, written: Any = None) -> None:
        """Go on with another sketch; ``written`` is the field in which a person writes it."""
        self._go(lambda: self.timeline.draw(sketch), written=written)

    def checked(self) -> SceneGraph | None:
        """Return the graph with canonical predicates, or None and a message why there is none."""
        are_good = [field.validate() for field in (self._text, self._json)]
        graph = self._check()
        if graph is None or not all(are_good):
            return None
        if not graph.objects:
            self._remark("There is no object yet: add one, or write a graph as text.", "error")
            return None
        return graph

    def _on_editor(self, value: Any) -> None:
        try:
            sketch = Sketch.from_json(value)
            sketch.graph()
        except SgfluxError as error:
            self.refresh()  # the editor shows again what will be drawn
            self._remark(in_brief(error.reason), "error")
            return
        self.take(sketch)

    def _on_written(self, event: Any) -> None:
        if not self._is_setting and self._trouble(event.value) is None:
            read = self._read(event.value or "")
            self.take(self.timeline.now.with_graph(read.graph), written=event.sender)
            self._remark(in_brief(read.remark() or ""))  # what the sketch no longer has

    def _read(self, value: SceneGraph | str) -> GivenGraph:
        return read_graph(value, open_vocabulary=self._takes_any_word, where="")

    def _trouble(self, value: str | None) -> str | None:
        """What is wrong with a graph that is written as text or JSON."""
        try:
            self.timeline.now.with_graph(self._read(value or "").graph)
        except SgfluxError as error:
            return in_brief(error.reason)
        return None

    def _go(self, step: Callable[[], object], *, written: Any = None) -> None:
        step()
        self.refresh(written=written)
        self._on_change()

    def refresh(self, *, written: Any = None) -> None:
        """Bring all views up to the sketch of today, but not the one that a person writes in."""
        timeline, graph = self.timeline, self.graph
        self._editor.show(timeline.now, can_undo=timeline.can_undo, can_redo=timeline.can_redo)
        self._is_setting = True
        try:
            if written is not self._text:
                self._text.value = _text_form(graph)
            if written is not self._json:
                self._json.value = json.dumps(graph.to_json(), ensure_ascii=False)
        finally:
            self._is_setting = False
        self._text.props(remove="hint")  # an empty one would take room
        if (why := _why_parentheses(graph)) is not None:
            self._text.props["hint"] = why
        self.name_unknown()
        self._check()

    def name_unknown(self) -> None:
        """Say which objects the model does not know."""
        known = self._known()
        names = dict.fromkeys(self.graph.objects)
        unknown = [f"“{one}”" for one in names if known and one.casefold() not in known]
        self._unknown.set_visibility(bool(unknown))
        if known and unknown:
            self._unknown.text = in_brief(
                f"The bundled model and its judge know only {len(known)} objects: "
                f"{', '.join(known)}. They do not know {' or '.join(unknown)}."
            )

    def _check(self) -> SceneGraph | None:
        """The graph with canonical predicates, or None and a message why there is none."""
        try:
            read = self._read(self.graph)
        except SgfluxError as error:
            self._remark(in_brief(error.reason), "error")
            return None
        self._remark(in_brief(read.remark() or ""))
        self._on_read(read.graph)
        return read.graph

    def _remark(self, words: str, kind: str = "info") -> None:
        self._remarks.clear()
        if words:
            with self._remarks:
                message(words, kind)


def _why_parentheses(graph: SceneGraph) -> str | None:
    """Why the text form names objects in parentheses before their statements; None: it does not.

    They keep the order of the objects, so that a statement that is turned round changes neither the
    neutral text nor the noise of the objects' layout.
    """
    stated = {label for one in graph.labelled_triples() for label in (one.subject, one.object)}
    parts = _text_form(graph).split("; ")
    early = [f"“{part}”" for part in parts if part[:1] == "(" and part[1:-1] in stated]
    if not early:
        return None
    order = in_brief(prompts_for_graph(graph, "neutral"))
    verb = "keeps" if len(early) == 1 else "keep"
    return f"{', '.join(early)} {verb} the order of the objects in the text “{order}”."


def _text_form(graph: SceneGraph) -> str:
    """A graph as text, or as JSON where its words have no text form."""
    try:
        return graph.to_text()
    except SceneGraphError:
        return json.dumps(graph.to_json(), ensure_ascii=False)
