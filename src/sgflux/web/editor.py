"""The editor of scene graphs as an element of the page; ``editor.js`` is its other half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.wordings import WORDINGS
from sgflux.web.sketch import Sketch


class GraphEditor(
    Element,
    component="editor.js",
    esm={"sgflux-vue-flow": "vue_flow", "sgflux-arrows": "arrows"},
):
    """Draws a sketch, and tells what a person has made of it."""

    def __init__(
        self,
        sketch: Sketch,
        *,
        names: Sequence[str],
        on_change: Callable[[Any], None],
        on_undo: Callable[[], None],
        on_redo: Callable[[], None],
    ) -> None:
        """Show a sketch.

        Args:
            sketch: The sketch.
            names: Names that are proposed for objects.
            on_change: Function that is given the changed sketch as JSON.
            on_undo: Function that is called when the person wants to go back.
            on_redo: Function that is called when the person wants to go forward again.
        """
        super().__init__()
        ui.add_css((Path(__file__).parent / "vue_flow" / "style.css").read_text(encoding="utf-8"))
        self._props["editor-id"] = f"editor-{self.id}"
        self._change = 0  # number of the last change that the browser has told
        self._props["sketch"] = {**sketch.to_json(), "change": self._change}
        self._props["names"] = list(names)
        self._props["open"] = False
        self._props["predicates"] = known_predicates()
        self._on_change = on_change
        self.on("change", self._hear)
        self.on("undo", lambda _: on_undo())
        self.on("redo", lambda _: on_redo())

    def _hear(self, event: Any) -> None:
        sketch, self._change = event.args
        self._on_change(sketch)

    def show(self, sketch: Sketch, *, can_undo: bool, can_redo: bool) -> None:
        """Show another sketch, unless the person has changed the one in the browser since."""
        self._props["sketch"] = {**sketch.to_json(), "change": self._change}
        self._props["can-undo"] = can_undo
        self._props["can-redo"] = can_redo

    def allow_any_word(self, allowed: bool) -> None:
        """Say whether any word is a predicate."""
        self._props["open"] = allowed


def known_predicates() -> list[dict[str, Any]]:
    """Return the predicates with all other words by which the text form knows them, as JSON."""
    tables = {"aliases": DEFAULT_VOCABULARY.aliases, "wordings": WORDINGS}
    return [
        {
            "name": name,
            **{
                key: [a for a, own in words.items() if own == name] for key, words in tables.items()
            },
        }
        for name in DEFAULT_VOCABULARY.names
    ]
