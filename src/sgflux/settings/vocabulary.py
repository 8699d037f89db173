"""Which predicates a graph on the command line or in a file may have."""

from __future__ import annotations

from sgflux.settings.checks import settings
from sgflux.settings.shared import VocabularyFile


@settings
class VocabularySettings:
    """Which predicates a graph on the command line or in a file may have."""

    open_vocabulary: bool = False
    """Accept any word as a predicate. Without this flag, a predicate that is neither known nor an
    alias is an error."""
    vocabulary: VocabularyFile = None
