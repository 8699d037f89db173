"""What a judge is asked about known pictures, and how its answers are counted, in worked numbers.

If one of these failed, a judge would look better or worse than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgflux.data.boxes import Box
from sgflux.data.examples import write_examples
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import Outcome
from sgflux.evaluation.known.annotated import AnnotatedBoxes
from sgflux.evaluation.known.figures import section
from sgflux.evaluation.known.pictures import KnownPicture, KnownStatement, Source
from sgflux.evaluation.known.questions import Answer, Asked, Question, questions_of
from sgflux.evaluation.known.reading import read_known
from sgflux.graphs.scene_graph import Triple
from tests.helpers.detectors import Drawn
from tests.helpers.graph_examples import example

T, F, S, O = Asked.TRUE, Asked.FALSE, Asked.SWAPPED, Asked.FOREIGN  # noqa: E741
YES, NO, MISSED = Outcome


def known(*statements: tuple[str, bool], objects: Sequence[str] = ()) -> KnownPicture:
    return KnownPicture(
        path=Path(f"{statements[0][0]}.png"),  # each is a picture of its own
        statements=tuple(
            KnownStatement(Triple(*text.split(", ")), is_true, Source.HUMAN)
            for text, is_true in statements
        ),
        objects=tuple((name, Box(0, 0, 1, 1)) for name in objects),
    )


def asked(*pictures: KnownPicture) -> list[tuple[int, str, str]]:
    judge = GeometryJudge(Drawn())
    return [
        (one.picture, str(one.asked), str(one.triple))
        for one in questions_of(pictures, judge, seed=0)
    ]


def test_a_true_statement_is_asked_swapped_and_in_another_picture() -> None:
    first = known(("cat, left of, dog", True), ("cat, above, dog", False))
    second = known(("car, on, road", True))
    assert asked(first, second) == [
        (0, "true", "cat, left of, dog"),
        (0, "swapped", "dog, left of, cat"),
        (0, "foreign", "car, on, road"),
        (0, "false", "cat, above, dog"),
        (1, "true", "car, on, road"),
        (1, "swapped", "road, on, car"),
        (1, "foreign", "cat, left of, dog"),
    ]


def test_nothing_is_asked_as_false_that_may_be_true() -> None:
    """Symmetric predicates, what holds both ways, and objects that are in the picture as well."""
    near = known(("cat, next to, dog", True))
    both = known(("cat, in front of, dog", True), ("dog, in front of, cat", True))
    assert [kind for _, kind, _ in asked(near, both) if kind != "true"] == []
    car = known(("car, on, road", True))
    there = known(("cat, left of, dog", True), objects=("cat", "dog", "car", "Road"))
    kinds = [(place, kind) for place, kind, _ in asked(there, car)]
    assert (0, "foreign") not in kinds, "both the car and the road are annotated in the picture"
    assert (1, "foreign") in kinds


WEARING = ("man, on, hat", "woman, on, coat", "horse, on, saddle")


def write_rows(folder: Path, *pictures: tuple[str, ...], **meta: object) -> Path:
    """Rows of one statement each, several of which are about one picture."""
    rows = []
    for number, statements in enumerate(pictures):
        rows += [example(text, number=number) for text in statements]
        path = folder / "images" / f"{number:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    rows[0] = replace(rows[0], meta={**rows[0].meta, **meta})
    write_examples(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


@pytest.mark.parametrize("files", [1, 2])
def test_no_foreign_statement_is_what_another_row_says_of_the_picture(
    tmp_path: Path, files: int
) -> None:
    """Nor what a row of another file says, such as those of two splits."""
    path = write_rows(tmp_path, WEARING, ("dog, on, sofa",))
    paths = [path]
    if files == 2:
        first, *others = path.read_text().splitlines(keepends=True)
        path.write_text(first)
        paths.append(tmp_path / "others.jsonl")
        paths[1].write_text("".join(others))
    pictures = read_known(paths, images_dir=None).pictures
    assert len(pictures) == 4
    foreign = {
        (pictures[one.picture].path.name, str(one.triple))
        for seed in range(20)
        for one in questions_of(pictures, GeometryJudge(Drawn()), seed=seed)
        if one.asked is Asked.FOREIGN
    }
    assert foreign == {
        ("0000.png", "dog, on, sofa"),
        *(("0001.png", statement) for statement in WEARING),
    }


def test_no_swapped_statement_is_what_the_rows_of_the_picture_entail(tmp_path: Path) -> None:
    """In other words, in another row, or in a row's list of what else is known."""
    path = write_rows(
        tmp_path,
        ("cat, in front of, dog", "cat, behind, dog", "cup, on, box", "boy, on, bed"),
        ("cat, in front of, dog",),
        known_triples=[["box", "standing on", "cup"]],
    )
    pictures = read_known([path], images_dir=None).pictures
    swapped = [
        (one.picture, str(one.triple))
        for one in questions_of(pictures, GeometryJudge(Drawn()), seed=0)
        if one.asked is Asked.SWAPPED
    ]
    assert swapped == [(3, "bed, on, boy"), (4, "dog, in front of, cat")]


