"""The bundled world as a data set: JSONL and PNG files, balanced, split, reproducible.

Every row has its own random stream, keyed by (seed, split, row), and no picture occurs twice. The
folder is written beside its final place and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from sgflux.world.icons import OBJECT_NAMES
from sgflux.world.scenes import PREDICATES, WorldScene, has_room, sample_scene
from sgflux.world.shapes import MAX_STATEMENTS, Shape, shape_name, shape_of, shapes_of

SPLITS: dict[str, str] = {"train": "train", "validation": "val", "test": "test"}
"""Name of a split (and of its file) -> what ``meta.h5_split`` calls it."""

NamePair = tuple[str, str]
"""(subject name, object name)."""

_HOLD_OUT_KEY, _ORDER_KEY, _ROW_KEY, _SHAPE_KEY = 0, 1, 2, 3
_ATTEMPTS = 20


@dataclass(frozen=True)
class _Row:
    """What a row is to show; without a shape, what a scene of so many triples usually shows."""

    predicate: str
    triples: int
    pair: NamePair | None
    shape: Shape | None = None


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
        output_dir: a folder that does not exist yet, or is empty.
        train_per_class: rows a predicate in the training split.
        val_per_class: rows a predicate in the validation split.
        test_per_class: rows a predicate in the test split.
        triples: triples a scene, 1 to 4, or several of them as in "1,2,3", to which the rows of
            each predicate are then spread evenly. Scenes of three and four triples are spread
            evenly over the shapes of :mod:`sgflux.world.shapes`.
        resolution: side of the pictures in pixels.
        seed: decides everything; equal arguments give equal files.
        hold_out_combinations: number of (subject, object) pairs, in this order, that no triple of
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
        progress: show a bar on stderr.
        command: Command line of the program, recorded in the summary.

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
                plan = _plan(
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
                    counts = Counter(example.meta["shape"] for example in examples)
                    found["shapes"] = dict(sorted(counts.items()))
                    for field in ("twins", "held_out_shape"):
                        found[field] = sum(example.meta[field] for example in examples)
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


def parse_triples(triples: int | str) -> tuple[int, ...]:
    """Return the numbers of triples a scene may have: 2 -> (2,), "1,2" -> (1, 2).

    Raises:
        SgfluxError: if they are not different numbers from 1 to 4.
    """
    try:
        sizes = tuple(int(part) for part in str(triples).split(","))
    except ValueError:
        sizes = ()
    if (
        not sizes
        or len(set(sizes)) < len(sizes)
        or not all(1 <= n <= MAX_STATEMENTS for n in sizes)
    ):
        raise SgfluxError(
            f"triples must be numbers from 1 to {MAX_STATEMENTS}, each once, like 1 or '1,2,3', "
            f"got {triples!r}"
        )
    return sizes


@dataclass(frozen=True)
class Shapes:
    """Which shapes the graphs of a world have.

    Attributes:
        sizes: Numbers of triples of a scene.
        twins: Share of scenes with twins among those of at least two triples.
        held_out: Names of the shapes that only the test split has.
    """

    sizes: tuple[int, ...]
    twins: float
    held_out: tuple[str, ...]

    @classmethod
    def of(cls, sizes: tuple[int, ...], *, twins: float, held_out: Sequence[str]) -> Shapes:
        """Read names of shapes, and graphs that have them.

        Raises:
            SgfluxError: on a share that is none, twins where every scene has one triple, a shape
                that no scene of the world would have, or one that leaves a kind of scene no shape
                to train on.
        """
        if not 0 <= twins <= 1:
            raise SgfluxError(f"twins must be a share from 0 to 1, got {twins}")
        if twins and max(sizes) == 1:
            raise SgfluxError("twins need scenes of at least two triples; give triples like 1,2")
        names = tuple(dict.fromkeys(map(shape_name, held_out)))
        for size in sizes:
            for with_twins in _kinds(size, twins):
                known = {shape.name for shape in shapes_of(size, twins=with_twins)}
                if known <= set(names):
                    kind = "with twins" if with_twins else "without twins"
                    raise SgfluxError(
                        f"hold_out_shapes holds out every shape of {size} triples {kind}; leave "
                        f"one of {sorted(known)} to train on"
                    )
        drawn = {
            shape.name
            for size in sizes
            for with_twins in _kinds(size, twins)
            for shape in shapes_of(size, twins=with_twins)
        }
        for name in names:
            if name not in drawn:
                raise SgfluxError(
                    f"hold_out_shapes: no scene of this world has the shape {name!r}; with "
                    f"triples={','.join(map(str, sizes))} and twins={twins} there are "
                    f"{sorted(drawn)}"
                )
        return cls(sizes, twins, names)

    @property
    def are_described(self) -> bool:
        """Whether rows say which shape they have: those of the simplest worlds do not."""
        return bool(self.twins or self.held_out or max(self.sizes) > 2)

    def arguments(self) -> dict[str, Any]:
        """Return what the summary says of them."""
        if not self.are_described:
            return {}
        return {"twins": self.twins, "hold_out_shapes": list(self.held_out)}

    def spread(self, rows: Sequence[_Row], *, split: str, seed: int) -> list[_Row]:
        """Give rows their shapes: as many of each as possible, in an order of the seed."""
        rng = _rng(seed, _SHAPE_KEY, list(SPLITS).index(split))
        options: dict[tuple[int, bool, bool], list[Shape]] = {}
        for size in self.sizes:
            for with_twins in (False, True):
                shapes = shapes_of(size, twins=with_twins)
                for i in rng.permutation(len(shapes)):
                    is_held_out = shapes[i].name in self.held_out
                    options.setdefault((size, with_twins, is_held_out), []).append(shapes[i])
        counts: Counter[tuple[int, ...]] = Counter()

        def next_of(*key: int) -> int:
            counts[key] += 1
            return counts[key] - 1

        spread = []
        for row in rows:
            size = row.triples
            number = next_of(size) if size > 1 else 0
            with_twins = size > 1 and int((number + 1) * self.twins) > int(number * self.twins)
            usual, held_out = (
                [
                    s
                    for s in options.get((size, with_twins, which), [])
                    if has_room(s, row.predicate)
                ]
                for which in (False, True)
            )
            is_test = split == "test" and bool(held_out)
            from_held_out = is_test and next_of(size, with_twins, 2) % 2 == 0
            # Scenes of one and two triples without twins have no given shape.
            if size > 2 or with_twins or (size, with_twins, True) in options:
                among = held_out if from_held_out else usual
                shape = among[next_of(size, with_twins, from_held_out) % len(among)]
                row = replace(row, shape=shape)
            spread.append(row)
        return spread

    def describe(self, example: SceneExample) -> SceneExample:
        """Say in a row's ``meta`` what shape its graph has."""
        names = example.graph.objects
        shape = shape_of(example.graph)
        return example.with_meta(
            shape=shape,
            twins=len(set(names)) < len(names),
            held_out_shape=shape in self.held_out,
        )


