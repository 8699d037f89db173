"""The bundled world as a data set: JSONL and PNG files, balanced, split, reproducible.

Every row has its own random stream, keyed by (seed, split, row), and no picture occurs twice. The
folder is written beside its final place and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgflux import __version__
from sgflux.data.boxes import Box
from sgflux.data.examples import SceneExample, split_summary, write_examples
from sgflux.data.progress import progress_bar
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.files.writing import replace_file, unfinished_folder
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.held_out import LeftOut, NamePair, held_out_pairs
from sgflux.world.icons import OBJECT_NAMES
from sgflux.world.rows import Row, parse_triples, plan_rows
from sgflux.world.scenes import WorldScene, sample_scene
from sgflux.world.shape_spread import Shapes
from sgflux.world.streams import SPLITS, Stream, stream_of_split

_ATTEMPTS = 20
"""Number of scenes that are drawn for a row until one is a new picture."""


def write_world(
    output_dir: str | os.PathLike[str],
    *,
    train_per_class: int,
    val_per_class: int,
    test_per_class: int,
    triples: int | str = 1,
    resolution: int = 64,
    seed: int = 0,
    hold_out_combinations: int = 0,
    hold_out_seed: int | None = None,
    twins: float = 0.0,
    hold_out_shapes: Sequence[str] = (),
    leave_out_predicates: Sequence[str] = (),
    leave_out_objects: Sequence[str] = (),
    progress: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write ``{train,validation,test}.jsonl``, ``images/{split}/*.png`` and ``summary.json``.

    Every split has the same number of rows for each of the 24 predicates, counted by the row's
    triple, which is the first one of its graph; a split of no rows has no file. A row's prompt is
    the relational one of its triple, its graph the whole scene.

    Args:
        output_dir: Folder that does not exist yet, or is empty.
        train_per_class, val_per_class, test_per_class: Number of rows of each predicate in the
            training, validation and test split.
        triples: Number of triples of a scene, 1 to 4, or several numbers as in "1,2,3", over which
            the rows of each predicate are then spread evenly. Scenes of three and four triples are
            spread evenly over the shapes of :mod:`sgflux.world.shapes`.
        resolution: Side of the pictures in pixels.
        seed: Random seed of the data set; equal arguments give equal files.
        hold_out_combinations: Number of (subject, object) pairs, in this order, that no triple of
            the training and validation splits has. Half of the test rows of each predicate are
            then about such a pair (in their first triple; ``meta.held_out_combination``), the
            other half have none. The reversed pair is not held out.
        hold_out_seed: Seed of another world, whose held-out pairs these are to be; None: ``seed``.
        twins: Share of twins among the scenes of each number of triples from two on: two objects of
            one name, which the graph tells apart. They too are spread evenly over their shapes.
        hold_out_shapes: Shapes of graphs that the training and validation splits do not have, each
            by its name or as the text of a graph that has it. Every second test row of as many
            triples (and, like the shape, with or without twins) then has such a shape.
        leave_out_predicates: Canonical predicates that no statement of the training and validation
            splits has. These splits have rows of the other predicates alone.
        leave_out_objects: Names of objects that no picture of these two splits has.
        progress: Whether a bar is shown on standard error.
        command: Command line of the program, which the summary records.

    Returns:
        What ``summary.json`` holds: arguments, objects, held-out pairs, and per split its rows,
        counts by predicate and by number of triples, and the sha256 of its file.

    Raises:
        SgfluxError: on bad arguments; if ``output_dir`` is there already and not an empty folder.
    """
    per_class = {"train": train_per_class, "validation": val_per_class, "test": test_per_class}
    sizes = parse_triples(triples)
    shapes = Shapes.of(sizes, twins=twins, held_out=hold_out_shapes)
    seeds = {"seed": seed, "hold_out_seed": hold_out_seed}
    _check(per_class, seeds=seeds, pairs=hold_out_combinations, shapes=hold_out_shapes)
    left_out = LeftOut.of(leave_out_predicates, leave_out_objects, sizes=sizes)
    if left_out.arguments() and not (train_per_class or val_per_class):
        raise SgfluxError(
            "leave_out_predicates and leave_out_objects have no effect on the test split; give a "
            "training or validation split"
        )
    output_dir = Path(output_dir).resolve()
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise SgfluxError(
            f"{str(output_dir)!r} is there already; give a new folder, or delete this one first"
        )
    held_out = held_out_pairs(
        hold_out_combinations, seed=seed if hold_out_seed is None else hold_out_seed
    )
    summary: dict[str, Any] = {
        "dataset": "sgflux bundled world",
        "sgflux_version": __version__,
        "command": None if command is None else list(command),
        "arguments": {
            "train_per_class": train_per_class,
            "val_per_class": val_per_class,
            "test_per_class": test_per_class,
            "triples": ",".join(map(str, sizes)),
            "resolution": resolution,
            "seed": seed,
            "hold_out_combinations": hold_out_combinations,
            **({} if hold_out_seed is None else {"hold_out_seed": hold_out_seed}),
            **shapes.arguments(),
            **left_out.arguments(),
        },
        "objects": list(OBJECT_NAMES),
        "held_out_pairs": [list(pair) for pair in held_out],
        "splits": {},
    }
    seen: set[bytes] = set()
    with unfinished_folder(output_dir) as partial:
        total = sum(len(left_out.rest(split)[0]) * count for split, count in per_class.items())
        with progress_bar(total, "world", show=progress) as advance:
            for split, count in per_class.items():
                if not count:
                    continue
                examples: list[SceneExample] = []
                predicates, objects = left_out.rest(split)
                plan = plan_rows(
                    split, count, sizes=sizes, held_out=held_out, seed=seed, predicates=predicates
                )
                for row in shapes.spread(plan, split=split, seed=seed):
                    example = _write_row(
                        partial,
                        split,
                        len(examples),
                        row,
                        held_out,
                        resolution,
                        seed,
                        seen,
                        objects=objects,
                        predicates=predicates,
                    )
                    if shapes.are_described:
                        example = shapes.describe(example)
                    examples.append(example)
                    advance(1)
                path = partial / f"{split}.jsonl"
                write_examples(path, examples)
                found = split_summary(path, examples)
                # Every row has a picture of its own, and none is mirrored.
                del found["pictures"], found["mirrored"]
                if shapes.are_described:
                    found |= shapes.counts(examples)
                summary["splits"][split] = found
        replace_file(partial / "summary.json", json.dumps(summary, indent=2) + "\n")
        try:
            # On an empty folder this succeeds, on one that has been filled meanwhile it does not.
            partial.rename(output_dir)
        except OSError as error:
            raise SgfluxError(
                f"the finished data set cannot be put at {str(output_dir)!r}: "
                f"{error.strerror or error}"
            ) from error
    return summary


