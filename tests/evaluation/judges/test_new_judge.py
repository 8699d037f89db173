"""A judge of one's own: one class, one line in the table, and the whole evaluation takes it.

Broken, a new judge would need a change in another room. The class is the one of docs/extending.md.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.judges import JUDGES
from sgflux.evaluation.judges.judge import Images, JudgeIdentity, Outcome, Reading, Verdict
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.dataset import write_world

EXTENDING = Path(__file__).parents[3] / "docs" / "extending.md"


class Credulous:
    """Accepts every statement that it covers, as a measure of what calibration finds out."""

    identity = JudgeIdentity("credulous")

    def covers(self, predicate: str) -> bool:
        return predicate in ("above", "below", "left of", "right of")

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Refuse no graph: this judge looks at no object."""

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        return [
            Reading({triple: Verdict(Outcome.HOLDS) for triple in about_one_picture})
            for about_one_picture in statements
        ]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(JUDGES, "credulous", lambda _: Credulous())
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    return tmp_path / "data" / "test.jsonl"


def results(data: Path, judge: str, *flags: str) -> dict[str, Any]:
    out_dir = data.parent.parent / "evaluation"
    words = ["--data", str(data), "--output-dir", str(out_dir), "--judge", judge, *flags]
    assert main(["eval", *words, "--generator", "oracle"]) == 0
    found: dict[str, Any] = json.loads((out_dir / "evaluation_results.json").read_text())
    return found


def test_the_page_about_extending_shows_this_judge() -> None:
    """Code of a page that nobody runs soon does not work any more."""
    assert inspect.getsource(Credulous) in EXTENDING.read_text(encoding="utf-8")


def test_a_new_judge_goes_through_the_whole_evaluation(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results(data, "credulous")
    judge, arm = found["judge"], found["arms"]["shuffled_graph"]
    assert (judge["name"], judge["accuracy"], judge["n"]) == ("credulous", 1.0, 4)
    assert judge["false_acceptance"]["reversed"]["value"] == 1.0, "it accepts what is false, too"
    assert judge["not_covered"]["riding"] == 1
    assert len(judge["not_covered"]) == 20
    assert arm["relation_accuracy"]["n"] == 4, "one statement a picture, of four predicates"
    assert arm["relation_accuracy"]["macro"] == 1.0
    assert "objects_right" not in arm, "nobody has looked for objects"
    assert found["win_rate"]["value"] == 0.5, "both statements hold: no preference"
    assert "does not cover" in capsys.readouterr().out
    folder = data.parent.parent / "evaluation"
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    kinds = {one["verdict"] for line in lines for one in line["verdict"]["verdicts"]}
    assert kinds == {"holds", "not covered"}
    assert {line["verdict"]["all_right"] for line in lines} == {True, None}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "does not cover" in page
    assert "credulous" in page


def test_a_new_judge_and_the_worlds_share_the_predicates(data: Path) -> None:
    found = results(data, "credulous,world", "--arms", "graph", "shuffled_graph")
    assert [one["name"] for one in found["judge"]["judges"]] == ["credulous", "world"]
    assert "not_covered" not in found["judge"]
    wrong = found["arms"]["shuffled_graph"]["relation_accuracy"]["per_predicate"]
    assert wrong["above"]["value"] == 1.0
    assert wrong["riding"]["value"] == 0.0


def test_a_judge_that_covers_nothing_is_refused_before_a_picture_is_drawn(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Credulous, "covers", lambda self, predicate: predicate == "kicking")
    config = EvalConfig.from_flat(
        data=data, output_dir=data.parent / "out", judge="credulous", generator="oracle"
    )
    with pytest.raises(SgfluxError, match=r"'credulous' covers none of the predicates.*'above'"):
        evaluate(config, show_progress=False, say=lambda line: None)
    assert not (data.parent / "out" / "pictures").exists()
