"""Small rows and pictures for the tests of data sets."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgflux.data.examples import SceneExample
from sgflux.data.images import image_digest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real data beside the checkout; tests that need them are skipped where they are absent."""

VG_PHOTOS = SHARED_DATA / "vg_photos"

_ROW: dict[str, Any] = {
    "prompt": "a photo of man riding horse",
    "concepts": ["man", "riding", "horse"],
    "triple": {"subject": "man", "predicate": "riding", "object": "horse"},
    "meta": {"image_rel_path": "a.png"},
}


def row(triple: str = "man, riding, horse", **changes: Any) -> dict[str, Any]:
    """A minimal row about ``triple``; ``meta`` is merged, other fields are replaced."""
    subject, predicate, object_ = (word.strip() for word in triple.split(","))
    result = copy.deepcopy(_ROW)
    result["prompt"] = f"a photo of {subject} {predicate} {object_}"
    result["concepts"] = [subject, predicate, object_]
    result["triple"] = {"subject": subject, "predicate": predicate, "object": object_}
    result["meta"].update(changes.pop("meta", {}))
    return {**result, **changes}


def example(triple: str = "man, riding, horse", **changes: Any) -> SceneExample:
    """The example of :func:`row`."""
    return SceneExample.from_json(row(triple, **changes))


def write_lines(path: Path, *lines: object) -> Path:
    """A JSONL file: strings and bytes as they are, anything else as JSON."""
    with path.open("wb") as file:
        for line in lines:
            text = line if isinstance(line, str | bytes) else json.dumps(line)
            file.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
    return path


def write_picture(path: Path, *, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def file_digests(examples: list[SceneExample], images_dir: Path) -> list[str]:
    """SHA-256 of the file of each example's picture."""
    return [image_digest((images_dir / row.image_rel_path).read_bytes()) for row in examples]
