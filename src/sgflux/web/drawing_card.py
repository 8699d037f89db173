"""The settings of one client's drawings: adapter, base model, steps, graph scale, seed and text."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.bases.hub import BUNDLED_MODEL, model_folder
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle_folder import find_bundle, read_base, read_drawing
from sgflux.settings.drawing import NOTHING_RECOMMENDED
from sgflux.settings.model_source import ModelSource
from sgflux.web.adapters import HOW_TO_GET_ONE, find_adapters
from sgflux.web.choice import Choice
from sgflux.web.panels import text
from sgflux.web.studio import Order
from sgflux.web.trouble import trouble_of
from sgflux.world.icons import OBJECT_NAMES

NO_ADAPTER = "none: the base model alone"
MAX_SEED = 2**53 - 1
"""Larger whole numbers are changed by a browser."""
_STEPS = 8  # where the adapter recommends none


class DrawingCard:
    """The fields of the settings; each shows what is wrong with it."""

    def __init__(
        self,
        *,
        runs: Path,
        model: ModelSource,
        adapter: str | None,
        on_change: Callable[[], None],
        on_any_word: Callable[[bool], None],
    ) -> None:
        """Keep what the card works with.

        Args:
            runs: Folder in which adapters are looked for.
            model: Base model of the command line.
            adapter: Adapter of the command line; None: the first that is found.
            on_change: Function that is called after each change of a setting.
            on_any_word: Function that is told whether any word is a predicate.
        """
        self._runs, self._model, self._given_adapter = runs, model, adapter
        self._on_change, self._on_any_word = on_change, on_any_word

    def build(self) -> None:
        """Make the elements of the card."""
        with Element("div").classes("sg-card sg-settings"):
            text("h2", "Drawing")
            self._adapters = Choice(
                lambda: find_adapters(self._runs),
                label="Adapter",
                trouble=self._trouble_with_adapter,
                none_found=HOW_TO_GET_ONE.format(folder=self._runs.absolute()),
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
            self._base = self._base_of_adapter()
            self._started = steps, scale, is_stochastic = self._recommended()
            with Element("div").classes("sg-sliders"):
                self._steps = _slider("Steps", low=1, high=32, step=1, value=steps)
                self._scale = _slider("Graph scale", low=0, high=4, step=0.1, value=scale)
            with Element("div").classes("sg-seed"):
                self._seed = ui.number(
                    "Seed", value=0, min=0, max=MAX_SEED, precision=0, validation=_trouble_with_seed
                ).props("outlined dense hide-bottom-space")
                ui.button("Random", on_click=self._random_seed).props("flat no-caps dense")
            with ui.expansion("More").classes("sg-expansion"):
                self._prompt = ui.input("Text", placeholder="names the objects").props(
                    "outlined dense stack-label hide-bottom-space"
                )
                self._prompt.classes("sg-field")
                self._stochastic = ui.checkbox("Draw new noise in each step", value=is_stochastic)
                self._any_word = ui.checkbox(
                    "Accept any word as a predicate",
                    on_change=lambda event: self._on_any_word(event.value),
                )
        self._fields: dict[str, Any] = {
            "adapter": self._adapter,
            "model_id": self._model_id,
            "steps": self._steps,
            "graph_scale": self._scale,
            "stochastic_sampling": self._stochastic,
            "seed": self._seed,
            "prompt": self._prompt,
            "any_word": self._any_word,
        }
        for field in self._fields.values():
            field.on_value_change(self._on_change)

    def refresh(self) -> None:
        """Look again which adapters there are."""
        self._adapters.refresh()

    def values(self) -> dict[str, Any]:
        """Return the values of the fields as plain JSON; :meth:`show` takes them."""
        return {name: field.value for name, field in self._fields.items()}

    def show(self, values: Mapping[str, Any]) -> None:
        """Set fields, such as those of an earlier drawing."""
        adapter = values.get("adapter")
        if adapter is not None and adapter not in self._adapter.options:
            self._adapter.set_options([*self._adapter.options, adapter])
        for name, field in self._fields.items():  # the adapter first: it moves sliders
            if name in values:
                value = values[name]
                if isinstance(field, ui.slider):
                    field._props["max"] = max(field._props["max"], value)
                field.value = value

    def show_order(self, order: Order) -> None:
        """Set all fields so that they repeat an order."""
        self.show(
            {
                "adapter": order.adapter or NO_ADAPTER,
                "model_id": order.model_id or "",
                "prompt": order.prompt or "",
                **{
                    name: getattr(order, name)
                    for name in ("seed", "steps", "graph_scale", "stochastic_sampling")
                },
            }
        )

    def accept(self, graph: SceneGraph) -> None:
        """Accept any word if a graph that was drawn before needs it."""
        if any(word not in DEFAULT_VOCABULARY for _, word, _ in graph.relationships):
            self._any_word.value = True

    def name_text(self, graph: SceneGraph) -> None:
        """Show in the field of the text what is taken where it stays empty."""
        self._prompt._props["placeholder"] = prompts_for_graph(graph, "neutral")

    def known_objects(self) -> Sequence[str] | None:
        """Return the objects that the base model knows; None: it is not the bundled one."""
        is_bundled = (self._chosen_model() or self._base) == BUNDLED_MODEL
        return OBJECT_NAMES if is_bundled else None

    def validate(self) -> bool:
        """Return whether all fields are right; each that is not shows a message."""
        are_good = [field.validate() for field in (self._adapter, self._model_id, self._seed)]
        return all(are_good)

    def repeats(self, order: Order) -> bool:
        """Return whether the fields, as they stand, would draw an order's graph as it was drawn."""
        return _trouble_with_seed(self._seed.value) is None and self.order(order.graph) == order

    def order(self, graph: SceneGraph) -> Order:
        """Return what is drawn of a graph, if :meth:`validate` says that all fields are right."""
        return Order(
            graph=graph,
            model_id=self._chosen_model(),
            adapter=self._chosen_adapter(),
            prompt=self._prompt.value or None,
            seed=int(self._seed.value),
            steps=int(self._steps.value),
            graph_scale=1.0 if graph.is_null else float(self._scale.value),
            stochastic_sampling=bool(self._stochastic.value),
        )

    def _random_seed(self) -> None:
        self._seed.value = secrets.randbits(31)

    def _chosen_adapter(self) -> str | None:
        return _adapter_of(self._adapter.value)

    def _trouble_with_adapter(self, value: str | None) -> str | None:
        adapter = _adapter_of(value)
        if adapter is None:
            return None

        def look() -> None:
            read_drawing(find_bundle(adapter, allow_download=self._model.allow_download))

        return trouble_of(adapter, look)

    def _base_of_adapter(self) -> str | None:
        """The base model that the adapter names; None: it names none, or cannot be read."""
        adapter = self._chosen_adapter()
        if adapter is None:
            return BUNDLED_MODEL
        with suppress(SgfluxError, OSError):
            base = read_base(find_bundle(adapter, allow_download=False))
            return None if base is None else base.model_id
        return None

    def _recommended(self) -> tuple[int, float, bool]:
        """Steps, graph scale and whether each step draws new noise, as the fields start."""
        drawing, adapter = NOTHING_RECOMMENDED, self._chosen_adapter()
        if adapter is not None:
            # What is wrong with an adapter is said at its field, and it may not be fetched yet.
            with suppress(SgfluxError, OSError):
                drawing = read_drawing(find_bundle(adapter, allow_download=False))
        return drawing.chosen(drawing.steps or _STEPS)

    def _on_adapter(self) -> None:
        """Set the fields that nobody has changed to what the adapter recommends; note its base."""
        self._base = self._base_of_adapter()
        started, self._started = self._started, self._recommended()
        fields: Sequence[Any] = (self._steps, self._scale, self._stochastic)
        for field, before, now in zip(fields, started, self._started, strict=True):
            if field.value == before:
                if isinstance(field, ui.slider):
                    field._props["max"] = max(field._props["max"], now)
                field.value = now

    def _chosen_model(self) -> str | None:
        return str(self._model_id.value or "").strip() or None

    def _trouble_with_model(self, _: Any) -> str | None:
        model_id = self._chosen_model()

        def look() -> None:
            source = replace(self._model, model_id=model_id)
            if not source.is_file:
                model_folder(source.rest, **source.hub, parts=())

        return None if model_id is None else trouble_of(model_id, look)


def _adapter_of(value: str | None) -> str | None:
    """The adapter that the field names; None for the entry that names none."""
    return None if value in (None, "", NO_ADAPTER) else value


def _trouble_with_seed(value: float | None) -> str | None:
    is_good = value is not None and 0 <= value <= MAX_SEED and value == int(value)
    return None if is_good else f"Give a whole number from 0 to {MAX_SEED}."


def _slider(label: str, *, low: float, high: float, step: float, value: float) -> ui.slider:
    with Element("label").classes("sg-slider"):
        with Element("span"):
            text("span", label)
            shown = text("output", f"{value:g}")
        slider = ui.slider(min=low, max=max(high, value), step=step, value=value)
        slider._props["aria-label"] = label
    slider.on_value_change(lambda event: shown.set_text(f"{event.value:g}"))
    return slider
