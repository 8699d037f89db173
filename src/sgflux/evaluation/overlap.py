"""Whether test data were trained or selected on: compared by digests that the bundle keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.seen_rows import overlap
from sgflux.errors import SgfluxError
from sgflux.evaluation.real_pictures import RealPictures


def check_overlap(
    adapter: Path | None,
    examples: Sequence[SceneExample],
    pictures: RealPictures | None,
    *,
    data: Path,
    allowed: bool,
) -> dict[str, Any]:
    """Refuse test data that the adapter has seen.

    Args:
        adapter: the bundle; None: nothing was trained.
        examples: the test set.
        pictures: Pictures of the test data; None: it has none.
        data: Path of the test data, for the message.
        allowed: name an overlap instead of refusing it.

    Returns:
        ``checked``, ``text`` (a sentence, or None without an adapter), and for each split of the
        training how many ``rows`` and ``pictures`` of the test data are in it.

    Raises:
        SgfluxError: if there is an overlap that is not allowed.
    """
    if adapter is None:
        return {"checked": False, "text": None}
    there = [
        example
        for example in examples
        if pictures is not None and resolve_image(example, pictures.images_dir).exists()
    ]
    found = None
    if pictures is not None and there:
        found = overlap(adapter, there, [pictures.digest(example) for example in there])
    if found is None:
        return {"checked": False, "text": "overlap with training data not checked"}
    parts = [
        f"{counts.get('pictures', 0)} of its pictures and {counts.get('rows', 0)} of its "
        f"{len(there)} rows are of the {split} data"
        for split, counts in found.items()
        if any(counts.values())
    ]
    if not parts:
        text = "no picture of it was trained or selected on"
        return {"checked": True, "text": text, **found}
    text = "; ".join(parts)
    if not allowed:
        raise SgfluxError(
            f"{data}: {text} of {adapter}: figures on them say nothing of new pictures. Give data "
            "that neither trained nor selected, or --allow-seen-data to report it with the figures"
        )
    return {"checked": True, "text": text, **found}
