"""A field for an adapter, a training or an evaluation: one that was found, or one that is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from sgflux.web.panels import message
from sgflux.web.trouble import trouble_of


class Choice:
    """The field; its list grows whenever it is opened, since trainings go on meanwhile.

    No row moves while the list is open, for a person may be about to click it. The rows are brought
    into their order when it is closed.

    Attributes:
        field: Element of the page; its value is what is chosen, or None.
    """

    def __init__(
        self,
        find: Callable[[], list[str]],
        *,
        label: str,
        trouble: Callable[[str | None], str | None],
        none_found: str,
        on_change: Callable[[], None] | None = None,
        given: str | None = None,
        otherwise: str | None = None,
    ) -> None:
        """Make the field, with the first thing found chosen.

        Args:
            find: Returns what there is to choose from.
            label: Label of the field.
            trouble: Says what is wrong with a choice, at the field; None: nothing is.
            none_found: Text that is shown while nothing is found.
            on_change: Function to call after a change.
            given: Choice at first, in place of what is found.
            otherwise: Last thing of the list, which is always there.
        """
        self._find, self._otherwise = find, otherwise
        options = self._options(given)
        self.field = ui.select(
            options,
            value=given or next(iter(options), None),
            label=label,
            with_input=True,
            new_value_mode="add-unique",
            validation=trouble,
            on_change=on_change,
        ).props("outlined dense options-dense hide-bottom-space")
        # A browser says which name was chosen. By its place in the list, as is usual, it would be
        # another name wherever the list was made again meanwhile.
        self.field.props("emit-value option-value=label")
        # Enter takes what stands in the field. Otherwise it would take the row that the list marks:
        # that of the choice before, or that under the pointer.
        unmark = f"runMethod({self.field.id}, 'setOptionIndex', [-1])"
        for key in ("enter", "tab"):
            self.field.on(f"keydown.{key}", js_handler=f"({{target}}) => target.value && {unmark}")
        self.field.classes("sg-field")
        self.field.on("popup-show", self._add_what_is_new)
        self.field.on("popup-hide", self.refresh)
        if given is None and self.field.value is not None:
            self.field.validate()  # what was found may be damaged; the command has checked the rest
        self._none_found = message(none_found)
        self._show_whether_found()

    def refresh(self) -> None:
        """Look again what there is; a choice stays, and without one the first thing is chosen."""
        self._offer(self._options(self.field.value))

    def _add_what_is_new(self) -> None:
        shown = self.field.options
        new = [one for one in self._options(self.field.value) if one not in shown]
        self._offer([*shown, *new])

    def _offer(self, options: list[str]) -> None:
        if options != self.field.options:
            self.field.set_options(options, value=self.field.value or options[0])
        self._show_whether_found()

    def _options(self, chosen: str | None) -> list[str]:
        return [one for one in dict.fromkeys([*self._find(), chosen, self._otherwise]) if one]

    def _show_whether_found(self) -> None:
        self._none_found.set_visibility(self.field.options in ([], [self._otherwise]))


def folder_trouble(folder: str | None, read: Callable[[Path], object]) -> str | None:
    """What is wrong with a folder that a field names; None if it can be read or none is named."""
    return trouble_of(folder, lambda: read(Path(folder))) if folder else None
