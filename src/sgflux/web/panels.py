"""The pictures of a job side by side: progress, verdicts, heat maps, downloads."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from sgflux.data.prompts import prompts_for_graph
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.web.gallery import Gallery, jpeg_bytes
from sgflux.web.studio import Drawn, Job, Phase
from sgflux.web.trouble import in_brief

if TYPE_CHECKING:
    from sgflux.evaluation.judges.judge import Verdict

TITLES = {
    "base": ("Base model", "without the adapter"),
    "no graph": ("No graph", "adapter, text alone"),
    "graph": ("Your graph", "adapter and graph"),
    "roles swapped": ("Roles swapped", "every arrow reversed"),
}
"""Arm -> what its panel is called, and what was told."""

MARKS = {"holds": "✓", "contradicted": "✗", "not found": "?"}
"""Verdict -> its sign; the words stand beside it."""


def text(tag: str, words: str, classes: str = "", **props: Any) -> TextElement:
    """An element of the page with text in it."""
    element = TextElement(tag=tag, text=words).classes(classes)
    element._props.update({name.replace("_", "-"): value for name, value in props.items()})
    return element


@dataclass
class Panel:
    """One picture with what belongs to it.

    Attributes:
        addresses: Addresses in the gallery that the panel uses.
    """

    arm: str
    gallery: Gallery
    show_command: Callable[[str, dict[str, Any]], None]
    addresses: list[str] = field(default_factory=list)
    _shown: str = ""

    def build(self) -> None:
        """Make the panel's elements, empty."""
        title, told = TITLES[self.arm]
        with Element("figure").classes("sg-panel") as self._panel:
            self._panel._props["data-arm"] = self.arm
            with Element("figcaption"):
                text("strong", title)
                text("span", told)
            with Element("div").classes("sg-frame"):
                self._image = Element("img")
                self._image._props.update({"alt": f"{title}: not drawn yet", "hidden": True})
                self._progress = text("span", "", "sg-progress")
            self._below = Element("div").classes("sg-below")

    def step(self, job: Job) -> None:
        """Show how far the picture is."""
        if job.arm is None or job.arm.value != self.arm:
            return
        steps = job.order.steps
        self._progress.text = f"step {job.step} of {steps}"
        self._panel.style(f"--done: {100 * job.step / steps:.0f}%").classes(add="sg-busy")
        preview = job.preview
        if preview is not None and self._shown != f"{job.step}":
            self._shown = f"{job.step}"
            # In the page itself: the next preview comes before a browser has fetched this one.
            content = base64.b64encode(jpeg_bytes(preview)).decode()
            self._show_image(f"data:image/jpeg;base64,{content}", f"{TITLES[self.arm][0]}: preview")

    def _show_image(self, address: str, alt: str) -> None:
        self._image._props.update({"src": address, "alt": alt, "hidden": False})
        self._image._props["data-plain"] = address

    def finish(self, drawn: Drawn) -> None:
        """Show the picture with its verdicts, and its heat maps if they are there."""
        state = "looked" if drawn.heat else "drawn"
        if self._shown == state:
            return
        record = drawn.picture.record
        if self._shown != "drawn":
            self.addresses = [self.gallery.png(drawn.picture.image, record)]
            said = record["prompt"] if drawn.picture.graph is None else _said(drawn.picture.graph)
            self._show_image(self.addresses[0], f"{TITLES[self.arm][0]}: picture of “{said}”")
            self._panel.classes(remove="sg-busy")
            self._progress.text = ""
        self._shown = state
        self._below.clear()
        with self._below:
            self._verdicts(drawn)
            with Element("div").classes("sg-actions"):
                told = f"{record['prompt'][:80]} {self.arm}"
                name = re.sub(r"[^\w]+", "-", told).strip("-").lower()
                text(
                    "a",
                    "PNG",
                    href=self.addresses[0],
                    download=f"{name}-seed{record['seed']}.png",
                    aria_label=f"Download the picture: {TITLES[self.arm][0]}",
                )
                command = text("button", "Command", "sg-link", type="button")
                command.on("click", lambda: self.show_command(TITLES[self.arm][0], record))

    def _verdicts(self, drawn: Drawn) -> None:
        with Element("ul").classes("sg-verdicts"):
            for number, (triple, verdict) in enumerate(drawn.verdicts):
                outcome = "" if verdict is None else verdict.outcome.value
                with Element("li").classes(f"sg-{outcome.replace(' ', '-') or 'unjudged'}"):
                    text("b", MARKS.get(outcome, "·"), aria_hidden="true")
                    with Element("span"):
                        self._words(triple, drawn.heat[number] if drawn.heat else None)
                        text("small", verdict_in_words(drawn, triple, verdict))

    def _words(self, triple: Triple, heat: Any) -> None:
        parts = (triple.subject, triple.predicate, triple.object)
        for number, word in enumerate(parts):
            if heat is None:
                text("span", word)
                continue
            address = self.gallery.jpeg(heat[number])
            self.addresses.append(address)
            title = "Shows which parts of the picture depend on this"
            text("span", word, "sg-word", tabindex=0, data_heat=address, title=title)


