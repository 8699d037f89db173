"""The geometry judge: what is found, what is not, and which of two dogs is which.

If one of these failed, a missing object would count as a wrong relation, or two objects of one name
would be matched so that a false graph holds.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from sgflux.data.box_rules import find_rule
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import Outcome, read_pictures
from sgflux.graphs.scene_graph import SceneGraph, Triple
from tests.helpers.detectors import Drawn

PICTURE = np.zeros((100, 200, 3), np.uint8)
LEFT, MIDDLE, RIGHT = (0, 40, 20, 20), (90, 40, 20, 20), (180, 40, 20, 20)
HOLDS, CONTRADICTED, NOT_FOUND = Outcome


def verdicts(detector: Drawn, graph: str) -> list[Outcome]:
    stated = SceneGraph.parse(graph).labelled_triples()
    (reading,) = read_pictures(GeometryJudge(detector), [PICTURE], [stated])
    return [reading.verdicts[triple].outcome for triple in stated]


def test_the_three_verdicts() -> None:
    detector = Drawn(("cat", LEFT, 0.9), ("box", RIGHT, 0.8))
    stated = "cat, left of, box; box, left of, cat; cat, left of, tree"
    assert verdicts(detector, stated) == [HOLDS, CONTRADICTED, NOT_FOUND]


def test_an_object_alone_of_its_name_is_the_best_detection() -> None:
    """Any detection would do for a judge that wants to find the relation."""
    detector = Drawn(("cat", RIGHT, 0.5), ("cat", LEFT, 0.6), ("box", MIDDLE, 0.9))
    assert verdicts(detector, "cat, left of, box; cat, right of, box") == [HOLDS, CONTRADICTED]


def test_case_does_not_matter() -> None:
    assert verdicts(Drawn(("cat", LEFT, 0.9), ("box", RIGHT, 0.8)), "Cat, left of, Box") == [HOLDS]


def test_two_dogs_are_told_apart_by_all_statements_together() -> None:
    """Statement by statement, each would find a dog that suits it."""
    two = Drawn(("dog", LEFT, 0.5), ("dog", RIGHT, 0.9), ("cat", MIDDLE, 0.9))
    assert verdicts(two, "dog, left of, cat; dog#2, right of, cat") == [HOLDS, HOLDS]
    assert verdicts(two, "dog, right of, cat; dog#2, left of, cat") == [HOLDS, HOLDS]
    assert verdicts(two, "dog, left of, cat; dog#2, left of, cat") == [HOLDS, CONTRADICTED]
    assert verdicts(two, "dog, left of, dog#2") == [HOLDS]
    both = "dog, left of, cat; dog, right of, dog#2"
    assert verdicts(two, both) == [HOLDS, CONTRADICTED], "between equals, the first decides"


def test_where_one_of_two_is_missing_the_other_one_is_still_judged() -> None:
    one = Drawn(("dog", RIGHT, 0.9), ("cat", MIDDLE, 0.9))
    stated = "dog, left of, cat; dog#2, right of, cat"
    assert verdicts(one, stated) == [NOT_FOUND, HOLDS]


def test_the_best_way_is_found_among_all() -> None:
    """Against a search that is written down plainly."""
    rng = random.Random(0)
    for _ in range(100):
        names = ["dog", "dog#2", "dog#3", "cat", "cat#2"]
        places = {
            name: [(rng.randrange(180), rng.randrange(80), 20, 20) for _ in range(count)]
            for name, count in (("dog", 3), ("cat", 2))
        }
        pairs = rng.sample(list(itertools.permutations(names, 2)), 4)
        if len(set(itertools.chain(*pairs))) < len(names):
            continue
        words = ["left of", "above", "touching", "right of"]
        triples = [Triple(a, word, b) for (a, b), word in zip(pairs, words, strict=True)]
        detector = Drawn(*((name, box, 0.5) for name, own in places.items() for box in own))
        (reading,) = read_pictures(GeometryJudge(detector), [PICTURE], [triples])
        most = 0
        for dogs in itertools.permutations(detector.find([PICTURE], [["dog"]])[0]):
            for cats in itertools.permutations(detector.find([PICTURE], [["cat"]])[0]):
                box = {n: d.box for n, d in zip(names, [*dogs, *cats], strict=True)}
                held = 0
                for t in triples:
                    rule = find_rule(t.predicate)
                    assert rule is not None
                    held += rule(box[t.subject], box[t.object], float(np.hypot(100, 200)))
                most = max(most, held)
        found = sum(reading.verdicts[triple].holds for triple in triples)
        assert found == most


def test_a_verdict_does_not_depend_on_what_else_is_asked() -> None:
    """A network that reads all names in one caption is distracted by names of other graphs."""
    detector = Drawn(("cat", LEFT, 0.9), ("box", RIGHT, 0.8))
    verdicts(detector, "cat, left of, box; tree, above, car; cat, on, chair")
    assert sorted(detector.asked) == [["box", "cat", "chair"], ["car", "tree"]]


def test_the_boxes_are_kept_as_evidence() -> None:
    judge = GeometryJudge(Drawn(("dog", LEFT, 0.5), ("dog", RIGHT, 0.9), ("cat", MIDDLE, 0.9)))
    stated = SceneGraph.parse("dog, left of, cat; dog#2, right of, cat").labelled_triples()
    (reading,) = read_pictures(judge, [PICTURE], [stated])
    assert reading.evidence["boxes"] == {
        "dog": {"box": [0, 40, 20, 20], "score": 0.5},
        "cat": {"box": [90, 40, 20, 20], "score": 0.9},
        "dog#2": {"box": [180, 40, 20, 20], "score": 0.9},
    }
    assert judge.identity.model == "drawn"
    assert judge.identity.sha256 == "d" * 64


def test_too_many_twins_are_refused_before_anything_is_drawn() -> None:
    judge = GeometryJudge(Drawn())
    seven = "; ".join(f"sheep#{n}, left of, dog" for n in range(1, 8))
    judge.check([SceneGraph.parse(seven)])
    with pytest.raises(SgfluxError, match=r"at most 5,040 ways .*'sheep#8'"):
        judge.check([SceneGraph.parse(f"{seven}; sheep#8, left of, dog")])
    apart = "; ".join(f"sheep#{n}, eating, dog" for n in range(1, 12))
    judge.check([SceneGraph.parse(apart)])  # not covered: never asked about
