"""An evaluation whose judge looks for objects with a detector, from pictures to results.

If one of these failed, what a detector misses would count as a wrong relation, or figures would
stand without how good their judge is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.cli import main
from sgflux.evaluation.arms import Arm, make_items, plan_pictures, questions_about
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import read_questions
from sgflux.graphs.scene_graph import Triple
from sgflux.world.dataset import write_world
from sgflux.world.scenes import OBJECT_NAMES
from tests.helpers.detectors import Drawn, write_onnx_detector
from tests.helpers.graph_examples import example
from tests.helpers.rows import SHARED_DATA

NANODET = SHARED_DATA / "nanodet"
ARMS = ["graph", "shuffled_graph"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    return tmp_path / "data" / "test.jsonl"


@pytest.fixture
def detector(tmp_path: Path) -> str:
    """Sees half of the world's objects everywhere, each at a place of its own."""
    boxes = {
        name: (8.0 * number, 8.0, 8.0 * number + 6, 16.0)
        for number, name in enumerate(sorted(OBJECT_NAMES)[:8])
    }
    description = {"score_threshold": 0.0}
    return str(write_onnx_detector(tmp_path / "detector", boxes, description=description))


def evaluated(data: Path, *words: str) -> dict[str, Any]:
    out = data.parent.parent / "evaluation"
    given = ["--data", str(data), "--output-dir", str(out), "--generator", "oracle", *words]
    assert main(["eval", *given, "--arms", *ARMS]) == 0
    found: dict[str, Any] = json.loads((out / "evaluation_results.json").read_text())
    return found


def test_a_run_is_judged_by_a_detector_and_says_what_it_did_not_find(
    data: Path, detector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = data.parent / "calibration.json"
    judge = ["--judge", "geometry", "--detector", detector]
    known = ["--data", str(data), "--output", str(calibration)]
    assert main(["eval", "calibrate", *judge, *known]) == 0
    found = evaluated(data, *judge, "--calibration", str(calibration))
    assert found["judge"]["name"] == "geometry"
    assert found["judge"]["model"] == "squares"
    assert len(found["judge"]["sha256"]) == 64
    assert found["judge"]["not_covered"]["riding"] == 1
    assert list(found["judge"]["coverage"]) == ARMS
    for arm in ARMS:
        coverage = found["judge"]["coverage"][arm]
        assert 0 < coverage["value"] < 1
        assert coverage["n"] == found["arms"][arm]["relation_accuracy"]["n"] == 10
        assert coverage["ci95"] is not None
    lines = (data.parent.parent / "evaluation" / "results.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    kinds = {one["verdict"] for row in rows for one in row["verdict"]["verdicts"]}
    assert kinds == {"holds", "contradicted", "not found", "not covered"}
    assert any(row["judge"]["boxes"] for row in rows)
    assert found["calibration"]["stated"]["n"] == 10
    assert found["correction"]["rates"] == {}, "one statement of each predicate tells nothing"
    assert set(found["correction"]["impossible"]) == {
        *found["arms"]["graph"]["relation_accuracy"]["per_predicate"]
    }
    assert found["arms"]["graph"]["corrected"] is None
    printed = capsys.readouterr().out
    assert "No correction is possible for above (" in " ".join(printed.split())
    assert "the share of statements that hold by the judge's verdict" in " ".join(printed.split())
    assert printed.count("Calibration of the judge 'geometry' on known pictures") == 2
    assert "is not shown to be better than the majority answer" in " ".join(printed.split())


def test_without_a_calibration_there_is_none(data: Path, detector: str) -> None:
    found = evaluated(data, "--judge", "geometry,world", "--detector", detector)
    assert found["calibration"] is None
    assert "not_covered" not in found["judge"]
    assert [one["name"] for one in found["judge"]["judges"]] == ["geometry", "world"]


def test_a_calibration_that_nobody_reads_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (calibration := tmp_path / "c.json").write_text("{}")
    words = ["--data", str(data), "--judge", "none", "--calibration", str(calibration)]
    assert main(["eval", *words, "--generator", "oracle"]) == 2
    assert "calibration has no effect with judge 'none'" in capsys.readouterr().err


@pytest.mark.skipif(not NANODET.exists(), reason=f"the real detector is not at {NANODET}")
def test_a_detector_of_photographs_finds_little_in_icons_and_the_run_is_whole(data: Path) -> None:
    found = evaluated(data, "--judge", "geometry", "--detector", str(NANODET))
    for arm in ARMS:
        assert found["judge"]["coverage"][arm]["value"] < 0.3
        assert found["arms"][arm]["relation_accuracy"]["n"] == 10


def test_twins_are_judged_as_the_two_that_the_graph_is_about() -> None:
    """Whoever is left of the cat is ``dog``; the swapped statement may not pick the other one."""
    twins = example("dog, left of, cat; dog#2, right of, cat", number=0)
    other = example("dog, above, cat", number=1)
    item, _ = make_items([twins, other], [0, 1], seed=0)
    (request,) = plan_pictures([item], Arm.SHUFFLED_GRAPH, seeds_per_item=1, seed=0)
    own = [Triple("dog", "left of", "cat"), Triple("dog#2", "right of", "cat")]
    questions = questions_about(request)
    assert questions[0] == own
    assert questions[-1] == [Triple("dog", "above", "cat")], "another graph is about other dogs"
    assert all(question[:2] == own and len(question) == 3 for question in questions[1:-1])
    places = {"dog": (0, 40, 20, 20), "dog#2": (180, 40, 20, 20), "cat": (90, 40, 20, 20)}
    judge = GeometryJudge(Drawn(*((n.partition("#")[0], p, 0.5) for n, p in places.items())))
    (reading,) = read_questions(judge, [np.zeros((100, 200, 3), np.uint8)], [questions])
    assert all(reading.verdicts[triple].holds for triple in own)
    changed = [question[2] for question in questions[1:-1]]
    assert changed
    assert not any(reading.verdicts[triple].holds for triple in changed)


def test_without_twins_everything_is_one_question() -> None:
    alone, other = example("dog, left of, cat", number=0), example("cat, above, box", number=1)
    item, _ = make_items([alone, other], [0, 1], seed=0)
    (request,) = plan_pictures([item], Arm.SHUFFLED_GRAPH, seeds_per_item=1, seed=0)
    (question,) = questions_about(request)
    assert question[0] == Triple("dog", "left of", "cat")
    assert Triple("cat", "above", "box") in question
