"""The forced choice of the VQA judge, with models whose answers a test knows.

If one of these failed, a model's liking for a letter would count as knowledge of the picture, or a
statement would hold by a tie, or an object that no detector finds would be contradicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import Detection
from sgflux.evaluation.judges.judge import Outcome, read_pictures
from sgflux.evaluation.judges.vqa import (
    VqaJudge,
    averaged,
    marked,
    options_of,
    orders,
    question_of,
    sentence,
)
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple
from tests.helpers.detectors import Drawn

RIDING, SWAPPED = Triple("man", "riding", "horse"), Triple("horse", "riding", "man")
NEAR = Triple("man", "near", "horse")
PICTURE = np.zeros((1, 40, 60, 3), np.uint8)
MAN, HORSE = ("man", (5.0, 5.0, 10.0, 20.0), 0.9), ("horse", (30.0, 10.0, 20.0, 20.0), 0.8)


class Scripted:
    """Gives every letter a logit: what the statement behind it is worth, and what its place is."""

    name, sha256 = "scripted", "5" * 64

    def __init__(
        self, worth: Callable[[str], float], places: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> None:
        self._worth, self._places = worth, places
        self.questions: list[str] = []
        self.images: list[np.ndarray] = []
        self.batches: list[int] = []

    def answers(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        self.questions += questions
        self.images += images
        self.batches.append(len(questions))
        rows = []
        for question in questions:
            options = [line[3:] for line in question.splitlines() if line[1:3] == ". "]
            worth = [*map(self._worth, options), -50.0][:3]
            rows.append([w + p for w, p in zip(worth, self._places, strict=True)])
        logits = np.array(rows, np.float64)
        return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def test_a_model_that_always_says_a_is_undecided_and_nothing_holds() -> None:
    """Without the average over orders it would accept every statement, or none, by its place."""
    judge = VqaJudge(Scripted(lambda _: 0.0, places=(30.0, 0.0, 0.0)))
    statements = [RIDING, SWAPPED, NEAR, Triple("man", "kicking", "horse")]
    (reading,) = read_pictures(judge, PICTURE, [statements])
    assert {verdict.outcome for verdict in reading.verdicts.values()} == {Outcome.CONTRADICTED}
    probabilities = [question["probabilities"] for question in reading.evidence["questions"]]
    assert probabilities == [pytest.approx([1 / len(p)] * len(p), abs=1e-4) for p in probabilities]
    assert list(map(len, probabilities)) == [3, 3, 2, 2], "near and an unknown verb are not swapped"


@pytest.mark.parametrize("places", [(0.0, 0.0, 0.0), (4.0, -3.0, 1.0), (-9.0, 9.0, 0.0)])
def test_what_a_letter_has_by_its_place_cancels_out(places: tuple[float, ...]) -> None:
    """Worked: of worths 1, 0 and 0 the first has e / (e + 2), whichever letter is liked."""
    judge = VqaJudge(Scripted(lambda text: float(text == sentence(RIDING)), places))
    (reading,) = read_pictures(judge, PICTURE, [[RIDING, SWAPPED]])
    right, wrong = reading.verdicts[RIDING], reading.verdicts[SWAPPED]
    assert right.score == pytest.approx(1 - np.log(np.e + 2))
    assert wrong.score == pytest.approx(-np.log(np.e + 2))
    assert (right.holds, wrong.outcome) == (True, Outcome.CONTRADICTED)
    assert reading.preference(RIDING, SWAPPED) == 1.0


def test_each_option_stands_once_at_each_letter_and_gets_its_own_answers() -> None:
    options = options_of(RIDING)
    assert all(set(at_letter) == set(options) for at_letter in zip(*orders(options), strict=True))
    values = np.log([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [0.2, 0.7, 0.1]])
    own = np.array([0.5 * 0.3 * 0.7, 0.3 * 0.6 * 0.1, 0.2 * 0.1 * 0.2]) ** (1 / 3)
    assert np.exp(averaged(values)) == pytest.approx(own / own.sum())


@pytest.mark.parametrize("predicate", [*DEFAULT_VOCABULARY.names, "kicking", "facing away from"])
def test_every_statement_has_another_that_is_not_the_swapped_one(predicate: str) -> None:
    options = options_of(Triple("man", predicate, "horse"))
    assert options == options_of(Triple("man", predicate, "horse")), "always the same ones"
    assert (options[0].subject, options[-1].subject) == ("man", "man")
    assert options[-1].predicate not in (predicate, DEFAULT_VOCABULARY.inverse(predicate))
    swapped = Triple("horse", predicate, "man")
    assert (swapped in options) is DEFAULT_VOCABULARY.is_asymmetric(predicate)


def test_without_a_detector_no_object_is_missing_and_nothing_is_marked() -> None:
    model = Scripted(lambda text: float("riding" in text))
    (reading,) = read_pictures(VqaJudge(model), PICTURE, [[RIDING]])
    assert reading.present is None
    assert "boxes" not in reading.evidence
    assert "box" not in model.questions[0]
    assert np.array_equal(model.images[0], PICTURE[0])


def test_an_object_that_the_detector_misses_is_not_found_and_the_model_is_not_asked() -> None:
    model = Scripted(lambda _: 0.0)
    judge = VqaJudge(model, Drawn(MAN))
    (reading,) = read_pictures(judge, PICTURE, [[RIDING]])
    assert reading.verdicts[RIDING].outcome is Outcome.NOT_FOUND
    assert reading.present == {"man"}
    assert not model.questions
    assert judge.identity != VqaJudge(model).identity, "a detector makes another judge"


def test_the_found_objects_are_marked_in_colours_that_the_question_names() -> None:
    """Colours by alphabet: with the subject always red, the marks would give the answer away."""
    model = Scripted(lambda text: float(text == sentence(RIDING)))
    detector = Drawn(MAN, ("man", (0.0, 0.0, 4.0, 4.0), 0.2), HORSE)
    (reading,) = read_pictures(VqaJudge(model, detector), PICTURE, [[RIDING, SWAPPED]])
    assert [verdict.holds for verdict in reading.verdicts.values()] == [True, False]
    head = "In this picture, a red box marks the horse and a blue box marks the man."
    assert {question.splitlines()[0] for question in model.questions} == {head}
    image = model.images[0]
    assert image[10, 40].tolist() == [255, 0, 0]
    assert image[5, 10].tolist() == [0, 0, 255], "the better one of two men"
    assert not image[2, 0].any()
    assert not PICTURE.any(), "the picture itself stays as it was"
    assert reading.evidence["boxes"]["man"] == {"box": [5.0, 5.0, 10.0, 20.0], "score": 0.9}
    assert detector.asked == [["horse", "man"]], "one pair is looked for once"


def test_of_two_objects_of_one_name_none_is_marked() -> None:
    """The better detection may be the other dog; a box would point the model at a wrong one."""
    model = Scripted(lambda _: 0.0)
    judge = VqaJudge(model, Drawn(MAN, HORSE))
    both = [RIDING, Triple("man#2", "holding", "hat")]
    (reading,) = read_pictures(judge, PICTURE, [both])
    assert "box" not in model.questions[0]
    assert np.array_equal(model.images[0], PICTURE[0])
    assert [v.outcome for v in reading.verdicts.values()] == ["contradicted", "not found"]


def test_a_mark_stays_inside_of_the_picture() -> None:
    found = {n: Detection(n, Box(0.0, 0.0, 60.0, 40.0), 1.0) for n in ("cat", "dog")}
    image = marked(PICTURE[0], found)
    assert image.shape == PICTURE[0].shape
    assert image[39, 59].tolist() == [0, 0, 255]


def test_a_box_narrower_than_a_pixel_is_marked_where_it_is() -> None:
    found = {n: Detection(n, Box(20.5, 10.5, 0.2, 0.0), 1.0) for n in ("cat", "dog")}
    assert marked(PICTURE[0], found)[10:12, 20:22].any()


def test_questions_are_asked_in_batches_and_answers_keep_their_order() -> None:
    model = Scripted(lambda text: float(text == sentence(RIDING)))
    pictures = np.concatenate([PICTURE] * 3)
    judge = VqaJudge(model, batch_size=4)
    readings = read_pictures(judge, pictures, [[SWAPPED, RIDING], [], [NEAR, RIDING]])
    assert model.batches == [4, 4, 3]
    assert [[v.holds for v in one.verdicts.values()] for one in readings] == [
        [False, True],
        [],
        [False, True],
    ]


def test_labels_are_asked_by_their_names_and_two_of_one_name_are_refused() -> None:
    model = Scripted(lambda _: 0.0)
    judge = VqaJudge(model)
    labelled = Triple("dog#2", "on", "sofa")
    (reading,) = read_pictures(judge, PICTURE, [[labelled]])
    assert labelled in reading.verdicts
    assert "The dog is on the sofa." in model.questions[0]
    judge.check([SceneGraph.parse("dog, on, sofa; dog#2, under, table")])
    with pytest.raises(SgfluxError, match=r"judge 'vqa' cannot tell the two objects of 'dog, left"):
        judge.check([SceneGraph.parse("dog, left of, dog#2")])


def test_the_question_is_what_the_documentation_says() -> None:
    assert question_of(options_of(Triple("cup", "left of", "cat")), marks=None).splitlines() == [
        "Which statement about this picture is true?",
        "A. The cup is left of the cat.",
        "B. The cat is left of the cup.",
        "C. The cup is below the cat.",
        "Answer with the letter of the true statement alone.",
    ]
    assert sentence(Triple("man", "next to", "dog")) == "The man is near the dog."
    assert sentence(Triple("man", "kicks", "ball")) == "The man kicks the ball."
