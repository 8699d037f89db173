"""The processes that draw pictures together, as far as drawing knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Companions(Protocol):
    """The processes that draw together, this one among them.

    :class:`sgflux.training.processes.processes.Processes` is the implementation of a launcher.
    """

    @property
    def index(self) -> int:
        """Number of this process, from 0."""

    @property
    def count(self) -> int:
        """Number of processes."""

    def wait(self) -> None:
        """Return when every process has got here."""

    def gather(self, items: list[Any]) -> list[Any]:
        """Return the lists of all processes, joined in the order of the processes."""


@dataclass(frozen=True)
class Alone:
    """One process by itself."""

    index: int = 0
    count: int = 1

    def wait(self) -> None:
        """Return at once."""

    def gather(self, items: list[Any]) -> list[Any]:
        """Return the items."""
        return items


ALONE = Alone()
