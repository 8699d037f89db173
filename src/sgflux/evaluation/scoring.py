"""From judged pictures to figures, each with its interval and its number of observations.

Every arm is asked the same question: does the picture show what the *item* states? So the arms can
be compared, and the negative and the shuffled graph should score low. How well an arm follows the
graph that it was really given stands beside it. A statement that no judge covers is in no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgflux.evaluation.arms import Arm, EvaluationItem, PictureRequest
from sgflux.evaluation.correction import corrected_figures
from sgflux.evaluation.drawing import JudgedPicture, PairDistance, pair_distances, pixel_distance
from sgflux.evaluation.judges.judge import Outcome, predicate_of
from sgflux.evaluation.metrics import (
    Row,
    Rows,
    difference_estimate,
    level_estimate,
    macro_estimate,
    mean_estimate,
)
from sgflux.evaluation.statistics import compare_all
from sgflux.graphs.negatives import Negative, NegativeKind
from sgflux.graphs.predicates import CANONICAL_PREDICATES
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.chance import random_drawing

Judged = Mapping[Arm, Sequence[JudgedPicture]]


# --- the arms -----------------------------------------------------------------------------------


def arm_figures(
    arm: Arm, pictures: Sequence[JudgedPicture], correction: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all figures of one arm; corrected ones where the judge's error rates are known."""
    result: dict[str, Any] = {
        "prompt": arm.prompt_kind,
        "pictures": len(pictures),
        "relation_accuracy": macro_estimate(relation_rows(pictures)).to_json(),
    }
    read = [picture for picture in pictures if picture.reading is not None]
    if not read:
        return result
    result["relation_by_objects"] = _by_objects(read)
    # Another item's graph brings its own objects: what is false of such pictures is of a kind that
    # no calibration has.
    if correction is not None and arm is not Arm.SHUFFLED_GRAPH:
        said = zip(relation_rows(read), _decided(read), strict=True)
        result["corrected"] = corrected_figures(said, correction)
    if objects := _objects_rows(read):
        result["objects_right"] = mean_estimate(objects).to_json()
    by_size = all_right_rows(read)
    result["all_triples_right"] = {
        str(size): mean_estimate(rows).to_json() for size, rows in sorted(by_size.items())
    }
    if 2 in by_size:
        result["both_right"] = result["all_triples_right"]["2"]
    if arm in (Arm.NEGATIVE_GRAPH, Arm.SHUFFLED_GRAPH):
        result["given_graph_accuracy"] = macro_estimate(
            relation_rows(read, of=_given_triples)
        ).to_json()
    held_out = _held_out(read)
    if held_out is not None:
        result["held_out_combinations"] = held_out
    return result


def _by_objects(pictures: Sequence[JudgedPicture]) -> dict[str, Any]:
    """Return the relations by whether the judge finds both objects of the statement.

    ``relation_accuracy`` asks for the relation alone: a judge names one from an object that is
    not there, too, and is right by chance or by habit. Here that is seen.
    """
    right = relation_rows(pictures)
    found = [
        picture.reading.finds(triple)
        for picture in pictures
        for triple in covered(picture, item_triples(picture.request))
        if picture.reading is not None
    ]
    together = list(zip(right, found, strict=True))
    both = macro_estimate(
        [(value * there, group, cluster) for (value, group, cluster), there in together]
    ).to_json()
    del both["per_predicate"]
    return {
        "right_and_found": both,
        "found": mean_estimate([(float(there), g, c) for (_, g, c), there in together]).to_json(),
        "right_if_found": mean_estimate([row for row, there in together if there]).to_json(),
        "right_if_missing": mean_estimate([row for row, there in together if not there]).to_json(),
    }


def _held_out(pictures: Sequence[JudgedPicture]) -> dict[str, Any] | None:
    """Compare combinations that were never trained on with the others; None without both.

    By each row's own triple alone: it is the one whose combination is held out, or not.
    """
    sides = {
        flag: relation_rows(
            [picture for picture in pictures if picture.request.item.held_out is flag],
            of=lambda request: [item_triples(request)[request.item.example.triple_index]],
        )
        for flag in (True, False)
    }
    if not sides[True] or not sides[False]:
        return None
    return {
        "held_out": macro_estimate(sides[True]).to_json(),
        "seen": macro_estimate(sides[False]).to_json(),
        "difference": difference_estimate(sides[True], sides[False]).to_json(),
    }


