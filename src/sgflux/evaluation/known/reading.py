"""Reads files of known pictures; what kind of file it is, its content says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sgflux.errors import SgfluxError
from sgflux.evaluation.known import photos, rows, vsr
from sgflux.evaluation.known.coco import KEYS as COCO
from sgflux.evaluation.known.coco import Coco, read_coco
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet
from sgflux.evaluation.known.vcoco import read_vcoco
from sgflux.files.json_files import MAX_LINE
from sgflux.files.reading import naming_unreadable

LINES: Sequence[tuple[set[str], Callable[[Path, Path], KnownSet]]] = (
    (photos.KEYS, photos.read_photos),
    (vsr.KEYS, vsr.read_vsr),
    (rows.KEYS, rows.read_rows),
)
"""Keys of a line of a JSONL file -> what reads the file and the folder of its pictures."""

_FORMS = (
    "a JSONL file of sgflux, of VSR or of photographs with 'objects' and 'relations', or a file of "
    "V-COCO together with COCO's instances_*.json"
)


def read_known(paths: Sequence[Path], *, images_dir: Path | None) -> KnownSet:
    """Read what several files know of pictures.

    Args:
        paths: The files.
        images_dir: Folder of the pictures; None: the folder of each file.

    Raises:
        SgfluxError: naming the file and what is wrong; also if no picture is there.
    """
    kinds = {path: _kind(path) for path in paths}
    coco = read_coco([path for path, kind in kinds.items() if kind == "coco"])
    found: list[KnownPicture] = []
    left_out: Counter[str] = Counter()
    for path, kind in kinds.items():
        folder = path.parent if images_dir is None else images_dir
        if kind == "vcoco":
            if not coco.files:
                raise SgfluxError(
                    f"{path} is a file of V-COCO, whose numbers are of COCO's objects; name COCO's "
                    "instances_*.json beside it"
                )
            known = read_vcoco(path, coco, folder)
        elif callable(kind):
            known = kind(path, folder)
        else:
            continue
        there = [picture for picture in known.pictures if picture.path.is_file()]
        if not there:
            raise SgfluxError(
                f"{path}: none of its {len(known.pictures):,} pictures is in {str(folder)!r}; name "
                "their folder (--images-dir)"
            )
        found += there
        left_out.update(known.left_out)
        left_out["pictures that are not in their folder"] += len(known.pictures) - len(there)
    if not found:
        raise SgfluxError(f"{', '.join(map(str, paths))}: holds no pictures; expected {_FORMS}")
    return KnownSet([_with_objects(one, coco) for one in found], dict(+left_out))


def _with_objects(picture: KnownPicture, coco: Coco) -> KnownPicture:
    """Add COCO's objects where a picture's own file has none and COCO knows it by name."""
    objects = coco.objects.get(picture.path.name)
    if picture.objects is not None or objects is None:
        return picture
    return replace(picture, objects=tuple(objects))


def _kind(path: Path) -> str | Callable[[Path, Path], KnownSet]:
    """Return what reads the file; "coco" or "vcoco" for the two that belong together."""
    with naming_unreadable(path), path.open("rb") as file:
        start = file.readline(MAX_LINE)
    try:
        entry = json.loads(start)
    except ValueError:
        # The two files of COCO are one object or list; their readers say what else is wrong.
        entry = None
        if start.lstrip()[:1] == b"[":
            return "vcoco"
        if start.lstrip()[:1] == b"{":
            return "coco"
    if isinstance(entry, list):
        return "vcoco"
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys >= COCO:
        return "coco"
    for needed, reader in LINES:
        if keys >= needed:
            return reader
    raise SgfluxError(f"{path}: is no file of known pictures; expected {_FORMS}")
