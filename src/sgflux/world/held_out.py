"""What the test split of a world has and its other splits do not: pairs, predicates and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.world.icons import OBJECT_NAMES
from sgflux.world.scenes import PREDICATES
from sgflux.world.streams import Stream, stream

NamePair = tuple[str, str]
"""(subject name, object name)."""


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
    rng = stream(seed, Stream.HELD_OUT_PAIRS)
    pairs: dict[NamePair, None] = {}
    while len(pairs) < count:
        circle = [OBJECT_NAMES[i] for i in rng.permutation(n)]
        for i in (*range(0, n, 2), *range(1, n, 2)):
            if len(pairs) < count:
                pairs.setdefault((circle[i], circle[(i + 1) % n]))
    return tuple(pairs)


@dataclass(frozen=True)
class LeftOut:
    """Predicates and objects that the test split has and the other splits do not.

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
        """Return the arguments that the summary of the data set names: those that leave out any."""
        given = {"leave_out_predicates": self.predicates, "leave_out_objects": self.objects}
        return {name: list(names) for name, names in given.items() if names}
