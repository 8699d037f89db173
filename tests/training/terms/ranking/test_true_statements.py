"""True statements in other words are never drawn as negative graphs, by nobody who draws.

If one of these failed, training would push the model away from what its pictures show.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.evaluation.arms import make_items
from sgflux.graphs.entailments import entailed
from sgflux.graphs.negatives import NegativeKind
from sgflux.graphs.predicates import CANONICAL_PREDICATES, DEFAULT_VOCABULARY
from sgflux.training.terms.ranking.negatives import (
    ConfusionTable,
    NegativeSampler,
    predicates_of,
    replaced_predicates,
)

# The wording of a row, and which canonical predicates are true of its two objects.
WORDINGS = (
    ("person", "drinking from", "cup", {"drinking"}),
    ("man", "drinking", "water", {"drinking"}),
    ("man", "wearing a", "hat", {"wearing"}),
    ("man", "is wearing", "suit", {"wearing", "in"}),
    ("dog", "sitting on top of", "box", {"sitting on", "on", "above"}),
    ("cat", "on the top of", "crate", {"on", "above"}),
    ("boy", "holding a", "ball", {"holding"}),
    ("girl", "carries the", "bag", {"carrying", "holding"}),
    ("horse", "eating from", "bucket", {"eating"}),
    ("woman", "lying on", "bed", {"on", "above"}),
    ("bird", "standing next to", "tree", {"standing on", "around/near"}),
    ("car", "is to the left of", "house", {"left of"}),
    ("lamp", "hanging from the", "ceiling", {"hanging from", "below"}),
    ("rider", "riding on a", "camel", {"riding", "on"}),
    ("ape", "playing with a", "stick", {"playing with"}),
    ("baby", "looks at the", "mirror", {"looking at"}),
    ("ox", "pulling a", "cart", {"pulling"}),
)


def row(subject: str, predicate: str, object_: str, number: int) -> SceneExample:
    return SceneExample.from_json(
        {
            "prompt": f"a photo of {subject} {predicate} {object_}",
            "concepts": [subject, predicate, object_],
            "triple": {"subject": subject, "predicate": predicate, "object": object_},
            "meta": {"image_rel_path": f"{number}.png"},
        },
        open_vocabulary=True,
    )


# Rows in canonical words as well, so that every replacement is possible.
EXAMPLES = [row(s, p, o, n) for n, (s, p, o, _) in enumerate(WORDINGS)]
EXAMPLES += [row("thing", p, "stuff", 100 + n) for n, p in enumerate(CANONICAL_PREDICATES)]


def test_the_sampler_never_draws_a_true_statement() -> None:
    kinds = {"role_swap": 1.0, "inverse": 1.0, "predicate": 4.0, "hard_predicate": 4.0}
    sampler = NegativeSampler(EXAMPLES, weights=kinds, count=4, seed=0)
    table = ConfusionTable.uniform(sampler.predicates)
    drawn = 0
    for number in range(30):
        for column in sampler.draw(range(len(WORDINGS)), numbers=(number,), confusion=table):
            for contrast, (subject, _, object_, true) in zip(column, WORDINGS, strict=True):
                assert contrast is not None
                assert contrast.false is not None
                if (contrast.false.subject, contrast.false.object) == (subject, object_):
                    assert contrast.false.predicate not in true, contrast
                    drawn += 1
    assert drawn > 1000


def test_items_and_replacements_are_never_true() -> None:
    known = known_graphs(EXAMPLES)
    for seed in range(20):
        items = make_items(EXAMPLES, range(len(WORDINGS)), seed=seed)
        for item, (_, _, _, true) in zip(items, WORDINGS, strict=True):
            assert item.replaced is not None
            assert item.replaced.graph.triples()[0].predicate not in true
    for example, (_, _, _, true) in zip(EXAMPLES, WORDINGS, strict=False):
        found = replaced_predicates(
            example, predicates=predicates_of(EXAMPLES), known=known[example.picture]
        )
        assert len(found) > 8
        assert true.isdisjoint(found)


WORDS = ("on", "top", "of", "the", "a", "is", "wearing", "from", "slowly", "next", "to", "eats")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from((*WORDS, *CANONICAL_PREDICATES)), min_size=1, max_size=5))
def test_no_words_around_a_predicate_make_it_false(words: list[str]) -> None:
    predicate = " ".join(words)
    examples = [row("man", predicate, "horse", 0)]
    examples += [row("thing", p, "stuff", 1 + n) for n, p in enumerate(CANONICAL_PREDICATES)]
    stated = examples[0].triple.predicate
    true = {stated, *entailed(stated, DEFAULT_VOCABULARY)}
    if stated not in CANONICAL_PREDICATES:
        assert true >= {word for word in words if word in CANONICAL_PREDICATES}
    sampler = NegativeSampler(examples, weights={NegativeKind.PREDICATE: 1.0}, count=8, seed=0)
    table = ConfusionTable.uniform(sampler.predicates)
    for (contrast,) in sampler.draw([0], numbers=(0,), confusion=table):
        if contrast is not None:
            assert contrast.false is not None
            assert contrast.false.predicate not in true
