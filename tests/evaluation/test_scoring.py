"""Figures of hand-made readings: what each of them counts, and against what.

If one of these failed, a figure would count something else than its name says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, PictureRequest, make_items, plan_pictures
from sgflux.evaluation.drawing import JudgedPicture, picture_path
from sgflux.evaluation.judges.judge import Reading
from sgflux.evaluation.judges.world import reading_of
from sgflux.evaluation.ranking import ranking_summary
from sgflux.evaluation.scoring import (
    arm_figures,
    changed_statement,
    contradiction,
    differences,
    graph_kind,
    graph_kinds,
    win_rates,
)
from sgflux.flow_matching import sigma_grid
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.judge import CLASSES
from sgflux.world.scenes import PREDICATES
from tests.helpers.graph_examples import example

EXAMPLES = [
    example("man, riding, horse", number=0, held_out=False),
    example("cat, above, box", number=1, held_out=True),
    example("dog, around/near, tree; man, holding, ball", number=2, held_out=False),
]
ITEMS = make_items(EXAMPLES, range(3), seed=0)


def reading(*statements: str) -> Reading:
    """A judge who is certain of these statements, and of nothing else; inverses understood."""
    truth = {}
    for text in statements:
        triple = SceneGraph.parse(text).triples()[0]
        truth[triple.subject, triple.object] = triple.predicate
    objects = frozenset(name for pair in truth for name in pair)
    names = sorted({name for one in EXAMPLES for name in one.graph.objects})
    scores = {}
    for subject in names:
        for other in names:
            values = np.full(len(CLASSES), -9.0, dtype=np.float32)
            values[CLASSES.index(truth.get((subject, other), "none"))] = -0.1
            scores[subject, other] = values
    asked = [Triple(one, predicate, other) for one, other in scores for predicate in PREDICATES]
    return reading_of(asked, scores=scores, present=objects)


def judged(arm: Arm, readings: list[Reading]) -> list[JudgedPicture]:
    requests = plan_pictures(ITEMS, arm, seeds_per_item=1, seed=0)
    return [
        JudgedPicture(request, picture_path(request), one)
        for request, one in zip(requests, readings, strict=True)
    ]


RIGHT = [
    reading("man, riding, horse"),
    reading("cat, above, box", "box, below, cat"),
    reading("dog, around/near, tree", "man, holding, ball"),
]
HALF = [
    reading("man, holding, horse"),
    reading("cat, above, box"),
    reading("dog, around/near, tree", "man, riding, ball"),
]


def test_relation_accuracy_is_macro_over_predicates_and_all_right_is_by_picture() -> None:
    figures = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, HALF))
    accuracy = figures["relation_accuracy"]
    assert accuracy["macro"] == pytest.approx(2 / 4)
    assert accuracy["n"] == 4, "four statements in three pictures"
    assert {name: one["value"] for name, one in accuracy["per_predicate"].items()} == {
        "riding": 0.0,
        "above": 1.0,
        "around/near": 1.0,
        "holding": 0.0,
    }
    assert figures["all_triples_right"]["1"]["value"] == 0.5
    assert figures["both_right"]["value"] == 0.0
    assert figures["objects_right"]["value"] == 1.0


def test_objects_are_right_only_where_all_of_them_are_there() -> None:
    """One object of two would count an empty half of a picture as a whole one."""
    one_of_two = replace(RIGHT[0], present=frozenset({"man"}))
    figures = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, [one_of_two, *RIGHT[1:]]))
    assert figures["objects_right"]["value"] == pytest.approx(2 / 3)


def test_every_arm_is_asked_for_the_items_own_statement() -> None:
    """A picture drawn right from a negative is wrong about the item, and that is the control."""
    drawn = []
    for item in ITEMS:
        assert item.negative is not None
        drawn.append(reading(*(str(triple) for triple in item.negative.graph.triples())))
    figures = arm_figures(Arm.NEGATIVE_GRAPH, judged(Arm.NEGATIVE_GRAPH, drawn))
    per_predicate = figures["relation_accuracy"]["per_predicate"]
    assert per_predicate["riding"]["value"] == 0.0
    assert per_predicate["above"]["value"] == 0.0
    assert figures["given_graph_accuracy"]["macro"] == 1.0
    assert figures["given_graph_accuracy"]["n"] == 3, "the changed statement of each"


def test_held_out_combinations_stand_beside_the_others() -> None:
    figures = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, HALF))["held_out_combinations"]
    assert figures["held_out"]["macro"] == 1.0
    assert figures["held_out"]["n"] == 1
    assert figures["seen"]["n"] == 2, "by the rows' own triples: riding and near"
    seen_only = [
        picture for picture in judged(Arm.GRAPH, HALF) if not picture.request.item.held_out
    ]
    assert "held_out_combinations" not in arm_figures(Arm.GRAPH, seen_only)


def negatives_drawn() -> list[Reading]:
    graphs = [item.negative.graph for item in ITEMS if item.negative is not None]
    return [reading(*(str(triple) for triple in graph.triples())) for graph in graphs]


@pytest.mark.parametrize(
    ("on_graph", "on_negative", "expected"),
    [
        ("right", "right", 1.0),
        ("wrong", "wrong", 0.0),
        ("right", "same as graph", 0.5),
    ],
)
def test_win_rate(on_graph: str, on_negative: str, expected: float) -> None:
    """Obeyed on both pictures: 1; the contrary: 0; the same picture whatever the graph: 1/2."""
    negatives = negatives_drawn()
    true = RIGHT if on_graph == "right" else negatives
    false = {"right": negatives, "wrong": RIGHT, "same as graph": true}[on_negative]
    figures = win_rates(
        {
            Arm.GRAPH: judged(Arm.GRAPH, true),
            Arm.NEGATIVE_GRAPH: judged(Arm.NEGATIVE_GRAPH, false),
        }
    )
    swaps = [item for item in ITEMS if item.negative is item.swapped]
    assert figures["win_rate"]["value"] == expected
    assert figures["win_rate"]["n"] == len(swaps)
    assert figures["win_rate"]["negatives"] == "role_swap"


def test_a_judge_without_an_opinion_gives_one_half() -> None:
    same = {triple: replace(one, score=-3.0) for triple, one in RIGHT[0].verdicts.items()}
    blank = replace(RIGHT[0], verdicts=same)
    arms = {arm: judged(arm, [blank] * 3) for arm in (Arm.GRAPH, Arm.NEGATIVE_GRAPH)}
    assert win_rates(arms)["win_rate"]["value"] == 0.5


def test_kinds_of_negatives_are_told_apart() -> None:
    only_near = [example("dog, around/near, tree", number=0), example("cat, on, box", number=1)]
    items = make_items(only_near, range(2), seed=0)
    figures = {}
    for arm in (Arm.GRAPH, Arm.NEGATIVE_GRAPH):
        requests = plan_pictures(items, arm, seeds_per_item=1, seed=0)
        triples = [(r.graph or SceneGraph.null()).triples()[0] for r in requests]
        figures[arm] = [
            JudgedPicture(request, "", reading(str(triple)))
            for request, triple in zip(requests, triples, strict=True)
        ]
    rates = win_rates(figures)
    assert rates["win_rate"]["n"] == 1
    assert {kind: one["n"] for kind, one in rates["win_rate_by_kind"].items()} == {
        "role_swap": 1,
        "predicate": 1,
    }
    near_alone = {arm: pictures[:1] for arm, pictures in figures.items()}
    assert win_rates(near_alone)["win_rate"]["value"] is None


def test_a_statement_that_no_judge_covers_is_in_no_figure() -> None:
    """Counted as wrong it would lower an accuracy that nobody has measured."""
    partly = [
        replace(one, verdicts={t: v for t, v in one.verdicts.items() if t.predicate != "holding"})
        for one in RIGHT
    ]
    arms = {arm: judged(arm, partly) for arm in (Arm.GRAPH, Arm.NEGATIVE_GRAPH)}
    figures = arm_figures(Arm.GRAPH, arms[Arm.GRAPH])
    assert figures["relation_accuracy"]["macro"] == 1.0
    assert set(figures["relation_accuracy"]["per_predicate"]) == {"riding", "above", "around/near"}
    assert figures["relation_by_objects"]["found"]["n"] == 3
    assert set(figures["all_triples_right"]) == {"1"}, "half of a picture is not all of it"
    kinds = win_rates(arms)["win_rate_by_kind"]
    assert sum(kind["n"] for kind in kinds.values()) == sum(
        item.negative is not None
        and all(t.predicate != "holding" for t in changed_statement(item, item.negative))
        for item in ITEMS
    )


def test_a_judge_that_does_not_look_for_objects_has_no_figure_of_them() -> None:
    silent = [replace(one, present=None) for one in RIGHT]
    figures = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, silent))
    assert "objects_right" not in figures
    assert figures["relation_by_objects"]["found"]["value"] == 1.0, "all of its verdicts hold"


def test_contradiction_says_whom_the_pictures_follow() -> None:
    requests = plan_pictures(ITEMS, Arm.CONTRADICTION, seeds_per_item=1, seed=0)
    replaced = [item.replaced.graph for item in ITEMS if item.replaced is not None]
    by_text = reading(*(str(triple) for triple in replaced[1].triples()))
    neither = reading("dog, eating, tree", "man, drinking, ball")
    pictures = [
        JudgedPicture(request, "", one)
        for request, one in zip(requests, [RIGHT[0], by_text, neither], strict=True)
    ]
    figures = contradiction({Arm.CONTRADICTION: pictures})
    assert figures is not None
    for name in ("follows_graph", "follows_text", "neither"):
        assert figures[name]["value"] == pytest.approx(1 / 3)
    by_graph = [replace(picture, reading=RIGHT[0]) for picture in pictures[:1]]
    alone = contradiction({Arm.CONTRADICTION: by_graph})
    assert alone is not None
    outcome = {name: alone[name]["value"] for name in ("follows_graph", "follows_text", "neither")}
    assert outcome == {"follows_graph": 1.0, "follows_text": 0.0, "neither": 0.0}
    assert contradiction({}) is None


def test_differences_are_between_arms() -> None:
    arms: Mapping[Arm, list[JudgedPicture]] = {
        Arm.GRAPH: judged(Arm.GRAPH, RIGHT),
        Arm.BASE_NEUTRAL: judged(Arm.BASE_NEUTRAL, HALF),
    }
    figures = differences(arms)
    assert figures["graph_minus_base_neutral"]["value"] == pytest.approx(0.5)


def test_whole_graphs_are_counted_by_their_kind() -> None:
    kinds = graph_kinds(
        {
            Arm.GRAPH: judged(Arm.GRAPH, HALF),
            Arm.BASE_RELATIONAL: judged(Arm.BASE_RELATIONAL, RIGHT),
        }
    )
    assert list(kinds) == ["1 statement", "2 statements"]
    one, two = (kinds[name]["arms"] for name in kinds)
    assert (one["graph"]["all_right"]["value"], one["graph"]["all_right"]["n"]) == (0.5, 2)
    assert two["graph"]["all_right"]["value"] == 0.0, "one of the two statements is wrong"
    assert two["graph"]["relation_accuracy"]["value"] == 0.5
    assert two["base_relational"]["all_right"]["value"] == 1.0
    assert two["base_relational"]["graph_minus_this"]["value"] == -1.0
    assert "graph_minus_this" not in two["graph"]
    assert kinds["2 statements"]["contradiction"] is None, "this arm was not drawn"


def test_the_kind_of_a_graph_names_twins_and_held_out_shapes() -> None:
    dogs = example("dog, left of, horse; dog#2, right of, horse")
    items = make_items([dogs, dogs.with_meta(held_out_shape=True)], range(2), seed=0)
    assert [graph_kind(item) for item in items] == [
        "2 statements, twins",
        "2 statements, twins, held-out shape",
    ]
    assert graph_kind(ITEMS[0]) == "1 statement"


def test_pairs_of_different_noise_are_a_defect() -> None:
    graph = judged(Arm.GRAPH, RIGHT)
    moved: PictureRequest = replace(graph[0].request, seed=1)
    negative = [replace(graph[0], request=moved), *graph[1:]]
    with pytest.raises(AssertionError, match="same in every arm"):
        win_rates({Arm.GRAPH: graph, Arm.NEGATIVE_GRAPH: negative})


def test_a_relation_without_its_objects_is_told_apart() -> None:
    """The second picture shows no cat and no box, yet the judge reads the stated relation."""
    painted_over = replace(RIGHT[1], present=frozenset({"dog"}))
    arm = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, [RIGHT[0], painted_over, RIGHT[2]]))
    found = arm["relation_by_objects"]
    assert arm["relation_accuracy"]["macro"] == 1.0, "asks for the relation alone"
    assert found["right_and_found"]["macro"] == 0.75, "of four predicates"
    assert (found["found"]["value"], found["found"]["n"]) == (0.75, 4)
    assert (found["right_if_found"]["value"], found["right_if_found"]["n"]) == (1.0, 3)
    assert (found["right_if_missing"]["value"], found["right_if_missing"]["n"]) == (1.0, 1)
    assert arm["relation_accuracy"]["predicates"] == 4
    whole = arm_figures(Arm.GRAPH, judged(Arm.GRAPH, RIGHT))["relation_by_objects"]
    assert whole["right_if_missing"]["value"] is None


def test_ranking_accuracy_counts_pairs_and_ties_one_half() -> None:
    sigmas = sigma_grid(2)
    assert sigmas == (0.25, 0.75)
    errors = torch.tensor(
        [
            [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]],  # graph
            [[0.6, 0.6], [0.6, 0.6], [0.6, 0.6]],  # no graph
            [[0.7, 0.7], [0.5, 0.4], [math.nan, math.nan]],  # swapped; the last item has none
            [[0.9, 0.9], [0.9, 0.9], [0.9, 0.1]],  # another predicate
        ]
    )
    items = [*ITEMS[:2], replace(ITEMS[2], swapped=None)]
    figures = ranking_summary(items, errors, sigmas=sigmas)
    assert figures["n"] == 10
    assert figures["value"] == pytest.approx((2 + 0.5 + 0 + 5) / 10)
    assert figures["by_kind"]["role_swap"]["value"] == pytest.approx(2.5 / 4)
    assert figures["by_kind"]["predicate"]["value"] == pytest.approx(5 / 6)
    assert figures["by_sigma"]["0.25"]["n"] == 5
    assert figures["error_graph"] == pytest.approx(0.5)
    assert figures["gap"]["null_graph"]["value"] == pytest.approx(0.1)
    errors_of = {name: entry["value"] for name, entry in figures["errors"].items()}
    assert errors_of == pytest.approx(
        {"graph": 0.5, "null_graph": 0.6, "negative_graph": (1.4 + 0.9 + 3.6 + 1.0) / 10}
    )
    with pytest.raises(SgfluxError, match="3 items and 1 sigmas"):
        ranking_summary(items, errors, sigmas=[0.5])
    with pytest.raises(SgfluxError, match="its error under 'role_swap' is not finite"):
        ranking_summary(ITEMS, errors, sigmas=sigmas)