def differences(judged: Judged) -> dict[str, Any]:
    """Return the relation accuracy of the graph arm minus that of every other arm."""
    rows = {arm: relation_rows(pictures) for arm, pictures in judged.items()}
    if not rows.get(Arm.GRAPH):
        return {}
    return {
        f"graph_minus_{arm}": difference_estimate(rows[Arm.GRAPH], rows[arm]).to_json()
        for arm in rows
        if arm is not Arm.GRAPH
    }


def comparisons(judged: Judged) -> dict[str, Any]:
    """Compare the graph arm with every other arm, pair by pair; ``p_holm`` is over all arms."""
    rows = {arm: relation_rows(pictures) for arm, pictures in judged.items()}
    graph = rows.pop(Arm.GRAPH, [])
    return compare_all({str(arm): (graph, other) for arm, other in rows.items() if graph})


# --- pairs of arms ------------------------------------------------------------------------------


def win_rates(judged: Judged) -> dict[str, Any]:
    """Count how often the judge prefers what was asked for, by kind of negative.

    The mean over two comparisons: g+'s statement against g-'s on the picture of g+, and g-'s
    against g+'s on the picture of g-. Who ignores the graph gets exactly one half.
    """
    figures = {kind: _win_rate(kind, rows) for kind, rows in sorted(wins(judged).items())}
    headline = str(NegativeKind.ROLE_SWAP)
    return {
        "win_rate": figures.get(headline) or _win_rate(headline, []),
        "win_rate_by_kind": figures,
    }


def wins(judged: Judged) -> dict[str, list[tuple[float, float, str, str]]]:
    """Return kind of negative -> (win on g+'s picture, on g-'s picture, predicate, cluster)."""
    by_kind: dict[str, list[tuple[float, float, str, str]]] = {}
    pairs = _pairs(judged.get(Arm.GRAPH, ()), judged.get(Arm.NEGATIVE_GRAPH, ()))
    for true, false in pairs:
        negative = true.request.item.negative
        if negative is None or true.reading is None or false.reading is None:
            continue
        statement, other = both = changed_statement(true.request.item, negative)
        if len(covered(true, both)) < 2 or len(covered(false, both)) < 2:
            continue
        on_each = (
            true.reading.preference(statement, other),
            false.reading.preference(other, statement),
        )
        row = (*on_each, predicate_of(statement), _cluster(true.request))
        by_kind.setdefault(str(negative.kind), []).append(row)
    return by_kind


def _win_rate(kind: str, rows: list[tuple[float, float, str, str]]) -> dict[str, Any]:
    both: list[Row] = [((one + two) / 2, group, cluster) for one, two, group, cluster in rows]
    return {
        **mean_estimate(both).to_json(),
        "negatives": kind,
        "on_graph_pictures": mean_estimate([(one, g, c) for one, _, g, c in rows]).to_json(),
        "on_negative_pictures": mean_estimate([(two, g, c) for _, two, g, c in rows]).to_json(),
        "per_predicate": macro_estimate(both).to_json()["per_predicate"],
    }


def contradiction(judged: Judged) -> dict[str, Any] | None:
    """Count whether pictures follow the graph or a text that states another predicate."""
    outcomes: dict[str, list[Row]] = {"follows_graph": [], "follows_text": [], "neither": []}
    for picture in judged.get(Arm.CONTRADICTION, ()):
        item, reading = picture.request.item, picture.reading
        if reading is None or item.replaced is None:
            continue
        by_graph, by_text = both = changed_statement(item, item.replaced)
        if len(covered(picture, both)) < 2:
            continue
        hits = [reading.is_right(by_graph), reading.is_right(by_text)]
        hits.append(not any(hits))
        for rows, hit in zip(outcomes.values(), hits, strict=True):
            rows.append((float(hit), predicate_of(by_graph), _cluster(picture.request)))
    if not outcomes["neither"]:
        return None
    return {name: mean_estimate(rows).to_json() for name, rows in outcomes.items()}


