"""Our own data sets: what the graph of a row states is true of its picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sgflux.data.examples import read_examples, resolve_image
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet, KnownStatement, Source

KEYS = {"prompt", "triple", "meta"}
"""Keys by which such a line is known."""


def read_rows(path: Path, images_dir: Path) -> KnownSet:
    """Read a JSONL file of examples.

    Raises:
        SgfluxError: naming the line and what is wrong.
    """
    pictures = []
    left_out: Counter[str] = Counter()
    for example in read_examples(path, open_vocabulary=True):
        objects = None
        if example.boxes is not None:
            objects = tuple(zip(example.graph.objects, example.boxes, strict=True))
        # Which of two dogs a statement is about, its words do not say.
        once = {name for name, n in Counter(example.graph.objects).items() if n == 1}
        stated = [t for t in example.graph.triples() if {t.subject, t.object} <= once]
        left_out["statements about objects of equal names"] += len(example.graph.triples()) - len(
            stated
        )
        pictures.append(
            KnownPicture(
                path=resolve_image(example, images_dir),
                statements=tuple(KnownStatement(t, True, Source.STATED) for t in stated),
                objects=objects,
                is_mirrored=example.is_mirrored,
                also_true=example.known_triples,
                also_shown=example.graph.objects,
            )
        )
    return KnownSet(pictures, dict(+left_out))
