"""The last drawings of one client, each with its graph and with the settings that repeat it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nicegui.element import Element

from sgflux.web.gallery import Gallery
from sgflux.web.panels import Panels, text
from sgflux.web.sketch import Sketch
from sgflux.web.studio import Job

_KEPT = 30


@dataclass
class Entry:
    """A drawing.

    Attributes:
        sketch: Graph of the drawing with its places.
        job: Order and pictures.
        panels: Elements that show the pictures.
        thumbnail: Address of a picture in the gallery; "" as long as the entry is not remembered.
    """

    sketch: Sketch
    job: Job
    panels: Panels
    thumbnail: str = ""

    @property
    def is_remembered(self) -> bool:
        """Whether the history has it."""
        return bool(self.thumbnail)

    def drop(self, gallery: Gallery) -> None:
        """Forget the pictures."""
        gallery.drop([*self.panels.addresses, self.thumbnail])


class History:
    """A strip of the last drawings, the newest first."""

    def __init__(self, gallery: Gallery, *, on_choose: Callable[[Entry], None]) -> None:
        """Keep what the strip works with.

        Args:
            gallery: Pictures that browsers fetch.
            on_choose: Function that is given the drawing that a person wants to see again.
        """
        self._gallery, self._on_choose = gallery, on_choose
        self._entries: list[Entry] = []

    def build(self) -> None:
        """Make the strip, empty."""
        self._strip = Element("div").classes("sg-history")

    def add(self, entry: Entry) -> None:
        """Remember a drawing that is finished, and forget the oldest if there are too many."""
        drawn = {arm.value: one for arm, one in entry.job.drawn.items()}
        shown = drawn.get("graph") or next(iter(drawn.values()))
        entry.thumbnail = self._gallery.jpeg(shown.picture.image)
        self._entries.insert(0, entry)
        for old in self._entries[_KEPT:]:
            old.drop(self._gallery)
        del self._entries[_KEPT:]
        self._strip.clear()
        with self._strip:
            text("h2", "History")
            with Element("div").classes("sg-strip"):
                for one in self._entries:
                    self._build_button(one)

    def _build_button(self, entry: Entry) -> None:
        order = entry.job.order
        said = "; ".join(map(str, order.graph.labelled_triples())) or order.prompt or "objects"
        with Element("button").classes("sg-past") as button:
            button._props["type"] = "button"
            image = Element("img")
            image._props.update({"src": entry.thumbnail, "alt": ""})
            text("span", said)
            text("small", f"seed {order.seed}, {order.steps} steps, scale {order.graph_scale:g}")
        button.on("click", lambda _: self._on_choose(entry))

    def close(self) -> None:
        """Forget all pictures."""
        for entry in self._entries:
            entry.drop(self._gallery)
