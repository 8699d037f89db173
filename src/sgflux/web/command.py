"""The window with the command that draws a picture again."""

from __future__ import annotations

import re
from typing import Any

from nicegui import ui
from nicegui.element import Element

from sgflux.web.panels import text

_COPY = """() => {{
    getSelection().selectAllChildren(document.getElementById("{id}"));
    emit(document.execCommand("copy"));
}}"""
"""Script that copies an element's text; ``navigator.clipboard`` is there for HTTPS alone."""


class CommandWindow:
    """Shows a command, which can be read, selected and copied."""

    def build(self) -> None:
        """Make the elements of the window, closed."""
        with ui.dialog() as self._dialog, Element("div").classes("sg-card sg-command"):
            self._title = text("h2", "")
            self._command = Element("code")
            with Element("div").classes("sg-buttons"):
                copy = ui.button("Copy").props("no-caps unelevated")
                ui.button("Close", on_click=self._dialog.close).props("no-caps flat")
                self._said = text("span", "", "sg-job").props("aria-live=polite")
        copy.on("click", self._say, js_handler=_COPY.format(id=self._command.html_id))

    def show(self, title: str, command: str) -> None:
        """Open the window.

        Args:
            title: Title of the picture that the command draws.
            command: The command.
        """
        self._title.text = f"Command that draws “{title}” again"
        self._said.text = ""
        self._command.clear()
        with self._command:
            for part in re.split(r"(--[\w-]+)", command):
                text("span", part, "sg-flag" if part.startswith("--") else "")
        self._dialog.open()

    def _say(self, event: Any) -> None:
        self._said.text = "Copied." if event.args else "The command is selected; press Ctrl+C."