def graph_kind(item: EvaluationItem) -> str:
    """Say of what kind an item's graph is, like "4 statements, twins, held-out shape".

    Twins are objects of one name, which the graph tells apart.
    """
    count, graph = len(item.graph.relationships), item.graph
    words = [f"{count} statement{'' if count == 1 else 's'}"]
    if graph.labels() != graph.objects:
        words.append("twins")
    if item.held_out_shape:
        words.append("held-out shape")
    return ", ".join(words)


def graph_kinds(judged: Judged) -> dict[str, Any]:
    """Return kind of graph, see :func:`graph_kind` -> its figures, the smallest graphs first."""
    kinds: dict[tuple[int, str], dict[Arm, list[JudgedPicture]]] = {}
    for arm, pictures in judged.items():
        for picture in pictures:
            item = picture.request.item
            key = len(item.graph.relationships), graph_kind(item)
            kinds.setdefault(key, {}).setdefault(arm, []).append(picture)
    return {kind: whole_graph_figures(own) for (_, kind), own in sorted(kinds.items())}


def whole_graph_figures(judged: Judged) -> dict[str, Any]:
    """Return how many pictures show whole graphs, for every arm.

    Returns:
        ``arms``: for every arm whose pictures were read ``all_right``, the share of pictures that
        show every statement of their item; ``relation_accuracy``, the mean over predicates;
        ``objects_right``, None where no judge looks for objects; and ``graph_minus_this``, the
        difference of ``all_right``, which the arm ``graph`` itself does not have.
        ``contradiction``: see :func:`contradiction`.
    """
    rows = {
        arm: [row for own in all_right_rows(pictures).values() for row in own]
        for arm, pictures in judged.items()
    }
    arms = {}
    for arm, pictures in judged.items():
        if not rows[arm]:
            continue
        arms[str(arm)] = {
            "all_right": mean_estimate(rows[arm]).to_json(),
            "relation_accuracy": macro_estimate(relation_rows(pictures)).overall.to_json(),
            "objects_right": mean_estimate(_objects_rows(pictures)).to_json(),
        }
        if arm is not Arm.GRAPH and (graph := rows.get(Arm.GRAPH)):
            difference = difference_estimate(graph, rows[arm])
            arms[str(arm)]["graph_minus_this"] = difference.to_json()
    return {"arms": arms, "contradiction": contradiction(judged)}


def sensitivity(
    judged: Judged, *, out_dir: Path, distance: PairDistance = pixel_distance
) -> dict[str, Any]:
    """Measure how far pictures of equal noise move, by default in pixels, from 0 to 1."""
    result = {}
    for arm in (Arm.NEGATIVE_GRAPH, Arm.SHUFFLED_GRAPH, Arm.NULL_GRAPH, Arm.BASE_NEUTRAL):
        pairs = _pairs(judged.get(Arm.GRAPH, ()), judged.get(arm, ()))
        if not pairs:
            continue
        distances = pair_distances(pairs, out_dir=out_dir, distance=distance)
        rows: Rows = [
            (distance, "all", _cluster(one.request))
            for distance, (one, _) in zip(distances, pairs, strict=True)
        ]
        result[f"graph_to_{arm}"] = level_estimate(rows).to_json()
    return result


def coverage(arms: Mapping[str, Any]) -> dict[str, Any]:
    """Return arm -> share of its statements both of whose objects the judge found."""
    return {
        name: figures["relation_by_objects"]["found"]
        for name, figures in arms.items()
        if "relation_by_objects" in figures
    }


