"""Detectors for the geometry judge. A detector is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import transformers

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import Detector
from sgflux.evaluation.judges.detectors.grounding_dino import GroundingDinoDetector
from sgflux.evaluation.judges.detectors.onnx import DESCRIPTION, OnnxDetector
from sgflux.evaluation.judges.detectors.owlv2 import Owlv2Detector
from sgflux.evaluation.judges.detectors.pretrained import load

DETECTORS: dict[str, Callable[[str, str], Detector]] = {
    "onnx": OnnxDetector,
    "owlv2": Owlv2Detector,
    "grounding-dino": GroundingDinoDetector,
    "mm-grounding-dino": GroundingDinoDetector,
}
"""Kind -> what loads a detector of a folder or hub id on a device.

A folder with a ``detector.json`` is of the kind "onnx"; the kind of another one, or of a hub id, is
the ``model_type`` of its ``config.json``.
"""


def make_detector(source: str, *, device: str) -> Detector:
    """Load the detector of a folder or hub id.

    Args:
        source: Folder with a ``detector.json``, or with a model of transformers, or a hub id,
            which is downloaded unless the hub's cache has it.
        device: Device on which it runs.

    Raises:
        SgfluxError: if there is no such detector.
    """
    folder = Path(source)
    if (folder / DESCRIPTION).is_file():
        return DETECTORS["onnx"](source, device)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise SgfluxError(
            f"detector folder {source!r} has neither a {DESCRIPTION} (ONNX) nor a config.json "
            "(transformers)"
        )
    if not folder.is_dir() and (folder.exists() or folder.is_absolute() or source.count("/") != 1):
        raise SgfluxError(
            f"detector {source!r} is neither a folder nor a hub id such as "
            "'google/owlv2-base-patch16-ensemble'"
        )
    kind = load(transformers.AutoConfig, source).model_type
    if kind not in DETECTORS:
        raise SgfluxError(
            f"detector {source!r} is a model of the kind {kind!r}; known are {sorted(DETECTORS)}"
        )
    return DETECTORS[kind](source, device)
