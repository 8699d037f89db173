"""Which pictures an evaluation draws: test items, and the arms that each of them goes through.

In every arm an item gets the same noise; the text is neutral unless the arm says otherwise. What
differs between two arms is therefore what the difference of their figures comes from.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.data.graph_texts import WORDINGS
from sgflux.data.prompts import PromptKind, prompt_for, prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import Negative, NegativeKind, Negatives, NegativeUnavailableError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph, Triple, name_of_label

Row = TypeVar("Row")


class Arm(StrEnum):
    """One way to ask for an item's picture."""

    BASE_NEUTRAL = "base_neutral"
    """The base, told the objects only: what chance and the base's habits give."""
    BASE_RELATIONAL = "base_relational"
    """The base, told the whole graph in words: by default plainly, or in its best wording."""
    NULL_GRAPH = "null_graph"
    """The adapter without a graph: what it changes by being there at all."""
    GRAPH = "graph"
    """The adapter with the item's graph."""
    NEGATIVE_GRAPH = "negative_graph"
    """The adapter with the item's negative: one relationship swapped or replaced."""
    SHUFFLED_GRAPH = "shuffled_graph"
    """The adapter with another item's graph."""
    CONTRADICTION = "contradiction"
    """The adapter with the item's graph, and words that state another predicate."""

    @property
    def uses_adapter(self) -> bool:
        """Whether the adapter is on."""
        return self not in (Arm.BASE_NEUTRAL, Arm.BASE_RELATIONAL)

    @property
    def has_graph(self) -> bool:
        """Whether the adapter is told a graph."""
        return self in (Arm.GRAPH, Arm.NEGATIVE_GRAPH, Arm.SHUFFLED_GRAPH, Arm.CONTRADICTION)

    @property
    def prompt_kind(self) -> PromptKind:
        """What kind of text goes with it."""
        return "relational" if self in (Arm.BASE_RELATIONAL, Arm.CONTRADICTION) else "neutral"


ALL_ARMS: tuple[Arm, ...] = tuple(Arm)


@dataclass(frozen=True)
class EvaluationItem:
    """One test example and what it is compared with.

    Attributes:
        row: Place in the test file, from 0.
        example: the example.
        swapped: the negative with the roles of an asymmetric relationship swapped, if there is one.
        replaced: the negative with another predicate, if there is one.
        shuffled: another item's graph, if there is one that states something else.
    """

    row: int
    example: SceneExample
    swapped: Negative | None
    replaced: Negative | None
    shuffled: SceneGraph | None

    @property
    def graph(self) -> SceneGraph:
        """The true graph, g+."""
        return self.example.graph

    @property
    def negative(self) -> Negative | None:
        """The one that is drawn, g-: the role swap where there is one, else the other predicate."""
        return self.swapped or self.replaced

    @property
    def held_out(self) -> bool | None:
        """Whether its combination is not in the training set; None where the data do not say."""
        flag = self.example.meta.get("held_out_combination")
        return flag if isinstance(flag, bool) else None

    @property
    def held_out_shape(self) -> bool | None:
        """Whether no training graph has the shape of its graph; None where the data do not say."""
        flag = self.example.meta.get("held_out_shape")
        return flag if isinstance(flag, bool) else None


@dataclass(frozen=True)
class PictureRequest:
    """One picture to draw.

    Attributes:
        item: the item that it is for.
        arm: the arm that it belongs to.
        repeat: number of the noise, from 0.
        seed: Seed of the noise; the same in every arm.
        graph: Graph that the adapter is given; None: no graph.
        text: Graph that the prompt states (for a neutral prompt, its objects only).
        prompt: the text itself.
        use_adapter: False means the base.
    """

    item: EvaluationItem
    arm: Arm
    repeat: int
    seed: int
    graph: SceneGraph | None
    text: SceneGraph
    prompt: str
    use_adapter: bool

    @property
    def place(self) -> str:
        """What an error calls the picture's example."""
        return self.item.example.named(self.item.row, kind="row")


