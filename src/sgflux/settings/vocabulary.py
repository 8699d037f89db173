"""Which predicates a graph on the command line or in a file may have."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import typed_fields
from sgflux.settings.shared import VocabularyFile


@dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """Which predicates a graph on the command line or in a file may have."""

    open_vocabulary: bool = False
    """Accept any word as a predicate. Without this flag, a predicate that is neither known nor an
    alias is an error."""
    vocabulary: VocabularyFile = None

    def __post_init__(self) -> None:
        """Check every value."""
        typed_fields(self)