def _check(
    per_class: dict[str, int],
    *,
    seeds: dict[str, int | None],
    pairs: int,
    shapes: Sequence[str],
) -> None:
    for split, count in per_class.items():
        if count < 0:
            raise SgfluxError(f"the rows per class of {split!r} must be at least 0, got {count}")
    if not any(per_class.values()):
        raise SgfluxError("no split has any rows; give at least one row per class")
    if seeds["hold_out_seed"] is not None and not pairs:
        raise SgfluxError("hold_out_seed has no effect without hold_out_combinations")
    for name, number in seeds.items():
        if number is not None and number < 0:
            raise SgfluxError(f"{name} must be at least 0, got {number}")
    for kind, is_given in (("combinations", pairs), ("shapes", shapes)):
        if is_given and per_class["test"] < 2:
            raise SgfluxError(
                f"held-out {kind} need a test split of at least 2 rows per class, "
                f"got {per_class['test']}"
            )


def _write_row(
    root: Path,
    split: str,
    index: int,
    row: Row,
    held_out: Sequence[NamePair],
    resolution: int,
    seed: int,
    seen: set[bytes],
    *,
    objects: Sequence[str],
    predicates: Sequence[str],
) -> SceneExample:
    """Draw a row's picture, one that is not in ``seen`` yet, and write it."""
    excluded = frozenset(held_out) - {row.pair}
    for attempt in range(_ATTEMPTS):
        scene = sample_scene(
            stream_of_split(seed, Stream.ROW, split, index, attempt),
            triples=row.triples,
            shape=row.shape,
            predicate=row.predicate,
            pair=row.pair,
            excluded_pairs=excluded,
            objects=objects,
            predicates=predicates,
            resolution=resolution,
        )
        digest = hashlib.sha256(np.ascontiguousarray(scene.image).tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            break
    else:
        raise SgfluxError(
            f"{split} row {index}: {_ATTEMPTS} scenes in a row were pictures that the data set "
            "already has; ask for fewer rows or a higher resolution"
        )
    order = stream_of_split(seed, Stream.ORDER, split, index).permutation(len(scene.objects))
    example = _example(scene, row, split, index, [int(i) for i in order])
    path = root / example.image_rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(path, format="PNG")
    return example


def _example(
    scene: WorldScene, row: Row, split: str, index: int, order: Sequence[int]
) -> SceneExample:
    """Return the row of a scene, its objects in a random ``order``.

    The neutral prompt lists the objects as the graph does; in the scene's own order it would give
    away who is the subject.
    """
    place = {old: new for new, old in enumerate(order)}
    graph = SceneGraph(
        objects=tuple(scene.objects[i] for i in order),
        relationships=tuple((place[s], p, place[o]) for s, p, o in scene.relationships),
    )
    triple = graph.triples()[0]
    assert triple.predicate == row.predicate, "sample_scene puts the predicate first"
    return SceneExample(
        prompt=prompts_for_graph(SceneGraph.from_triple(triple), "relational"),
        concepts=(triple.subject, triple.predicate, triple.object),
        triple=triple,
        graph=graph,
        boxes=tuple(Box(*(round(side, 2) for side in scene.boxes[i])) for i in order),
        meta={
            "image_rel_path": f"images/{split}/{index:06d}.png",
            "predicate_raw": triple.predicate,
            "class_id": DEFAULT_VOCABULARY.class_id(triple.predicate),
            "h5_split": SPLITS[split],
            "img_idx": index,
            "rel_idx": 0,
            "split": split,
            "held_out_combination": row.pair is not None,
        },
    )