def test_objects_that_no_statement_asks_about_are_in_the_picture(tmp_path: Path) -> None:
    """Which of two dogs is meant, nobody says: nothing is asked of them, but they are there."""
    twins = "cat, on, sofa; dog, left of, dog#2; (box)"
    path = write_rows(tmp_path, (twins,), ("dog, on, box",), ("dog, on, bed",))
    pictures = read_known([path], images_dir=None).pictures
    for seed in range(10):
        questions = questions_of(pictures, GeometryJudge(Drawn()), seed=seed)
        of_twins = [one for one in questions if one.picture == 0 and one.asked is Asked.FOREIGN]
        assert [str(one.triple) for one in of_twins] == ["dog, on, bed"]


def test_what_the_judge_does_not_cover_is_not_asked() -> None:
    assert asked(known(("man, riding, horse", True))) == []


def answers(*given: tuple[Asked, Outcome, int]) -> list[Answer]:
    """(kind, verdict, how many), each about a picture of its own."""
    found = []
    for kind, outcome, count in given:
        for _ in range(count):
            question = Question(0, Triple("a", "on", "b"), kind, Source.HUMAN, "on")
            found.append(Answer(question, outcome, cluster=f"{len(found)}.png"))
    return found


def test_statements_that_people_judged() -> None:
    """40 true, 20 of which are found and 15 accepted; 20 false, 10 found and 2 accepted."""
    figures = section(
        answers(
            (T, YES, 15), (T, NO, 5), (T, MISSED, 20), (F, YES, 2), (F, NO, 8), (F, MISSED, 10),
            (S, YES, 1), (S, NO, 19), (S, MISSED, 20), (O, YES, 1), (O, MISSED, 39),
        )
    )  # fmt: skip
    assert (figures["n"], figures["found"], figures["coverage"]) == (60, 30, 0.5)
    assert figures["agreement"] == pytest.approx(23 / 30)
    assert figures["majority"] == pytest.approx(20 / 30)
    assert figures["confirmed"] == 15 / 20
    assert figures["contradicted"] == 5 / 20
    assert figures["swapped_accepted"] == 1 / 20
    assert figures["foreign_accepted"] == 1 / 40, "of all: their objects are not in the picture"
    assert figures["counts"]["foreign_accepted"] == 40
    low, high = figures["ci95"]["agreement"]
    assert 0.5 < low < 23 / 30 < high < 1
    assert figures["better_than_majority"] == "open"
    assert "balanced" not in figures


def test_where_everything_is_true_the_majority_is_half_of_what_is_asked() -> None:
    figures = section(answers((T, YES, 9), (T, NO, 1), (S, NO, 8), (S, YES, 2), (O, NO, 10)))
    assert "agreement" not in figures
    assert figures["balanced"] == pytest.approx((0.9 + 0.8) / 2)
    assert (figures["majority"], figures["better_than_majority"]) == (0.5, "yes")
    symmetric = section(answers((T, YES, 10), (O, YES, 10)))
    assert symmetric["swapped_accepted"] is None
    assert (symmetric["balanced"], symmetric["better_than_majority"]) == (0.5, "no")


def test_a_judge_that_finds_nothing_has_no_figures_and_no_coverage() -> None:
    figures = section(answers((T, MISSED, 10), (F, MISSED, 5), (S, MISSED, 10)))
    assert (figures["coverage"], figures["agreement"], figures["confirmed"]) == (0.0, None, None)
    assert figures["better_than_majority"] == "open"


def test_a_worse_judge_than_the_majority_is_marked() -> None:
    figures = section(answers((T, YES, 5), (T, NO, 5), (F, YES, 10), (F, NO, 10)))
    assert figures["agreement"] == 0.5
    assert figures["majority"] == pytest.approx(2 / 3)
    assert figures["better_than_majority"] == "no"


def test_of_two_annotated_dogs_nobody_says_which_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (64, 32)).save(path)
    objects = (("Cat", Box(0, 0, 8, 8)), ("dog", Box(20, 0, 8, 8)), ("dog", Box(40, 0, 8, 8)))
    boxes = AnnotatedBoxes([KnownPicture(path, (), objects), KnownPicture(path, (), objects[:1])])
    pixels = np.asarray(Image.open(path))
    (found,) = boxes.find([pixels], [["cat", "dog", "tree"]])
    assert [(one.name, one.box) for one in found] == [("cat", Box(0, 0, 8, 8))]
    assert boxes.find([pixels + 1], [["cat"]]) == [[]], "another picture"
