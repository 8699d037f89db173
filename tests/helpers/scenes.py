"""A data set in miniature: small pictures of plain color patches, one relation each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgflux.data.examples import SceneExample, write_examples

SCENES = [
    ("man", "riding", "horse"),
    ("dog", "left of", "car"),
    ("bird", "above", "tree"),
    ("cat", "around/near", "ball"),
    ("girl", "wearing", "hat"),
    ("woman", "holding", "box"),
]


def example(number: int, *, split: str) -> SceneExample:
    subject, predicate, object_ = SCENES[number % len(SCENES)]
    row: dict[str, Any] = {
        "prompt": f"a photo of {subject} {predicate} {object_}",
        "concepts": [subject, predicate, object_],
        "triple": {"subject": subject, "predicate": predicate, "object": object_},
        "meta": {"image_rel_path": f"images/{split}/{number}.png"},
    }
    return SceneExample.from_json(row)


def write_scenes(folder: Path, *, train: int = 6, val: int = 4, size: int = 32) -> Path:
    """Write train.jsonl, val.jsonl and their pictures; returns ``folder``."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (folder / "images" / split).mkdir(parents=True)
        for number in range(count):
            patches = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            pixels = np.kron(patches, np.ones((size // 4, size // 4, 1), dtype=np.uint8))
            Image.fromarray(pixels).save(folder / "images" / split / f"{number}.png")
        write_examples(folder / f"{split}.jsonl", [example(i, split=split) for i in range(count)])
    return folder
