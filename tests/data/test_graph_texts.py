"""Wordings of whole graphs: each states every statement, and says which of two twins is meant.

If one of these failed, the base would be told less than the graph, and comparing an adapter with
it would favour the adapter.
"""

from __future__ import annotations

import pytest

from sgflux.data.graph_texts import WORDINGS, twins_told_alike
from tests.helpers.graph_examples import example

FOUR = "cup, on, plate; cup#2, on, plate; cup#3, left of, cup; plate, on, table"


@pytest.mark.parametrize(
    ("graph", "wording", "text"),
    [
        ("man, riding, horse", "articles", "a photo of a man riding a horse"),
        ("man, riding, horse", "sentences", "A man is riding a horse."),
        ("owl, around/near, glasses", "articles", "a photo of an owl near glasses"),
        (
            "dog, around/near, man; man, wearing, hat; man, riding, horse",
            "joined",
            "a photo of a dog near a man, and the man wearing a hat and riding a horse",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "plain",
            "a photo of dog left of dog and dog above cat and owl",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "terse",
            "a photo of dog left of another dog and second dog above cat and owl",
        ),
        (
            "man, wearing, hat; dog, around/near, man",
            "terse",
            "a photo of dog near man and man wearing hat",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "articles",
            "a photo of a dog to the left of another dog and the second dog above a cat and an owl",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "listed",
            "a photo of a dog, another dog, a cat and an owl: the first dog is to the left of the "
            "second dog, the second dog is above the cat",
        ),
        (
            FOUR,
            "sentences",
            "A cup is to the left of another cup. The second cup is on a plate. A third cup is on "
            "the plate. The plate is on a table.",
        ),
    ],
)
def test_texts_of_graphs(graph: str, wording: str, text: str) -> None:
    assert WORDINGS[wording](example(graph)) == text


def test_the_plain_text_of_one_statement_is_the_rows_own() -> None:
    assert WORDINGS["plain"](example("man, riding, horse")) == "a photo of man riding horse"
    benchmark = example("man, riding, horse; man, wearing, hat").with_meta(benchmark={"name": "x"})
    assert WORDINGS["plain"](benchmark) == benchmark.prompt, "its prompt states the whole graph"


def test_graphs_are_counted_in_which_it_is_open_who_is_meant() -> None:
    twins = example("dog, left of, dog#2; dog#2, above, cat")
    assert twins_told_alike([twins, example("dog, left of, dog#2"), example(FOUR)]) == 2
    assert twins_told_alike([example("dog, left of, cat; dog, on, mat")]) == 0
    assert twins_told_alike([twins.with_meta(benchmark={"name": "x"})]) == 0
