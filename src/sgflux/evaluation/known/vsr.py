"""Visual Spatial Reasoning (Liu et al. 2023, arXiv:2205.00363): captions that people judged."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from sgflux.data.files import resolve_path
from sgflux.errors import SgfluxError, located
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet, KnownStatement, Source
from sgflux.files.json_files import iter_json_lines
from sgflux.graphs.scene_graph import Triple


class _Caption(Struct):
    image: str
    caption: str
    label: int
    relation: str
    image_link: str = ""
    subj: str | None = None
    obj: str | None = None

    def triple(self) -> Triple | None:
        """Return the caption's statement; where names of objects are missing, it has them."""
        if self.subj is not None and self.obj is not None:
            return Triple(self.subj, self.relation, self.obj)
        said = re.escape(self.relation)
        pattern = rf"the (.+?) (?:is|are|has|have)? ?{said} (?:the |an? )?(.+?)\.?"
        found = re.fullmatch(pattern, self.caption.strip(), flags=re.IGNORECASE)
        return found and Triple(found[1], self.relation, found[2])


KEYS = {"image", "caption", "label", "relation"}
"""Keys by which such a line is known."""


def read_vsr(path: Path, images_dir: Path) -> KnownSet:
    """Read a file of VSR's lines; pictures lie in ``images_dir`` or in COCO's folders below it.

    Raises:
        SgfluxError: naming the line and what is wrong.
    """
    known: dict[Path, list[KnownStatement]] = defaultdict(list)
    for number, row in iter_json_lines(path, _Caption, way_out="get the file of VSR again"):
        with located(f"{path}:{number}"):
            triple = row.triple()
        if triple is None:
            raise SgfluxError(
                f"{path}:{number}: the caption {row.caption!r} does not say 'The A is "
                f"{row.relation} the B'; give the row 'subj' and 'obj'"
            )
        place = resolve_path(row.image, images_dir)
        if not place.exists():
            # The address ends like train2017/000000123456.jpg, as COCO's folders do.
            folder = Path(urlsplit(row.image_link).path).parent.name
            below = resolve_path(f"{folder}/{row.image}", images_dir) if folder else place
            place = below if below.exists() else place
        known[place].append(KnownStatement(triple, bool(row.label), Source.HUMAN))
    return KnownSet([KnownPicture(place, tuple(own)) for place, own in known.items()], {})
