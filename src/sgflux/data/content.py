"""What a data set is, wherever its files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sgflux.data.examples import SceneExample


def content_digest(examples: Sequence[SceneExample], pictures: Sequence[str]) -> str:
    """Return the SHA-256 of what rows say and of their pictures' bytes, wherever these are.

    Args:
        examples: the rows.
        pictures: SHA-256 of each row's picture.
    """
    places: dict[str, int] = {}
    digest = hashlib.sha256()
    for example, picture in zip(examples, pictures, strict=True):
        # Which rows share a picture counts, what its file is called does not.
        place = places.setdefault(example.image_rel_path, len(places))
        row: list[object] = [
            example.prompt,
            list(example.concepts),
            str(example.triple),
            example.graph.to_json(),
            None if example.boxes is None else [list(map(float, box)) for box in example.boxes],
            example.is_mirrored,
            place,
            picture,
        ]
        if example.known_triples:  # the digest of other rows is that of earlier versions
            row.append([[one.subject, one.predicate, one.object] for one in example.known_triples])
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
