"""What reading a data set's graphs merged and left out, told from the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable

from sgflux.data.examples import SceneExample
from sgflux.graphs.merging import merged_line


def repairs(examples: Iterable[SceneExample]) -> str | None:
    """Count statements merged with an earlier one, and relations of an object to itself.

    Rows keep their relationships as written (``meta.relationships_raw``) where the graph has
    others, so that the count is that of the file.

    Returns:
        Both counts in words; None where nothing was merged or left out.
    """
    repeated = self_related = 0
    for example in examples:
        raw = example.meta.get("relationships_raw")
        if not isinstance(raw, list | tuple):
            continue
        own = sum(
            isinstance(entry, list | tuple) and len(entry) == 3 and entry[0] == entry[2]
            for entry in raw
        )
        self_related += own
        repeated += max(0, len(raw) - own - len(example.graph.relationships))
    return merged_line(repeated=repeated, self_related=self_related)
