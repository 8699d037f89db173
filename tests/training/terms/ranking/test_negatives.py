"""Which negatives are drawn: by weights, by confusions, never true, and the same again.

If one of these failed, a true statement would be trained on as a false one, or a resumed run
would draw other negatives.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.relation_classifier import (
    ClassifierCard,
    LatentRelationClassifier,
    save_classifier,
)
from sgflux.settings.losses import NegativeMix, RankingSettings
from sgflux.training.terms.ranking.negatives import (
    ConfusionTable,
    NegativeSampler,
    predicates_of,
    replaced_predicates,
)
from sgflux.training.terms.ranking.ranking import Ranking
from sgflux.training.terms.term import Sources
from tests.helpers.graph_examples import example as graph_example


def row(text: str, picture: str = "a.png") -> SceneExample:
    subject, predicate, object_ = text.split(", ")
    return SceneExample.from_json(
        {
            "prompt": "a photo",
            "concepts": [subject, predicate, object_],
            "triple": {"subject": subject, "predicate": predicate, "object": object_},
            "meta": {"image_rel_path": picture},
        }
    )


EXAMPLES = [
    row("man, riding, horse", "a.png"),
    row("man, holding, horse", "a.png"),
    row("dog, eating, car", "b.png"),
    row("cat, around/near, ball", "c.png"),
]
PREDICATES = predicates_of(EXAMPLES)


def drawn(sampler: NegativeSampler, place: int, confusion: ConfusionTable) -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(200):
        for (contrast,) in sampler.draw([place], numbers=(number,), confusion=confusion):
            assert contrast is not None
            assert contrast.false is not None
            false = contrast.false
            found[f"{false.subject}, {false.predicate}, {false.object}"] += 1
    return found


def test_the_weights_decide_and_the_draw_can_be_repeated() -> None:
    weights = {"role_swap": 3.0, "predicate": 1.0}
    sampler = NegativeSampler(EXAMPLES, weights=weights, count=1, seed=0)
    uniform = ConfusionTable.uniform(PREDICATES)
    found = drawn(sampler, 0, uniform)
    assert 0.65 < found["horse, riding, man"] / 200 < 0.85
    assert found == drawn(sampler, 0, uniform)


def test_what_another_row_says_of_the_picture_is_no_negative() -> None:
    sampler = NegativeSampler(EXAMPLES, weights={"predicate": 1.0}, count=1, seed=0)
    found = drawn(sampler, 0, ConfusionTable.uniform(PREDICATES))
    assert "man, holding, horse" not in found
    # Who rides a horse is near it, too.
    assert set(found) == {"man, eating, horse"}


def test_hard_ones_follow_the_confusions() -> None:
    sampler = NegativeSampler(EXAMPLES, weights={"hard_predicate": 1.0}, count=1, seed=0)
    mistakes = [("eating", "riding", 1.0)] * 9 + [("eating", "holding", 0.0)] * 9
    table = ConfusionTable.counted(7, mistakes)
    assert table.weights["eating"] == {
        "holding": pytest.approx(0.05),
        "riding": pytest.approx(0.95),
    }
    found = drawn(sampler, 2, table)
    assert found["dog, riding, car"] / 200 > 0.85
    assert found["dog, holding, car"] > 0, "nothing that was tried is never drawn"
    assert ConfusionTable.from_state(table.to_state()) == table


def test_a_row_without_a_negative_has_none() -> None:
    sampler = NegativeSampler(EXAMPLES, weights={"role_swap": 1.0}, count=2, seed=0)
    assert sampler.without == 1  # around/near is symmetric
    columns = sampler.draw([3, 2], numbers=(0,), confusion=ConfusionTable.uniform(PREDICATES))
    assert [[one is None for one in column] for column in columns] == [[True, False]] * 2
    with pytest.raises(SgfluxError, match=r"no training example has a negative .*\['role_swap'\]"):
        NegativeSampler(EXAMPLES[3:], weights={"role_swap": 1.0}, count=1, seed=0)


def test_replacements_that_are_tried_are_false() -> None:
    known = row("man, holding, horse").graph
    found = replaced_predicates(
        EXAMPLES[0], predicates=["eating", "holding", "riding"], known=known
    )
    assert list(found) == ["eating"]
    assert found["eating"].triples()[0].predicate == "eating"


def test_a_replacement_that_follows_from_two_statements_is_not_tried() -> None:
    chain = graph_example("cup, left of, table; cup, above, plate; plate, above, table")
    known = chain.graph
    assert list(replaced_predicates(chain, predicates=["above", "below"], known=known)) == ["below"]


def test_statements_move_between_twins_and_nowhere_else() -> None:
    rows = [
        graph_example("dog, left of, cat; dog#2, above, box", number=0),
        graph_example("dog, left of, cat; owl, above, box", number=1),
    ]
    sampler = NegativeSampler(rows, weights={"moved_twin": 1.0}, count=2, seed=0)
    assert sampler.without == 1
    columns = sampler.draw([0, 1], numbers=(0,), confusion=ConfusionTable.uniform(PREDICATES))
    for moved, nothing in columns:
        assert nothing is None
        assert moved is not None
        assert moved.graph in (
            SceneGraph(("dog", "cat", "dog", "box"), ((2, "left of", 1), (2, "above", 3))),
            SceneGraph(("dog", "cat", "dog", "box"), ((0, "left of", 1), (0, "above", 3))),
        )
        assert moved.false == moved.true, "the same by name"
        encoded = graph_names([rows[0].graph, *sampler.statements()])
        assert set(graph_names([moved.graph])) <= set(encoded)


def test_kinds_with_the_weight_zero_change_no_draw() -> None:
    """Negatives of moved statements are off by default; every training drew others before."""
    table = ConfusionTable.uniform(PREDICATES)
    without, off = (
        NegativeSampler(EXAMPLES, weights=weights, count=3, seed=5)
        for weights in (
            {"role_swap": 1.0, "predicate": 1.0},
            RankingSettings().negatives.weights(),
        )
    )
    for number in range(20):
        drawn_now = off.draw(range(4), numbers=(number,), confusion=table)
        assert drawn_now == without.draw(range(4), numbers=(number,), confusion=table)


def test_one_predicate_alone_becomes_any_that_is_known() -> None:
    known = DEFAULT_VOCABULARY.with_predicate("kicking", kind="action")
    rows = [row("man, riding, horse")]
    sampler = NegativeSampler(rows, weights={"predicate": 1.0}, count=1, seed=0, vocabulary=known)
    false = drawn(sampler, 0, ConfusionTable.uniform(sampler.predicates))
    assert "man, kicking, horse" in false
    encoded = graph_names(sampler.statements())
    assert set(encoded) >= {statement.split(", ")[1] for statement in false}


def test_one_predicate_alone_becomes_what_the_classifier_knows(tmp_path: Path) -> None:
    words = ("holding", "pushing away", "riding", "wearing")
    counts = np.eye(4, dtype=int).tolist()
    good = {
        "accuracy": 0.9,
        "ci95": [0.8, 1.0],
        "chance": 0.25,
        "n": 4,
        "pictures": 4,
        "confusion": {"labels": list(words), "counts": counts},
    }
    model = LatentRelationClassifier(predicates=words, text_dim=8)
    card = ClassifierCard(
        kind="latent",
        predicates=words,
        settings=model.settings,
        reads="",
        held_out=good,
        training={},
    )
    save_classifier(tmp_path / "good", model, card)
    settings = RankingSettings(
        lambda_rel_rank=1.0,
        ranker="latent",
        classifier=tmp_path / "good",
        negatives=NegativeMix(role_swap=0.0, predicate=1.0),
    )
    examples = [row("man, riding, horse"), row("man, riding, tiger", "b.png")]
    sources = Sources(examples, seed=0, vocabulary=DEFAULT_VOCABULARY, say=print)
    sampler = Ranking(settings, sources).sampler
    false = drawn(sampler, 0, ConfusionTable.uniform(sampler.predicates))
    assert set(false) == {"man, holding, horse", "man, wearing, horse"}


def test_a_classifier_reads_names_and_no_moved_statement() -> None:
    with pytest.raises(SgfluxError, match="moved_twin needs ranker 'flow', got 'latent'"):
        RankingSettings(
            lambda_rel_rank=1.0,
            ranker="latent",
            classifier=Path("classifier"),
            use_negative_graph=True,
            negatives=NegativeMix(moved_twin=1.0),
        )
