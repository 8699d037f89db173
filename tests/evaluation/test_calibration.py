"""A judge is asked about what is true and about what is not, and both stand in the results.

If one of these failed, a judge's accuracy would be measured on easy cases only, and its errors
would count as the adapter's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgflux.data.examples import SceneExample, read_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation.calibration import FALSE_KINDS, calibrate, false_questions
from sgflux.evaluation.judges.judge import NONE, Images, JudgeIdentity, Reading, pair_of
from sgflux.evaluation.judges.world import WorldJudgeAdapter, reading_of
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.evaluation.records import judge_line
from sgflux.evaluation.report.headline import headline
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.dataset import write_world
from sgflux.world.judge import CLASSES
from tests.helpers.graph_examples import example


class NeverNone:
    """The bundled judge with its "none" struck out: right about all that is stated."""

    identity = JudgeIdentity("never none", "0" * 64, CLASSES)

    def __init__(self) -> None:
        self._inner = WorldJudgeAdapter.load()

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        self._inner.check(graphs)

    def covers(self, predicate: str) -> bool:
        return self._inner.covers(predicate)

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        readings = []
        for own, honest in zip(statements, self._inner.read(images, statements), strict=True):
            pairs = list(dict.fromkeys(map(pair_of, own)))
            scores = {}
            for pair, entry in zip(pairs, honest.evidence["scores"], strict=True):
                scores[pair] = np.array(entry["log_probabilities"])
                scores[pair][CLASSES.index(NONE)] = -1e9
            readings.append(reading_of(own, scores=scores, present=honest.present or frozenset()))
        return readings


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    write_world(folder, train_per_class=0, val_per_class=0, test_per_class=3, triples="1,2,3")
    return folder


def figures(world: Path, judge: Any) -> dict[str, Any]:
    examples = read_examples(world / "test.jsonl")
    return calibrate(judge, examples, RealPictures(world), seed=0)


def test_a_judge_that_never_says_none_no_longer_calibrates_at_everything(world: Path) -> None:
    honest, blind = figures(world, WorldJudgeAdapter.load()), figures(world, NeverNone())
    assert blind["accuracy"] >= honest["accuracy"] >= 0.9
    for kind in FALSE_KINDS:
        assert honest["false_acceptance"][kind]["value"] <= 0.15, kind
        assert honest["false_acceptance"][kind]["n"] >= 30
        assert honest["false_acceptance"][kind]["ci95"] is not None
    assert blind["false_acceptance"]["absent"]["value"] == 1
    assert blind["false_acceptance"]["unrelated"]["value"] == 1
    assert blind["false_acceptance"]["reversed"]["value"] > 0.3
    assert len(honest["sha256"]) == 64
    line = judge_line(blind)
    assert "names a relation that is not there: reversed" in line
    assert "absent 100.0%" in line
    labels = [row.label for row in headline({"judge": blind})]
    assert labels == [
        "Judge accuracy",
        *(f"False acceptance, {kind}" for kind in ("reversed", "absent", "unrelated")),
    ]


def questions(*examples: SceneExample) -> list[dict[str, list[tuple[str, frozenset[str]]]]]:
    found = []
    for own in false_questions(examples, seed=0):
        kinds: dict[str, list[tuple[str, frozenset[str]]]] = {}
        for one in own:
            kinds.setdefault(one.kind, []).append((str(one.statement), one.true_answers))
        found.append(kinds)
    return found


def test_what_is_asked_is_false_and_what_is_true_may_be_answered() -> None:
    riding, above, near, both = questions(
        example("man, riding, horse", number=0),
        example("cat, above, box", number=1),
        example("dog, around/near, tree; man, holding, ball", number=2),
        example("man, looking at, dog; dog, looking at, man", number=3),
    )
    ((statement, answers),) = riding["reversed"]
    assert statement == "horse, riding, man"
    assert {NONE, "below", "touching", "around/near"} <= answers
    assert not answers & {"riding", "on", "above"}
    assert above["reversed"] == [("box, above, cat", frozenset({NONE, "below"}))]
    assert "unrelated" not in above, "its only two objects are related"
    assert [statement for statement, _ in near["reversed"]] == ["ball, holding, man"]
    ((statement, answers),) = near["unrelated"]
    assert len({"dog", "tree"} & {word.strip() for word in statement.split(",")}) == 1
    assert answers == {NONE}
    assert "reversed" not in both, "the picture shows it both ways"
    for kinds, there in ((riding, {"man", "horse"}), (above, {"cat", "box"})):
        ((statement, _),) = kinds["absent"]
        subject, _, other = (word.strip() for word in statement.split(","))
        assert len({subject, other} & there) == 1


def test_a_picture_that_changes_during_the_run_is_an_error(tmp_path: Path) -> None:
    one = example("man, riding, horse")
    path = tmp_path / one.image_rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), "white").save(path)
    pictures = RealPictures(tmp_path)
    assert pictures.summary() is None
    assert pictures.pixels(one).mean() == 255
    before = pictures.summary()
    Image.new("RGB", (64, 64), "black").save(path)
    with pytest.raises(SgfluxError, match="has changed since this evaluation first read it"):
        pictures.load(one)
    anew = RealPictures(tmp_path)
    anew.load(one)
    assert anew.summary() != before
