"""The calibration file: what ``sgflux eval calibrate`` writes and ``sgflux eval`` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import Judge, JudgeIdentity
from sgflux.evaluation.judges.router import judge_asked
from sgflux.evaluation.known.shapes import CalibrationShape
from sgflux.files.json_files import checked
from sgflux.files.reading import naming_unreadable, read_json_object
from sgflux.files.writing import make_folder, replacing
from sgflux.versions import installed_versions

FORMAT = "sgflux judge calibration 1"


def write_calibration(
    path: Path, figures: Mapping[str, Any], *, data: Sequence[Path], **record: Any
) -> dict[str, Any]:
    """Write a calibration file, all of it or nothing; returns its content.

    Args:
        path: Path of the file.
        figures: Figures of the judge.
        data: Files that say what is known of the pictures.
        record: Further entries on how the figures came about.
    """
    files = []
    for file in data:
        with naming_unreadable(file), file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        files.append({"path": str(file), "sha256": digest})
    versions = installed_versions(("torch", "transformers", "numpy", "pillow"))
    content = {"format": FORMAT, **figures, "data": files, **record, "versions": versions}
    make_folder(path.parent)
    with replacing(path) as out:
        out.write(json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")
    return content


def read_calibration(path: Path, identity: JudgeIdentity) -> dict[str, Any]:
    """Read the calibration file of a judge, or of one of the judges that a router asks.

    Raises:
        SgfluxError: if it is no such file, is damaged, or another judge was calibrated.
    """
    way_out = "calibrate the judge again with 'sgflux eval calibrate'"
    content = read_json_object(path, "format", "judge", "standing", way_out=way_out)
    if content["format"] != FORMAT:
        raise SgfluxError(
            f"{path}: has the format {content['format']!r}, not {FORMAT!r}; {way_out}"
        )
    checked(content, CalibrationShape, where=str(path), way_out=way_out)
    was = _identity(content["judge"])
    judges = (identity, *identity.parts)
    if was.key not in [one.key for one in judges]:
        asked = ", ".join(map(_named, judges))
        unknown = ""
        if was.name == identity.name and was.key == (was.name, None):
            unknown = ", and the file does not say which models were asked"
        raise SgfluxError(
            f"{path}: is the calibration of {_named(was)}, but the judge is "
            f"{asked}{unknown}; calibrate this judge with 'sgflux eval calibrate'"
        )
    return content


def calibration_for(judge: Judge, path: Path) -> dict[str, Any]:
    """Read the calibration file for an evaluation by ``judge``.

    Returns:
        The content; ``standing`` has only the predicates that the calibrated judge decides about.

    Raises:
        SgfluxError: as :func:`read_calibration`.
    """
    content = read_calibration(path, judge.identity)
    own = {
        name: entry
        for name, entry in content["standing"].items()
        if is_of(content, judge, name) is not False
    }
    return {**content, "standing": own}


def is_of(calibration: Mapping[str, Any], judge: Judge, predicate: str) -> bool | None:
    """Whether a predicate is decided by the judge that was calibrated; None if nobody does."""
    asked = judge_asked(judge, predicate)
    if asked is None:
        return None
    return _identity(calibration["judge"]).key in (judge.identity.key, asked.identity.key)


def _identity(was: Mapping[str, Any]) -> JudgeIdentity:
    return JudgeIdentity(was["name"], was.get("sha256"), model=was.get("model"))


def _named(one: JudgeIdentity) -> str:
    digest = "" if one.sha256 is None else f", SHA-256 {one.sha256[:12]}"
    return f"{one.name!r}" + (f" ({one.model}{digest})" if one.model else "")
