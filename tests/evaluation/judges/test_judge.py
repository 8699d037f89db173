"""What is asked of a judge, what it may not leave out, and who of several is asked.

If one of these failed, a judge that leaves out a statement, or is asked about predicates that it
does not know, would shift the figures.
"""

from __future__ import annotations

import numpy as np
import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import JUDGES, Means, make_judge
from sgflux.evaluation.judges.judge import (
    Outcome,
    Reading,
    Verdict,
    not_covered,
    read_pictures,
)
from sgflux.evaluation.judges.router import Router
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.judges import JudgeSettings
from tests.helpers.judges import Says

RIDING, ON, KICKING = (Triple("man", word, "horse") for word in ("riding", "on", "kicking"))
PICTURES = np.zeros((2, 8, 8, 3), np.uint8)


def test_only_covered_statements_are_asked_and_the_others_are_counted() -> None:
    """An uncovered statement that got a verdict would be a guess; one uncounted would be lost."""
    judge = Says("a", ["riding"])
    readings = read_pictures(judge, PICTURES, [[RIDING, ON, RIDING], [KICKING]])
    assert judge.asked == [[RIDING], []]
    assert list(readings[0].verdicts) == [RIDING]
    assert not_covered(judge, [RIDING, ON, KICKING, KICKING]) == {"on": 1, "kicking": 2}


@pytest.mark.parametrize(
    ("leaves_out", "message"),
    [("riding", "no verdict on 'man, riding, horse'"), ("a picture", "1 readings of 2 pictures")],
)
def test_a_judge_that_leaves_something_out_stops_the_run(leaves_out: str, message: str) -> None:
    judge = Says("a", ["riding", "on"], leaves_out=leaves_out)
    with pytest.raises(SgfluxError, match=message):
        read_pictures(judge, PICTURES, [[ON], [RIDING]])
    with pytest.raises(SgfluxError, match="2 pictures but lists of statements for 1"):
        read_pictures(judge, PICTURES, [[ON]])


def test_without_scores_what_holds_is_preferred() -> None:
    """The win rate of a judge that gives verdicts alone rests on this."""
    reading = Reading(
        {
            RIDING: Verdict(Outcome.HOLDS),
            ON: Verdict(Outcome.CONTRADICTED),
            KICKING: Verdict(Outcome.NOT_FOUND, score=-1.0),
        }
    )
    assert reading.preference(RIDING, ON) == 1.0
    assert reading.preference(ON, RIDING) == 0.0
    assert reading.preference(ON, KICKING) == 0.5
    assert reading.finds(RIDING)
    assert reading.finds(ON)
    assert not reading.finds(KICKING)


def test_a_statement_goes_to_the_first_judge_that_covers_its_predicate() -> None:
    first = Says("a", ["riding"], finds=frozenset({"man"}))
    second = Says("b", ["riding", "on"], Outcome.CONTRADICTED, finds=frozenset({"horse"}))
    router = Router([first, second])
    one, two = read_pictures(router, PICTURES, [[RIDING, ON, KICKING], [RIDING]])
    assert first.asked == [[RIDING], [RIDING]]
    assert second.asked == [[ON]], "a picture without a statement for it is not read"
    assert one.verdicts == {RIDING: Verdict(Outcome.HOLDS), ON: Verdict(Outcome.CONTRADICTED)}
    assert one.present == {"man", "horse"}
    assert list(one.evidence["judges"]) == ["a", "b"]
    assert two.present == {"man"}
    assert router.identity.name == "a,b"
    assert [part.sha256 for part in router.identity.parts] == ["aaaa", "bbbb"]
    assert not_covered(router, [RIDING, ON, KICKING]) == {"kicking": 1}


def test_a_judge_checks_the_graphs_that_it_will_be_asked_about() -> None:
    first, second = Says("a", ["riding"]), Says("b", ["on"])
    graphs = [SceneGraph.parse("man, riding, horse"), SceneGraph.parse("cat, on, box")]
    Router([first, second]).check(iter(graphs))
    assert first.checked == graphs[:1]
    assert second.checked == graphs[1:]


def test_the_command_line_names_judges_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JUDGES, "a", lambda _: Says("a", ["riding"]))
    assert make_judge("none", Means()) is None
    world, several = make_judge("world", Means()), make_judge("a, world", Means())
    assert world is not None
    assert world.identity.name == "world"
    assert several is not None
    assert several.identity.name == "a,world"
    for wrong in ("clairvoyant", "world,world", "world,none", ""):
        with pytest.raises(SgfluxError, match=r"judge must be 'none' or .*'world', .*'a'"):
            make_judge(wrong, Means())
    with pytest.raises(SgfluxError, match="geometry' needs a detector"):
        make_judge("geometry", Means())
    detector = JudgeSettings(detector="some/folder")
    with pytest.raises(SgfluxError, match=r"detector .* has no effect with judge 'world'"):
        make_judge("world", Means(settings=detector))
    for name in ("vqa", "clip"):
        with pytest.raises(SgfluxError, match=rf"judge '{name}' needs a model: .*--judge-model"):
            make_judge(name, Means())
    model = JudgeSettings(judge_model="some/folder")
    with pytest.raises(SgfluxError, match=r"judge_model .* has no effect with judge 'world'"):
        make_judge("world", Means(settings=model))
    with pytest.raises(SgfluxError, match=r"judge_batch_size .* has no effect with judge 'world'"):
        make_judge("world", Means(settings=JudgeSettings(judge_batch_size=2)))
    with pytest.raises(SgfluxError, match="judge 'vqa,clip' needs two models"):
        make_judge("vqa,clip", Means(settings=model))
    with pytest.raises(SgfluxError, match=r"detector .* has no effect with judge 'clip'"):
        make_judge("clip", Means(settings=detector))
    with pytest.raises(SgfluxError, match="judge_batch_size must be at least 1, got 0"):
        JudgeSettings(judge_batch_size=0)
