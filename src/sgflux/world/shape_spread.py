"""The shapes of a world's graphs: which ones occur, and which row of a split has which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.world.rows import Row
from sgflux.world.scenes import PREDICATES, has_room
from sgflux.world.shapes import Shape, shape_name, shape_of, shapes_of
from sgflux.world.streams import Stream, stream_of_split


@dataclass(frozen=True)
class Shapes:
    """Choice of the shapes that the graphs of a world have.

    Attributes:
        sizes: Numbers of triples of a scene.
        twins: Share of scenes with twins among those of at least two triples.
        held_out: Names of the shapes that only the test split has.
    """

    sizes: tuple[int, ...]
    twins: float
    held_out: tuple[str, ...]

    @classmethod
    def of(
        cls,
        sizes: tuple[int, ...],
        *,
        twins: float,
        held_out: Sequence[str],
        predicates: Sequence[str] = PREDICATES,
    ) -> Shapes:
        """Check the choice, and find the shapes that are held out.

        Args:
            sizes: Numbers of triples of a scene.
            twins: Share of scenes with twins among those of at least two triples.
            held_out: Shapes that only the test split has, each by its name or as the text of a
                graph that has it.
            predicates: Canonical predicates that scenes of every number of triples are drawn for.

        Raises:
            SgfluxError: if ``twins`` is not in [0, 1], if there are to be twins where every scene
                has one triple, on a shape that no scene of the world would have, and if a kind of
                scene has no shape left to train on, or none with room for one of ``predicates``.
        """
        if not 0 <= twins <= 1:
            raise SgfluxError(f"twins must be a share from 0 to 1, got {twins}")
        if twins and max(sizes) == 1:
            raise SgfluxError("twins need scenes of at least two triples; give triples like 1,2")
        names = tuple(dict.fromkeys(map(shape_name, held_out)))
        for size in sizes:
            for with_twins in _kinds(size, twins):
                kind = f"of {size} triples {'with' if with_twins else 'without'} twins"
                shapes = shapes_of(size, twins=with_twins)
                left = [shape for shape in shapes if shape.name not in names]
                if not left:
                    raise SgfluxError(
                        f"hold_out_shapes holds out every shape {kind}; leave one of "
                        f"{sorted(shape.name for shape in shapes)} to train on"
                    )
                for predicate in predicates:
                    if not any(has_room(shape, predicate) for shape in left):
                        roomy = [shape.name for shape in shapes if has_room(shape, predicate)]
                        raise SgfluxError(
                            f"hold_out_shapes leaves {sorted(shape.name for shape in left)} of the "
                            f"shapes {kind}, none of which has room for {predicate!r}; leave one "
                            f"of {sorted(roomy)}, too"
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
        """Return the arguments that the summary of the data set names, if rows are described."""
        if not self.are_described:
            return {}
        return {"twins": self.twins, "hold_out_shapes": list(self.held_out)}

    def spread(self, rows: Sequence[Row], *, split: str, seed: int) -> list[Row]:
        """Give rows their shapes: as many of each as possible, in an order of the seed."""
        rng = stream_of_split(seed, Stream.SHAPES, split)
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

    def counts(self, examples: Sequence[SceneExample]) -> dict[str, Any]:
        """Count described rows by shape, and those with twins or a held-out shape."""
        return {
            "shapes": dict(sorted(Counter(one.meta["shape"] for one in examples).items())),
            **{
                field: sum(one.meta[field] for one in examples)
                for field in ("twins", "held_out_shape")
            },
        }


def _kinds(size: int, twins: float) -> list[bool]:
    """Return whether scenes of so many triples have twins: some do, none do, or all do."""
    if size == 1 or not twins:
        return [False]
    return [True] if twins == 1 else [False, True]