def summary(
    judged: Judged,
    *,
    out_dir: Path | None,
    judge: str = "",
    correction: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return every figure that comes from pictures.

    Args:
        judged: the pictures of each arm, with what was read in them.
        out_dir: Folder of the evaluation, in which the pictures lie; None leaves out how far they
            move.
        judge: name of who read them, with whom chance may have been measured.
        correction: Error rates of the judge, as
            :func:`~sgflux.evaluation.correction.correction_of` gives them; None: not known.
    """
    arms = {str(arm): arm_figures(arm, pictures, correction) for arm, pictures in judged.items()}
    base = arms.get(str(Arm.BASE_NEUTRAL))
    return {
        "arms": arms,
        **win_rates(judged),
        "differences": differences(judged),
        "comparisons": comparisons(judged),
        "contradiction": contradiction(judged),
        **(
            {}
            if out_dir is None
            else {"graph_sensitivity": {"pixel_distance": sensitivity(judged, out_dir=out_dir)}}
        ),
        "chance": {
            "random_drawing": random_drawing(judge),
            "one_of_all_predicates": 1 / len(CANONICAL_PREDICATES),
            "base_neutral": None if base is None else base["relation_accuracy"]["macro"],
        },
        "graph_kinds": graph_kinds(judged),
    }


# --- observations -------------------------------------------------------------------------------


def item_triples(request: PictureRequest) -> Sequence[Triple]:
    """Return what the item states."""
    return request.item.graph.labelled_triples()


def _given_triples(request: PictureRequest) -> Sequence[Triple]:
    """Return what the graph that the adapter was told states, or what is changed in it."""
    graph = request.graph or SceneGraph.null()
    if request.arm is Arm.NEGATIVE_GRAPH and request.item.negative is not None:
        return [graph.labelled_triples()[request.item.negative.index]]
    return graph.labelled_triples()


def relation_rows(
    pictures: Iterable[JudgedPicture],
    *,
    of: Callable[[PictureRequest], Sequence[Triple]] = item_triples,
) -> Rows:
    """Return one observation for each covered statement: whether it holds in the picture."""
    return [
        (float(picture.reading.is_right(triple)), predicate_of(triple), _cluster(picture.request))
        for picture in pictures
        for triple in covered(picture, of(picture.request))
        if picture.reading is not None
    ]


def _decided(pictures: Iterable[JudgedPicture]) -> list[bool]:
    """Return whether the judge decides about each covered statement, as its verdict says."""
    return [
        picture.reading.verdicts[triple].outcome is not Outcome.NOT_FOUND
        for picture in pictures
        for triple in covered(picture, item_triples(picture.request))
        if picture.reading is not None
    ]


def all_right_rows(pictures: Iterable[JudgedPicture]) -> dict[int, list[Row]]:
    """Return number of statements -> one observation a picture: whether all of them are right.

    A picture with a statement that no judge covers is left out.
    """
    by_size: dict[int, list[Row]] = {}
    for picture in pictures:
        triples = item_triples(picture.request)
        if picture.reading is not None and len(covered(picture, triples)) == len(triples):
            right = all(picture.reading.is_right(triple) for triple in triples)
            row = (float(right), "all", _cluster(picture.request))
            by_size.setdefault(len(triples), []).append(row)
    return by_size


def _objects_rows(pictures: Iterable[JudgedPicture]) -> Rows:
    """Return one observation a picture: whether all the item's objects are in it."""
    return [
        (
            float(picture.reading.has_all(picture.request.item.graph.labels())),
            "all",
            _cluster(picture.request),
        )
        for picture in pictures
        if picture.reading is not None and picture.reading.present is not None
    ]


def covered(picture: JudgedPicture, statements: Iterable[Triple]) -> list[Triple]:
    """Return the statements on which the picture's judge gave a verdict."""
    reading = picture.reading
    return [t for t in statements if reading is not None and t in reading.verdicts]


def changed_statement(item: EvaluationItem, negative: Negative) -> tuple[Triple, Triple]:
    """Return the statement that a negative changes, and what it makes of it."""
    changed = negative.graph.labelled_triples()[negative.index]
    return item.graph.labelled_triples()[negative.index], changed


def _pairs(
    first: Sequence[JudgedPicture], second: Sequence[JudgedPicture]
) -> list[tuple[JudgedPicture, JudgedPicture]]:
    """Return pictures of the same item and noise in two arms; [] if one arm was not drawn."""
    if not first or not second:
        return []
    pairs = list(zip(first, second, strict=True))
    for one, other in pairs:
        same_item = one.request.item.row == other.request.item.row
        assert same_item, "arms are planned in one order"
        assert one.request.seed == other.request.seed, "the noise is the same in every arm"
    return pairs


def _cluster(request: PictureRequest) -> str:
    return request.item.example.image_rel_path