@dataclass(frozen=True)
class LeftOut:
    """What occurs in the test split alone.

    Attributes:
        predicates: Canonical predicates.
        objects: Names of objects.
    """

    predicates: tuple[str, ...]
    objects: tuple[str, ...]

    @classmethod
    def of(
        cls, predicates: Sequence[str], objects: Sequence[str], *, sizes: Sequence[int]
    ) -> LeftOut:
        """Check the names, and that enough is left to train on.

        Raises:
            SgfluxError: on a name that the world does not have, or if too few are left.
        """
        for name, given, known, least in (
            ("leave_out_predicates", predicates, PREDICATES, 1),
            ("leave_out_objects", objects, OBJECT_NAMES, 2 * max(sizes)),
        ):
            unknown = [one for one in given if one not in known]
            if unknown:
                raise SgfluxError(f"{name}: the world has no {unknown}; it has {list(known)}")
            left = len(known) - len(set(given))
            if left < least:
                raise SgfluxError(
                    f"{name} leaves {left} of {len(known)} to train on, and scenes of "
                    f"{max(sizes)} triples need at least {least}; leave fewer out"
                )
        return cls(tuple(dict.fromkeys(predicates)), tuple(dict.fromkeys(objects)))

    def rest(self, split: str) -> tuple[list[str], list[str]]:
        """Return the predicates and the objects that a split may have."""
        predicates, objects = ((), ()) if split == "test" else (self.predicates, self.objects)
        return (
            [name for name in PREDICATES if name not in predicates],
            [name for name in OBJECT_NAMES if name not in objects],
        )

    def arguments(self) -> dict[str, Any]:
        """Return what the summary says of it."""
        given = {"leave_out_predicates": self.predicates, "leave_out_objects": self.objects}
        return {name: list(names) for name, names in given.items() if names}


