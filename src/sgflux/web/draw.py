"""The first tab: draw a graph, and see the same noise drawn in several ways."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.bases.hub import model_folder
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.reading import GivenGraph, read_graph
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.models.bundle_folder import find_bundle, read_drawing
from sgflux.settings.drawing import NOTHING_RECOMMENDED
from sgflux.settings.model_source import ModelSource
from sgflux.web.adapters import HOW_TO_GET_ONE, find_adapters
from sgflux.web.choice import Choice
from sgflux.web.editor import GraphEditor
from sgflux.web.gallery import Gallery
from sgflux.web.panels import Panels, message, text
from sgflux.web.sketch import Sketch, Timeline
from sgflux.web.studio import Job, Order, Phase, Studio
from sgflux.world.icons import OBJECT_NAMES

FIRST_GRAPH = "dog, above, box"
NO_ADAPTER = "none: the base model alone"
_STEPS = 8  # where the adapter recommends none
_KEPT = 30  # drawings of the history


@dataclass
class _Entry:
    """A drawing of the history."""

    sketch: Sketch
    job: Job
    panels: Panels
    thumbnail: str = ""


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
        self._studio, self._gallery, self._runs, self._model = studio, gallery, runs, model
        self._given_adapter = adapter
        self._timeline = Timeline(Sketch().with_graph(SceneGraph.parse(FIRST_GRAPH)))
        self._history: list[_Entry] = []
        self._entry: _Entry | None = None
        self._is_setting = False
        self._said = ""

    # --- building -----------------------------------------------------------------------------

    def build(self) -> None:
        """Make the elements of the tab."""
        with Element("div").classes("sg-columns"):
            with Element("section").classes("sg-left"):
                self._build_graph()
                self._build_settings()
            with Element("section").classes("sg-right"):
                self._build_buttons()
                self._pictures = Element("div")
                with self._pictures, Element("div").classes("sg-welcome"):
                    text("h2", "Draw a graph, then press Draw")
                    text(
                        "p",
                        "The same noise is drawn by the base model, by the adapter without a "
                        "graph, with your graph, and with its roles swapped.",
                    )
                self._strip = Element("div").classes("sg-history")
        self._timer = ui.timer(0.2, self._poll, active=False)
        self._refresh()

    def _build_graph(self) -> None:
        with Element("div").classes("sg-card"):
            text("h2", "Scene graph")
            self._editor = GraphEditor(
                self._timeline.now,
                names=OBJECT_NAMES,
                on_change=self._on_editor,
                on_undo=self._undo,
                on_redo=self._redo,
            )
            self._remarks = Element("div")
            self._text = ui.textarea(
                "As text", on_change=self._on_written, validation=self._trouble_in_graph
            ).props(
                "outlined dense autogrow debounce=250 spellcheck=false rows=1 hide-bottom-space"
            )
            self._text.classes("sg-field").props('input-class="sg-mono"')
            with ui.expansion("As JSON").classes("sg-expansion"):
                self._json = ui.textarea(
                    on_change=self._on_written, validation=self._trouble_in_graph
                ).props("outlined dense autogrow debounce=250 spellcheck=false hide-bottom-space")
                self._json.props("aria-label=JSON")
                self._json.classes("sg-field").props('input-class="sg-mono"')

    def _build_settings(self) -> None:
        with Element("div").classes("sg-card sg-settings"):
            text("h2", "Drawing")
            self._adapters = Choice(
                lambda: find_adapters(self._runs),
                label="Adapter",
                trouble=self._trouble_with_adapter,
                none_found=HOW_TO_GET_ONE.format(folder=self._runs),
                on_change=self._on_adapter,
                given=self._given_adapter,
                otherwise=NO_ADAPTER,
            )
            self._adapter = self._adapters.field
            self._model_id = ui.input(
                "Base model",
                placeholder="the one that the adapter names, else tiny",
                value=self._model.model_id or "",
                validation=self._trouble_with_model,
            ).props("outlined dense stack-label hide-bottom-space")
            self._model_id.classes("sg-field")
            self._started = steps, scale = self._recommended()
            with Element("div").classes("sg-sliders"):
                self._steps = _slider("Steps", low=1, high=32, step=1, value=steps)
                self._scale = _slider("Graph scale", low=0, high=4, step=0.1, value=scale)
            with Element("div").classes("sg-seed"):
                self._seed = ui.number(
                    "Seed",
                    value=0,
                    min=0,
                    max=2**53 - 1,
                    precision=0,
                    validation={"Give a whole number from 0.": lambda value: value is not None},
                ).props("outlined dense hide-bottom-space")
                ui.button("Random", on_click=self._random_seed).props("flat no-caps dense")
            with ui.expansion("More").classes("sg-expansion"):
                self._prompt = ui.input("Text", placeholder="names the objects").props(
                    "outlined dense stack-label hide-bottom-space"
                )
                self._prompt.classes("sg-field")
                self._open = ui.checkbox("Accept any word as a predicate", on_change=self._on_open)

    def _build_buttons(self) -> None:
        with Element("div").classes("sg-buttons"):
            self._draw = ui.button("Draw", on_click=self._on_draw).props("no-caps unelevated")
            self._cancel = ui.button("Cancel", on_click=self._on_cancel).props("no-caps flat")
            self._cancel.set_visibility(False)
            self._status = Element("div").classes("sg-job").props("aria-live=polite")
        self._trouble = Element("div")

    # --- the three views of the graph ---------------------------------------------------------

    @property
    def graph(self) -> SceneGraph:
        """The graph as it is drawn; its predicates may be unknown."""
        return self._timeline.now.graph()

    def refresh(self) -> None:
        """Look again which adapters there are."""
        self._adapters.refresh()

    def load(self, graph: SceneGraph, *, seed: int) -> None:
        """Show another graph and seed, such as those of a row of an evaluation."""
        self._seed.value = seed
        self._open_for(graph)
        self._take(Sketch().with_graph(graph))

    def _on_editor(self, value: Any) -> None:
        try:
            sketch = Sketch.from_json(value)
            sketch.graph()
        except SgfluxError as error:
            self._refresh()  # the editor shows again what will be drawn
            self._remark(str(error), "error")
            return
        self._take(sketch)

    def _on_written(self, event: Any) -> None:
        if not self._is_setting and self._trouble_in_graph(event.value) is None:
            read = self._read(event.value or "")
            self._take(self._timeline.now.with_graph(read.graph), written=event.sender)
            self._remark(_without_place(read.remark() or ""))  # what the sketch no longer has

    def _read(self, value: SceneGraph | str) -> GivenGraph:
        return read_graph(value, open_vocabulary=self._open.value, where="graph")

    def _trouble_in_graph(self, value: str | None) -> str | None:
        """What is wrong with a graph that is written as text or JSON."""
        try:
            self._timeline.now.with_graph(self._read(value or "").graph)
        except SgfluxError as error:
            return _without_place(str(error))
        return None

    def _take(self, sketch: Sketch, *, written: Any = None) -> None:
        self._timeline.draw(sketch)
        self._refresh(written=written)

    def _undo(self) -> None:
        self._timeline.undo()
        self._refresh()

    def _redo(self) -> None:
        self._timeline.redo()
        self._refresh()

    def _refresh(self, *, written: Any = None) -> None:
        """Bring all views up to the sketch of today, but not the one that a person writes in."""
        timeline, graph = self._timeline, self.graph
        self._editor.show(timeline.now, can_undo=timeline.can_undo, can_redo=timeline.can_redo)
        self._is_setting = True
        try:
            if written is not self._text:
                self._text.value = _text_form(graph)
            if written is not self._json:
                self._json.value = json.dumps(graph.to_json(), ensure_ascii=False)
        finally:
            self._is_setting = False
        self._check()

    def _check(self) -> SceneGraph | None:
        """The graph with canonical predicates, or None and a message why there is none."""
        try:
            read = self._read(self.graph)
        except SgfluxError as error:
            self._remark(_without_place(str(error)), "error")
            return None
        self._remark(_without_place(read.remark() or ""))
        self._prompt._props["placeholder"] = prompts_for_graph(read.graph, "neutral")
        return read.graph

    def _remark(self, words: str, kind: str = "info") -> None:
        self._remarks.clear()
        if words:
            with self._remarks:
                message(words, kind)

    # --- settings -----------------------------------------------------------------------------

    def _random_seed(self) -> None:
        self._seed.value = secrets.randbits(31)

    def _on_open(self) -> None:
        self._editor.allow_any_word(bool(self._open.value))
        self._text.validate()
        self._json.validate()
        self._check()

    def _open_for(self, graph: SceneGraph) -> None:
        """Accept any word if a graph that was drawn before needs it."""
        if any(word not in DEFAULT_VOCABULARY for _, word, _ in graph.relationships):
            self._open.value = True

    def _chosen_adapter(self) -> str | None:
        value = self._adapter.value
        return None if value in (None, "", NO_ADAPTER) else str(value)

    def _trouble_with_adapter(self, _: Any) -> str | None:
        adapter = self._chosen_adapter()
        if adapter is not None:
            try:
                folder = find_bundle(adapter, allow_download=self._model.allow_download)
                read_drawing(folder)
            except SgfluxError as error:
                return str(error)
        return None

    def _recommended(self) -> tuple[int, float]:
        """Steps and graph scale that the sliders start with."""
        drawing, adapter = NOTHING_RECOMMENDED, self._chosen_adapter()
        if adapter is not None:
            # What is wrong with an adapter is said at its field, and it may not be fetched yet.
            with suppress(SgfluxError):
                drawing = read_drawing(find_bundle(adapter, allow_download=False))
        return drawing.chosen(drawing.steps or _STEPS)

    def _on_adapter(self) -> None:
        """Move the sliders that nobody has moved to what the adapter recommends."""
        sliders, started = (self._steps, self._scale), self._started
        self._started = self._recommended()
        for slider, before, now in zip(sliders, started, self._started, strict=True):
            if slider.value == before:
                slider._props["max"] = max(slider._props["max"], now)
                slider.value = now

    def _chosen_model(self) -> str | None:
        return str(self._model_id.value or "").strip() or None

    def _trouble_with_model(self, _: Any) -> str | None:
        if self._chosen_model() is not None:
            try:
                source = replace(self._model, model_id=self._chosen_model())
                if not source.is_file:
                    model_folder(source.rest, **source.hub, parts=())
            except SgfluxError as error:
                return str(error)
        return None

    def _order(self) -> Order | None:
        """What the person wants drawn, or None where a message says what is wrong."""
        fields = (self._text, self._json, self._adapter, self._model_id, self._seed)
        good = [field.validate() for field in fields]  # each shows its own message
        graph = self._check()
        if graph is None or not all(good):
            return None
        if not graph.objects:
            self._remark("There is no object yet: add one, or write a graph as text.", "error")
            return None
        return Order(
            graph=graph,
            model_id=self._chosen_model(),
            adapter=self._chosen_adapter(),
            prompt=self._prompt.value or None,
            seed=int(self._seed.value),
            steps=int(self._steps.value),
            graph_scale=1.0 if graph.is_null else float(self._scale.value),
        )

    # --- drawing ------------------------------------------------------------------------------

    def _on_draw(self) -> None:
        order = self._order()
        if order is None:
            return
        job = self._studio.submit(order)

        def command_of(record: dict[str, Any]) -> str:
            from sgflux.sampling.arms import sample_command  # torch is there by then

            return sample_command(record, adapter=order.adapter)

        self._entry = _Entry(self._timeline.now, job, Panels(self._gallery, job, command_of))
        self._draw.disable()
        self._cancel.set_visibility(True)
        self._trouble.clear()
        self._timer.activate()
        self._poll()

    def _on_cancel(self) -> None:
        if self._entry is not None:
            self._entry.job.cancel()

    def _poll(self) -> None:
        """Show what has become of the job."""
        entry = self._entry
        if entry is None:
            return
        job = entry.job
        entry.panels.update(self._pictures)
        self._say(job)
        if not job.is_over:
            return
        self._timer.deactivate()
        self._draw.enable()
        self._cancel.set_visibility(False)
        if job.error is not None:
            with self._trouble:
                message(job.error, "error")
        if job.phase is Phase.DONE:
            self._remember(entry)

    def _say(self, job: Job) -> None:
        ahead = self._studio.ahead(job) if job.phase is Phase.WAITING else 0
        words = {
            Phase.WAITING: f"Waiting; drawings before yours: {ahead}" if ahead else "Waiting …",
            Phase.LOADING: "Loading the model …",
            Phase.LOOKING: "Looking where the model sees each word …",
            Phase.CANCELLED: "Cancelled.",
            Phase.FAILED: "Nothing was drawn; the message says why.",
            Phase.DONE: "Point at a word below a picture to see where the model sees it.",
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

    # --- history ------------------------------------------------------------------------------

    def _remember(self, entry: _Entry) -> None:
        drawn = {arm.value: one for arm, one in entry.job.drawn.items()}
        shown = drawn.get("graph") or next(iter(drawn.values()))
        entry.thumbnail = self._gallery.jpeg(shown.picture.image)
        self._history.insert(0, entry)
        for old in self._history[_KEPT:]:
            self._gallery.drop([*old.panels.addresses, old.thumbnail])
        del self._history[_KEPT:]
        self._strip.clear()
        with self._strip:
            text("h2", "History")
            with Element("div").classes("sg-strip"):
                for one in self._history:
                    self._history_button(one)

    def _history_button(self, entry: _Entry) -> None:
        order = entry.job.order
        said = "; ".join(map(str, order.graph.labelled_triples())) or order.prompt or "objects"
        with Element("button").classes("sg-past") as button:
            button._props["type"] = "button"
            image = Element("img")
            image._props.update({"src": entry.thumbnail, "alt": ""})
            text("span", said)
            text("small", f"seed {order.seed}, {order.steps} steps, scale {order.graph_scale:g}")
        button.on("click", lambda _, entry=entry: self._repeat(entry))

    def _repeat(self, entry: _Entry) -> None:
        """Show a drawing of the history, with the graph and the settings that repeat it."""
        order = entry.job.order
        if order.adapter is not None and order.adapter not in self._adapter.options:
            self._adapter.set_options([*self._adapter.options, order.adapter])
        self._adapter.value = order.adapter or NO_ADAPTER
        self._model_id.value = order.model_id or ""
        self._prompt.value = order.prompt or ""
        self._seed.value, self._steps.value = order.seed, order.steps
        self._scale.value = order.graph_scale
        self._open_for(order.graph)
        self._take(entry.sketch)
        if self._entry is None or self._entry.job.is_over:
            self._entry = entry
            self._pictures.clear()
            entry.panels.rebuild(self._pictures)
            self._say(entry.job)

    def close(self) -> None:
        """Forget the client: cancel its drawing and drop its pictures."""
        entries = [*self._history, *([self._entry] if self._entry else [])]
        for entry in entries:
            entry.job.cancel()
            self._gallery.drop([*entry.panels.addresses, entry.thumbnail])


def _without_place(words: str) -> str:
    """A message about the graph without the name of the graph and of the command line's flags."""
    return words.removeprefix("graph: ").split(" (--open-vocabulary")[0]


def _text_form(graph: SceneGraph) -> str:
    """A graph as text, or as JSON where its words have no text form."""
    try:
        return graph.to_text()
    except SceneGraphError:
        return json.dumps(graph.to_json(), ensure_ascii=False)


def _slider(label: str, *, low: float, high: float, step: float, value: float) -> ui.slider:
    with Element("label").classes("sg-slider"):
        with Element("span"):
            text("span", label)
            shown = text("output", f"{value:g}")
        slider = ui.slider(min=low, max=max(high, value), step=step, value=value)
        slider._props["aria-label"] = label
    slider.on_value_change(lambda event: shown.set_text(f"{event.value:g}"))
    return slider
