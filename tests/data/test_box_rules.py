"""The rules of the judge 'geometry', on boxes that a reader can draw.

If one of these failed, pictures would be judged by another rule than docs/judges.md says.
"""

from __future__ import annotations

import pytest

from sgflux.data.box_rules import RULES, find_rule
from sgflux.data.boxes import Box

DIAGONAL = 500.0
TABLE = Box(100, 200, 200, 100)
FAR_LEFT, FAR_RIGHT = Box(0, 220, 40, 40), Box(400, 220, 40, 40)
OVER, UNDER = Box(180, 40, 40, 40), Box(180, 340, 40, 40)
STANDING, SUNK = Box(180, 120, 40, 100), Box(180, 180, 40, 100)
INSIDE, DIAGONALLY_UNDER = Box(150, 220, 40, 40), Box(340, 420, 40, 40)

CASES = {
    "left of": ([FAR_LEFT], [FAR_RIGHT, INSIDE, OVER, Box(90, 200, 200, 100)]),
    "right of": ([FAR_RIGHT], [FAR_LEFT, INSIDE, UNDER]),
    "above": ([OVER], [UNDER, FAR_LEFT, INSIDE]),
    # Half under the table, and by GenEval's rule although no column is shared.
    "below": ([UNDER, Box(180, 260, 60, 60), DIAGONALLY_UNDER], [OVER, FAR_LEFT, FAR_RIGHT]),
    # Its lower edge is between 25 above the upper edge and 10 below the lower edge of the table.
    "on": ([STANDING, SUNK, Box(180, 80, 40, 96)], [OVER, UNDER, Box(280, 150, 80, 60)]),
    "in": ([INSIDE, Box(280, 220, 40, 40)], [Box(290, 220, 40, 40), STANDING]),
    "contains": ([Box(80, 180, 300, 300), Box(100, 200, 145, 100)], [Box(100, 200, 135, 100)]),
    "touching": ([STANDING, Box(60, 200, 40, 40)], [OVER, FAR_LEFT]),
    "behind": ([STANDING, OVER], [UNDER, Box(0, 0, 10, 301)]),
    "in front of": ([UNDER, Box(0, 0, 10, 301)], [STANDING, OVER]),
    "around/near": ([STANDING, Box(40, 220, 40, 40), Box(300, 300, 10, 10)], [OVER, FAR_RIGHT]),
}


@pytest.mark.parametrize("predicate", list(RULES))
def test_a_rule_holds_for_these_boxes_and_not_for_those(predicate: str) -> None:
    holds, does_not = CASES[predicate]
    for box in holds:
        assert RULES[predicate](box, TABLE, DIAGONAL), box
    for box in does_not:
        assert not RULES[predicate](box, TABLE, DIAGONAL), box


@pytest.mark.parametrize(
    ("one", "other"), [("left of", "right of"), ("behind", "in front of"), ("above", "below")]
)
def test_what_holds_one_way_holds_the_other_way_round_in_the_inverse(one: str, other: str) -> None:
    """A graph states "A above B" and "B below A" as one; two verdicts on it would contradict."""
    boxes = [box for group in CASES.values() for side in group for box in side]
    for box in boxes:
        if RULES[one](box, TABLE, DIAGONAL):
            assert RULES[other](TABLE, box, DIAGONAL), box


@pytest.mark.parametrize(
    ("wording", "predicate"),
    [
        ("at the left side of", "left of"),
        ("to the right of", "right of"),
        ("over", "above"),
        ("beneath", "below"),
        ("under", "below"),
        ("on top of", "on"),
        ("inside", "in"),
        ("is containing", "contains"),
        ("next to", "around/near"),
        ("In Back Of", "behind"),
    ],
)
def test_a_predicate_has_its_rule_in_every_wording(wording: str, predicate: str) -> None:
    assert find_rule(wording) is RULES[predicate]


def test_what_boxes_cannot_show_has_no_rule() -> None:
    for predicate in ("riding", "facing", "part of", "wearing"):
        assert find_rule(predicate) is None


def test_boxes_without_an_area_are_nowhere() -> None:
    point = Box(150, 220, 0, 0)
    assert not RULES["in"](point, TABLE, DIAGONAL)
    assert not RULES["contains"](TABLE, point, DIAGONAL)
    assert not RULES["left of"](point, point, DIAGONAL)