def derived_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Return a seed in [0, 2^48) of its own for every combination of arguments."""
    text = "/".join(["evaluation", str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def choose_rows(examples: Sequence[SceneExample], count: int) -> list[int]:
    """Choose ``count`` rows, as many of each predicate, held-out or not, as there are.

    Predicates take turns; of each, rows whose combination is held out and others take turns, too.
    The first ones of the file are taken: more rows include fewer.

    Args:
        examples: the test set.
        count: Number of examples to choose; 0: all.

    Returns:
        Rows in the order of the file.

    Raises:
        SgfluxError: if there are fewer.
    """
    if not count:
        return list(range(len(examples)))
    if count > len(examples):
        raise SgfluxError(f"{count} items are asked for, but the test set has {len(examples)}")
    taken: Counter[tuple[str, bool]] = Counter()
    ranked = []
    predicates = sorted({example.triple.predicate for example in examples})
    for row, example in enumerate(examples):
        predicate = example.triple.predicate
        held_out = bool(example.meta.get("held_out_combination", False))
        turn = taken[predicate, held_out]
        taken[predicate, held_out] += 1
        # Which of the two comes first alternates, so that one row a predicate has both, too.
        second = held_out != bool(predicates.index(predicate) % 2)
        ranked.append((turn, second, predicates.index(predicate), row))
    return sorted(row for *_, row in sorted(ranked)[:count])


def make_items(
    examples: Sequence[SceneExample],
    rows: Sequence[int],
    *,
    seed: int,
    predicates: Sequence[str] | None = None,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    places: Sequence[int] | None = None,
) -> list[EvaluationItem]:
    """Return the chosen rows with their negatives and another row's graph.

    A negative is never true of the picture, as far as all rows about it tell. A replaced predicate
    is one of the data's where that gives a negative, else one of ``predicates``. Another item's
    graph is one with other predicates where there is any such, else any that states something else.

    Args:
        examples: the whole test set, or what the adapter can read of it: together they know all
            that is known of their pictures.
        rows: Indices of the examples that are evaluated.
        seed: Seed of the choices; an item's choices do not depend on which other rows are chosen
            (except whose graph it gets).
        predicates: canonical ones that the adapter can read; None: all of the vocabulary.
        vocabulary: the known predicates, and which statements are the same.
        places: Place of each example in the test file; None: they are the whole file.
    """
    places = range(len(examples)) if places is None else places
    known = known_graphs(examples)
    own = sorted(
        {
            vocabulary.canonical(triple.predicate)
            for example in examples
            for triple in example.graph.triples()
            if triple.predicate in vocabulary
        }
    )

    def negative(row: int, kind: NegativeKind) -> Negative | None:
        # A wrong predicate is one of the data's, which the adapter has seen, where one is wrong.
        for allowed in (own, predicates):
            try:
                return Negatives(
                    examples[row].graph,
                    vocabulary=vocabulary,
                    known=known[examples[row].picture],
                    predicates=allowed,
                ).draw(random.Random(derived_seed(seed, kind, places[row])), kind)
            except NegativeUnavailableError:
                continue
        return None

    items = []
    for row in rows:
        rng = random.Random(derived_seed(seed, "other", places[row]))
        truth = Negatives(
            examples[row].graph, known=known[examples[row].picture], vocabulary=vocabulary
        )
        items.append(
            EvaluationItem(
                row=places[row],
                example=examples[row],
                swapped=negative(row, NegativeKind.ROLE_SWAP),
                replaced=negative(row, NegativeKind.PREDICATE),
                shuffled=_other_graph(examples, rows, row, truth=truth, rng=rng),
            )
        )
    return items


def _other_graph(
    examples: Sequence[SceneExample],
    rows: Sequence[int],
    row: int,
    *,
    truth: Negatives,
    rng: random.Random,
) -> SceneGraph | None:
    """Find another row's graph that is not known as true here, with other predicates if any."""
    own = examples[row]
    own_predicates = _predicates(own.graph, truth.vocabulary)
    start = rng.randrange(len(rows))
    second_best = None
    for candidate in (*rows[start:], *rows[:start]):
        other = examples[candidate]
        if other.image_rel_path == own.image_rel_path or truth.may_be_true(other.graph):
            continue
        if not own_predicates & _predicates(other.graph, truth.vocabulary):
            return other.graph
        second_best = second_best or other.graph
    return second_best


def _predicates(graph: SceneGraph, vocabulary: PredicateVocabulary) -> set[str]:
    """Return what the graph's predicates are, and their inverses."""
    own = {vocabulary.normalize(triple.predicate) for triple in graph.triples()}
    return own | {inverse for name in own if (inverse := vocabulary.inverse(name))}