@dataclass
class Panels:
    """All pictures of a job, and a line that says what they were drawn from."""

    gallery: Gallery
    job: Job
    show_command: Callable[[str, dict[str, Any]], None]
    _panels: dict[str, Panel] = field(default_factory=dict)
    _noted: list[str] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        """Addresses in the gallery that the panels use."""
        return [address for panel in self._panels.values() for address in panel.addresses]

    @property
    def are_there(self) -> bool:
        """Whether the elements were made."""
        return bool(self._panels)

    def rebuild(self, parent: Element) -> None:
        """Make the elements anew in ``parent``."""
        self.gallery.drop(self.addresses)
        self._panels.clear()
        self._noted.clear()
        self.update(parent)

    def update(self, parent: Element) -> None:
        """Bring the elements in ``parent`` up to the state of the job."""
        job = self.job
        if job.arms and not self._panels:
            parent.clear()
            with parent:
                self._notes = Element("div").classes("sg-notes")
                self._line = text("p", text_of(job), "sg-told", role="status")
            with parent, Element("div").classes("sg-panels") as self._row:
                for arm in job.arms:
                    panel = Panel(arm.value, self.gallery, self.show_command)
                    panel.build()
                    self._panels[arm.value] = panel
        for arm in job.arms:
            panel = self._panels[arm.value]
            drawn = job.drawn.get(arm)
            if drawn is not None:
                panel.finish(drawn)
                self._note(drawn.note)
            elif job.phase is Phase.DRAWING:
                panel.step(job)

    def mark(self, changed: str) -> None:
        """Show whether the pictures are of what stands on the page.

        Args:
            changed: Words for what was changed since, such as "the graph"; "": nothing was.
        """
        told = f"These pictures were drawn before you changed {changed}. Draw makes new ones."
        self._line.text = told if changed else text_of(self.job)
        for element in (self._line, self._row):
            element.classes(add="sg-old") if changed else element.classes(remove="sg-old")

    def _note(self, note: str | None) -> None:
        """Say once above the pictures why they have no verdicts."""
        if note is not None and note not in self._noted:
            self._noted.append(note)
            with self._notes:
                message(note)


_ALL = {1: "The picture is", 2: "Both pictures are", 3: "All three are", 4: "All four are"}


def text_of(job: Job) -> str:
    """Return the sentences that say which text a job's pictures are drawn from."""
    graph, told = job.order.graph, job.order.prompt
    neutral = prompts_for_graph(graph, "neutral")
    words = f"{_ALL[len(job.arms)]} drawn from the text “{in_brief(told or neutral)}”"
    if graph.is_null:
        return f"{words}."
    if len(job.arms) == 1:
        return f"{words}. The base model reads no graph."
    if told in (None, neutral):
        plural = "s" if len(graph.relationships) > 1 else ""
        return f"{words}, which does not state the relation{plural}."
    return f"{words}. “Base model” and “No graph” are told nothing else."


def verdict_in_words(drawn: Drawn, triple: Triple, verdict: Verdict | None) -> str:
    """Return what stands below a statement: the verdict, and the reason for any but "holds"."""
    if verdict is None:  # a note says why nothing is judged
        reason = "" if drawn.note else f"; the judge does not know “{triple.predicate}”"
        return f"not judged{reason}"
    if verdict.holds:
        return "holds"
    outcome = verdict.outcome.value
    if outcome == "not found":
        labels = (triple.subject, triple.object)
        present = {one.casefold() for one in labels} if drawn.present is None else drawn.present
        missing = [f"“{one}”" for one in labels if one.casefold() not in present]
        reason = f"does not find {' or '.join(missing) or 'both objects'}"
    elif verdict.relation is None:
        reason = "does not see this relation"
    else:
        reason = f"reads {'no relation' if verdict.relation == 'none' else f'“{verdict.relation}”'}"
    return f"{outcome}; the judge {reason}"


def _said(graph: SceneGraph) -> str:
    return "; ".join(map(str, graph.labelled_triples()))


def message(words: str, kind: str = "info") -> TextElement:
    """A line of text that stands out, for a remark or an error."""
    return text("p", words, f"sg-message sg-{kind}", role="alert" if kind == "error" else "status")
