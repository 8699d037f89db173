"""Detectors for the geometry judge. A detector is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import transformers

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import Detector
from sgflux.evaluation.judges.detectors.grounding_dino import GROUNDING_DINO
from sgflux.evaluation.judges.detectors.onnx import DESCRIPTION, OnnxDetector
from sgflux.evaluation.judges.detectors.owlv2 import OWLV2
from sgflux.evaluation.judges.detectors.prompted import PromptedDetector
from sgflux.evaluation.judges.pretrained import expect_source, load

DETECTORS: dict[str, Callable[[str, str], Detector]] = {
    "onnx": OnnxDetector,
    "owlv2": partial(PromptedDetector, OWLV2),
    "grounding-dino": partial(PromptedDetector, GROUNDING_DINO),
    "mm-grounding-dino": partial(PromptedDetector, GROUNDING_DINO),
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
    if (Path(source) / DESCRIPTION).is_file():
        return DETECTORS["onnx"](source, device)
    expect_source(
        source,
        role="detector",
        example="google/owlv2-base-patch16-ensemble",
        lacks=f"neither a {DESCRIPTION} (ONNX) nor a config.json (transformers)",
    )
    kind = load(transformers.AutoConfig, source).model_type
    if kind not in DETECTORS:
        raise SgfluxError(
            f"detector {source!r} is a model of the kind {kind!r}; known are {sorted(DETECTORS)}"
        )
    return DETECTORS[kind](source, device)