def plan_pictures(
    items: Sequence[EvaluationItem],
    arm: Arm,
    *,
    seeds_per_item: int,
    seed: int,
    wording: Callable[[SceneExample], str] = WORDINGS["plain"],
) -> list[PictureRequest]:
    """Plan all pictures of one arm, item by item.

    Args:
        items: Items to draw.
        arm: The arm.
        seeds_per_item: Number of pictures of each item, with different noise.
        seed: Seed of the noise.
        wording: Text in which the base is told an example's graph.

    Raises:
        SgfluxError: if an item has not what the arm needs; the message names the item.
    """
    return [
        _request(item, arm, repeat, derived_seed(seed, "noise", item.row, repeat), wording)
        for item in items
        for repeat in range(seeds_per_item)
    ]


def _request(
    item: EvaluationItem,
    arm: Arm,
    repeat: int,
    seed: int,
    wording: Callable[[SceneExample], str],
) -> PictureRequest:
    prompt, text = prompt_for(item.example, "neutral"), stated_in_text(item, arm)
    graph: SceneGraph | None = None
    if arm is Arm.BASE_RELATIONAL:
        prompt = wording(item.example)
    elif arm is Arm.GRAPH:
        graph = item.graph
    elif arm is Arm.NEGATIVE_GRAPH:
        graph = _needed(item, arm, None if item.negative is None else item.negative.graph)
    elif arm is Arm.SHUFFLED_GRAPH:
        graph = _needed(item, arm, item.shuffled)
    elif arm is Arm.CONTRADICTION:
        graph = item.graph
        prompt = prompts_for_graph(text, "relational")
    return PictureRequest(
        item=item,
        arm=arm,
        repeat=repeat,
        seed=seed,
        graph=graph,
        text=text,
        prompt=prompt,
        use_adapter=arm.uses_adapter,
    )


def stated_in_text(item: EvaluationItem, arm: Arm) -> SceneGraph:
    """Return what an arm's prompt states of an item: only objects where the prompt is neutral."""
    if arm is Arm.BASE_RELATIONAL:
        return item.graph
    if arm is Arm.CONTRADICTION:
        return _needed(item, arm, None if item.replaced is None else item.replaced.graph)
    return SceneGraph(objects=_in_prompt_order(item.graph), relationships=())


def _in_prompt_order(graph: SceneGraph) -> tuple[str, ...]:
    order = dict.fromkeys(i for s, _, o in graph.relationships for i in (s, o))
    order.update(dict.fromkeys(range(len(graph.objects))))
    return tuple(graph.objects[i] for i in order)


def _needed(item: EvaluationItem, arm: Arm, graph: SceneGraph | None) -> SceneGraph:
    if graph is None:
        what = {
            Arm.NEGATIVE_GRAPH: "no negative that is certainly not true of its picture",
            Arm.SHUFFLED_GRAPH: "no other item with another statement to take a graph from",
        }.get(arm, "no predicate that is certainly not true of its picture")
        raise SgfluxError(
            f"{item.example.named(item.row, kind='row')} of the test set "
            f"('{item.example.triple}') has {what}: remove it or leave out the "
            f"arm {arm!s}; no item is skipped in silence"
        )
    return graph


def statements_about(request: PictureRequest) -> list[Triple]:
    """Return every statement by which the request's picture is verified.

    The item's own, both negatives' and, where the picture was drawn from another graph, that one's.
    """
    item = request.item
    stated = list(item.graph.labelled_triples())
    for negative in (item.swapped, item.replaced):
        if negative is not None:
            stated += negative.graph.labelled_triples()
    if request.graph is not None:
        stated += request.graph.labelled_triples()
    return list(dict.fromkeys(stated))


def questions_about(request: PictureRequest) -> list[list[Triple]]:
    """Return the same statements, those together that are judged together.

    Where objects share a name, who is ``dog`` and who ``dog#2`` is decided by all that one graph
    states: the item's graph is one question, what a negative changes is judged beside it, and the
    given graph is a question of its own.
    """
    every = statements_about(request)
    labels = {label for triple in every for label in (triple.subject, triple.object)}
    if all(name_of_label(label) == label for label in labels):
        return [every]
    item = request.item
    own = list(item.graph.labelled_triples())
    changed = [
        triple
        for negative in (item.swapped, item.replaced)
        if negative is not None
        for triple in negative.graph.labelled_triples()
        if triple not in own
    ]
    given = [] if request.graph is None else [list(request.graph.labelled_triples())]
    return [own, *([*own, triple] for triple in changed), *given]


def batches(rows: Sequence[Row], batch_size: int) -> Iterator[Sequence[Row]]:
    """Yield rows in their order, ``batch_size`` at a time."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
