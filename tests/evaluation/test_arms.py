"""The plan of an evaluation: the same noise in every arm, and what each arm is told.

If one of these failed, two arms would differ in their noise, or an arm would be told something
else than its name says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sgflux.data.examples import SceneExample
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import (
    ALL_ARMS,
    Arm,
    choose_rows,
    make_items,
    plan_pictures,
    statements_about,
)
from sgflux.graphs.negatives import NegativeKind
from sgflux.graphs.predicates import CANONICAL_PREDICATES, DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.evaluation import ARM_NAMES
from tests.helpers.graph_examples import example
from tests.helpers.statements import equivalent


def test_the_command_line_knows_every_arm() -> None:
    """It names them without importing this room; an arm that it lacked could not be asked for."""
    assert tuple(ARM_NAMES) == tuple(arm.value for arm in ALL_ARMS)


def balanced(per_predicate: int = 2) -> list[SceneExample]:
    rows = [
        (f"man, {predicate}, horse", bool(i % 2))
        for i in range(per_predicate)
        for predicate in CANONICAL_PREDICATES
    ]
    return [example(text, number=n, held_out=held) for n, (text, held) in enumerate(rows)]


MIXED = [
    example("man, riding, horse", number=0),
    example("cat, around/near, tree", number=1),
    example("dog, above, box; man, holding, ball", number=2),
]


def test_noise_depends_on_item_and_repeat_and_on_nothing_else() -> None:
    examples = balanced()
    items = make_items(examples, range(len(examples)), seed=3)
    plans = {arm: plan_pictures(items, arm, seeds_per_item=2, seed=3) for arm in ALL_ARMS}
    seeds = [request.seed for request in plans[Arm.GRAPH]]
    assert len(set(seeds)) == len(seeds) == 2 * len(examples), "every picture has its own"
    for arm, plan in plans.items():
        assert [request.seed for request in plan] == seeds, f"{arm} has other noise"
        assert [request.item.row for request in plan] == [r // 2 for r in range(len(plan))]
    few = plan_pictures(items[5:6], Arm.GRAPH, seeds_per_item=1, seed=3)
    assert few[0].seed == seeds[10], "the choice of items does not change an item's noise"
    assert plan_pictures(items, Arm.GRAPH, seeds_per_item=1, seed=4)[0].seed != seeds[0]


def test_every_arm_is_told_what_it_says() -> None:
    (item, *_) = make_items(MIXED, [0, 1, 2], seed=0)
    requests = {arm: plan_pictures([item], arm, seeds_per_item=1, seed=0)[0] for arm in ALL_ARMS}
    neutral = "a photo of man and horse"
    told = {arm: (r.use_adapter, r.graph, r.prompt) for arm, r in requests.items()}
    assert told[Arm.BASE_NEUTRAL] == (False, None, neutral)
    assert told[Arm.BASE_RELATIONAL] == (False, None, "a photo of man riding horse")
    assert told[Arm.NULL_GRAPH] == (True, None, neutral)
    assert told[Arm.GRAPH] == (True, item.graph, neutral)
    assert told[Arm.NEGATIVE_GRAPH] == (
        True,
        SceneGraph(("man", "horse"), ((1, "riding", 0),)),
        neutral,
    )
    assert told[Arm.SHUFFLED_GRAPH][0]
    assert told[Arm.SHUFFLED_GRAPH][1] in (MIXED[1].graph, MIXED[2].graph)
    assert told[Arm.SHUFFLED_GRAPH][2] == neutral
    adapter, graph, prompt = told[Arm.CONTRADICTION]
    assert (adapter, graph) == (True, item.graph)
    assert item.replaced is not None
    assert prompt == prompts_for_graph(item.replaced.graph, "relational") != neutral
    assert requests[Arm.CONTRADICTION].text == item.replaced.graph


def test_a_negative_is_a_role_swap_where_that_is_another_statement() -> None:
    riding, near, two = make_items(MIXED, [0, 1, 2], seed=0)
    assert riding.negative is not None
    assert riding.negative.kind is NegativeKind.ROLE_SWAP
    assert near.swapped is None, "near is symmetric: swapped, it says the same"
    assert near.negative is not None
    assert near.negative.kind is NegativeKind.PREDICATE
    assert two.negative is not None
    assert two.negative.kind is NegativeKind.ROLE_SWAP
    for item in (riding, near, two):
        assert item.replaced is not None
        for negative in (item.swapped, item.replaced):
            assert negative is None or not equivalent(negative.graph, item.graph)


def test_a_negative_is_not_true_by_another_row_of_the_same_picture() -> None:
    rows = [
        replace(example("man, holding, ball"), meta={"image_rel_path": "one.png"}),
        replace(example("ball, holding, man"), meta={"image_rel_path": "one.png"}),
        example("cat, on, box", number=5),
    ]
    item, *_ = make_items(rows, [0, 1, 2], seed=0)
    assert item.swapped is None
    assert item.negative is not None
    assert item.negative.kind is NegativeKind.PREDICATE


def test_negatives_of_twins_and_of_long_graphs_are_false() -> None:
    graphs = [
        # Swapped, the dogs would change places; "above the table" follows from the other two.
        "dog, left of, cat; cat, left of, dog#2; dog, holding, cup",
        "cup, above, plate; plate, above, table; cup, around/near, table",
        "man, riding, horse; dog, left of, horse; dog#2, right of, horse; man, holding, cup",
    ]
    examples = [example(text, number=number) for number, text in enumerate(graphs)]
    for seed in range(40):
        items = make_items(
            examples, range(3), seed=seed, predicates=["above", "left of", "behind", "on"]
        )
        for item in items:
            assert item.negative is not None
            assert item.replaced is not None
            for one in filter(None, (item.swapped, item.replaced)):
                assert not equivalent(one.graph, item.graph)
                assert Triple("cup", "above", "table") not in one.graph.triples()
                assert Triple("cup", "on", "table") not in one.graph.triples()
        (request,) = plan_pictures(items[2:], Arm.CONTRADICTION, seeds_per_item=1, seed=0)
        assert "another dog" in request.prompt


def test_another_items_graph_has_other_predicates() -> None:
    examples = balanced()
    for item in make_items(examples, range(len(examples)), seed=1):
        assert item.shuffled is not None
        assert item.shuffled in [one.graph for one in examples]
        own, other = item.graph.triples()[0].predicate, item.shuffled.triples()[0].predicate
        assert other not in (own, DEFAULT_VOCABULARY.inverse(own))


def test_items_are_balanced_and_more_include_fewer() -> None:
    examples = balanced(per_predicate=4)
    chosen = {count: choose_rows(examples, count) for count in (24, 48, 0)}
    assert chosen[0] == list(range(96))
    assert set(chosen[24]) <= set(chosen[48])
    for count, each in ((24, 1), (48, 2)):
        rows = chosen[count]
        assert rows == sorted(rows)
        assert set(Counter(examples[row].triple.predicate for row in rows).values()) == {each}
        held_out = sum(bool(examples[row].meta["held_out_combination"]) for row in rows)
        assert held_out == count / 2, "half of them are held-out combinations"
    with pytest.raises(SgfluxError, match="97 items"):
        choose_rows(examples, 97)


def test_an_item_without_what_an_arm_needs_stops_the_plan() -> None:
    (alone,) = make_items(MIXED[:1], [0], seed=0)
    with pytest.raises(SgfluxError, match=r"row 1 .*no other item.*shuffled_graph"):
        plan_pictures([alone], Arm.SHUFFLED_GRAPH, seeds_per_item=1, seed=0)
    bare = replace(alone, swapped=None, replaced=None)
    with pytest.raises(SgfluxError, match=r"row 1 .*no negative.*negative_graph"):
        plan_pictures([bare], Arm.NEGATIVE_GRAPH, seeds_per_item=1, seed=0)
    with pytest.raises(SgfluxError, match=r"no predicate.*contradiction"):
        plan_pictures([bare], Arm.CONTRADICTION, seeds_per_item=1, seed=0)


def test_a_picture_is_verified_by_all_statements_that_matter() -> None:
    item = make_items(MIXED, [0, 1, 2], seed=0)[0]
    (request,) = plan_pictures([item], Arm.SHUFFLED_GRAPH, seeds_per_item=1, seed=0)
    stated = statements_about(request)
    assert Triple("man", "riding", "horse") in stated
    assert Triple("horse", "riding", "man") in stated
    assert item.shuffled is not None
    assert set(item.shuffled.triples()) <= set(stated)
    assert len(stated) == len(set(stated))


def test_another_items_graph_is_never_true_of_the_picture() -> None:
    open_words = [
        example("person, drinking, cup", number=0),
        example("person, drinking from, cup", number=1),
        example("Person, is drinking out of a, cup", number=2),
    ]
    assert all(item.shuffled is None for item in make_items(open_words, range(3), seed=0))
    more = [*open_words, example("cup, drinking, person", number=3)]
    for seed in range(5):
        items = make_items(more, range(4), seed=seed)
        assert [item.shuffled for item in items[:3]] == [more[3].graph] * 3


def test_the_seed_chooses_negatives_and_noise() -> None:
    """A seed without effect would repeat one draw under the name of several."""
    examples = balanced()

    def choices(seed: int) -> tuple[list[object], list[object]]:
        items = make_items(examples, range(len(examples)), seed=seed)
        return [item.replaced for item in items], [item.shuffled for item in items]

    for first, second in zip(choices(0), choices(1), strict=True):
        assert first != second
    assert choices(1) == choices(1)
