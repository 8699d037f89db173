"""The grammar of prompts in plain text: what it reads, and what it does not guess.

If one of these failed, a prompt would become a graph that it does not state, or one that can be
understood in two ways would be read in one of them.
"""

from __future__ import annotations

import pytest

from sgflux.data.benchmarks.grammar import parse_prompt
from sgflux.data.benchmarks.prompt_line import NotParsedError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY


def read(text: str) -> str:
    return parse_prompt(text, DEFAULT_VOCABULARY).to_text()


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        # The three forms of T2I-CompBench's spatial lists.
        ("a heron on the left of a piano", "heron, on the left of, piano"),
        ("a heron on side of a airplane", "heron, on side of, airplane"),
        ("a heron in front of a piano", "heron, in front of, piano"),
        # Sentences: whatever stands after "was" is the relation.
        ("The red cap was on top of the oak coat rack.", "red cap, on top of, oak coat rack"),
        ("The rod is leaning against a wall.", "rod, leaning against, wall"),
        ("The clock was hung above the sink.", "clock, hung above, sink"),
        (
            "The oak rocking chair is left of a bed.",
            "oak rocking chair, left of, bed",
        ),
        # A verb before a known word is part of the relation, and no part of the name.
        ("The sleek kite floated near the tower.", "sleek kite, floated near, tower"),
        ("a lizard jumping over a log", "lizard, jumping over, log"),
        ("a red painting above a lamp", "red painting, above, lamp"),
        ("a photo of a man riding a horse", "man, riding, horse"),
        # A comma ends a statement; "the" means what was mentioned before, "a" a further one.
        ("a cow, and a cup on a table", "(cow); cup, on, table"),
        ("a cat on a mat, and the cat left of a dog", "cat, on, mat; cat, left of, dog"),
        ("a cat on a mat, a cat on a chair", "cat, on, mat; cat#2, on, chair"),
        ("a cat left of another cat", "cat, left of, cat#2"),
        # In a sentence, what "and" joins shares the relation.
        ("The rod was near the cup and the plate.", "rod, near, cup; rod, near, plate"),
        (
            "The cup and the plate are on the table.",
            "(cup); (plate); cup, on, table; plate, on, table",
        ),
        ("The cat is on the mat and the dog is under the bed.", "cat, on, mat; dog, under, bed"),
        # No relation.
        ("a red rose and a yellow vase", "(red rose); (yellow vase)"),
    ],
)
def test_what_a_text_states(text: str, graph: str) -> None:
    assert read(text) == graph


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a cup near a plate and a fork", "'fork' can be part of what 'near' says"),
        ("a cup near a plate and a fork on a table", "'fork' can be part of"),
        ("a cup and a plate on a table", "or all of them"),
        ("a cat on a mat under a table", "'under' can be said of 'mat' or of what stands before"),
        ("The orb was nestled between the cube and the cone.", "relates three things"),
        ("a cat on a mat, a cat on a chair, the cat near a dog", "'the cat' can be 2 things"),
        ("two cats on a mat", "the number 'two'"),
        ("cats on a mat", "does not begin with"),
        ("A man is holding a map and navigating the sea.", "'and' in"),
        ("A woman is holding a slice of pizza.", "'of' in 'slice of pizza'"),
        ("The moon rose above the hill.", "'rose' before 'above' may be a verb"),
        ("The cat sat still on the mat.", "'sat' in 'cat sat still' looks like a verb"),
        ("a cat on", "no name follows 'cat on'"),
        ("a cat on a", "a name is missing"),
        ("The cat is the king.", "no relation follows 'is'"),
        ("A man is playing golf at the club.", "'playing golf at' is more than a relation"),
        ("A man is on the park bench feeding pigeons.", "'feeding' in 'park bench feeding"),
        ("a cup on a tray that has milk", "'that' in 'tray that has milk'"),
        ("a cat kicks a ball", "no known relation follows 'cat kicks'"),
        ("a cat (left) on a mat", "'(' is no word"),
        ("", "does not begin with"),
    ],
)
def test_what_is_not_read_is_said_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(NotParsedError) as error:
        read(text)
    assert reason in str(error.value)


def test_a_word_of_ones_own_is_a_relation_without_is() -> None:
    own = DEFAULT_VOCABULARY.with_predicate("kicks", kind="action")
    assert parse_prompt("a cat kicks a ball", own).to_text() == "cat, kicks, ball"