def _kinds(size: int, twins: float) -> list[bool]:
    """Return whether scenes of so many triples have twins: some do, none do, or all do."""
    if size == 1 or not twins:
        return [False]
    return [True] if twins == 1 else [False, True]


def held_out_pairs(count: int, *, seed: int) -> tuple[NamePair, ...]:
    """Draw ``count`` ordered pairs of objects from the seed.

    They are spread: among the first n/2 of n objects' pairs every object occurs once, among the
    first n once as a subject and once as an object, and so on.

    Raises:
        SgfluxError: if more than half of all pairs are asked for.
    """
    n = len(OBJECT_NAMES)
    if not 0 <= count <= n * (n - 1) // 2:
        raise SgfluxError(
            f"hold_out_combinations must be from 0 to {n * (n - 1) // 2} (half of the ordered "
            f"pairs of {n} objects), got {count}"
        )
    rng = _rng(seed, _HOLD_OUT_KEY)
    pairs: dict[NamePair, None] = {}
    while len(pairs) < count:
        circle = [OBJECT_NAMES[i] for i in rng.permutation(n)]
        for i in (*range(0, n, 2), *range(1, n, 2)):
            if len(pairs) < count:
                pairs.setdefault((circle[i], circle[(i + 1) % n]))
    return tuple(pairs)


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


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _plan(
    split: str,
    per_class: int,
    *,
    sizes: tuple[int, ...],
    held_out: Sequence[NamePair],
    seed: int,
    predicates: Sequence[str],
) -> list[_Row]:
    """Return the rows of a split in random order.

    Sizes alternate within each class. In a test split with held-out pairs, the first half of each
    class has them (of an odd class, alternately the larger and the smaller half).
    """
    rows = []
    used = 0
    for class_id, predicate in enumerate(PREDICATES):
        if predicate not in predicates:
            continue
        with_pair = (per_class + class_id % 2) // 2 if held_out and split == "test" else 0
        for i in range(per_class):
            pair = None
            if i < with_pair:
                pair = held_out[used % len(held_out)]
                used += 1
            rows.append(_Row(predicate, sizes[(i + class_id) % len(sizes)], pair))
    order = _rng(seed, _ORDER_KEY, list(SPLITS).index(split)).permutation(len(rows))
    return [rows[i] for i in order]


def _write_row(
    root: Path,
    split: str,
    index: int,
    row: _Row,
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
            _rng(seed, _ROW_KEY, list(SPLITS).index(split), index, attempt),
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
    order = _rng(seed, _ORDER_KEY, list(SPLITS).index(split), index).permutation(len(scene.objects))
    example = _example(scene, row, split, index, [int(i) for i in order])
    path = root / example.image_rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(path, format="PNG")
    return example


def _example(
    scene: WorldScene, row: _Row, split: str, index: int, order: Sequence[int]
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
