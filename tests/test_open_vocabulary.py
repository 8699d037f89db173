"""The measurement of words that an adapter was never trained on: its rows, groups and tables.

If one of these failed, a word would be counted as new that the adapter was trained on, or a column
would show other pictures than its heading says.
"""

from __future__ import annotations

from pathlib import Path

from open_vocabulary import (
    ARMS,
    GROUPS,
    HELD_OUT,
    OBJECTS,
    QUICK,
    SYNONYMS,
    as_markdown,
    batches,
    group_of,
    groups,
    prepare,
    told,
)

from sgflux.data.examples import read_examples
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.world.icons import OBJECT_NAMES
from sgflux.world.scenes import PREDICATES
from tests.helpers.graph_examples import example

ITEMS = [
    example("man, riding, horse", number=0),
    example("man, pushing, box", number=1),
    example("man, behind, box", number=2),
    example("dog, riding, horse", number=3),
    example("dog, pushing, box", number=4),
]


def test_the_words_are_new_and_the_things_are_the_worlds() -> None:
    assert {*HELD_OUT, *SYNONYMS} <= set(PREDICATES)
    assert len({*HELD_OUT, *SYNONYMS}) == 6
    assert set(OBJECTS) <= set(OBJECT_NAMES)
    for word in SYNONYMS.values():
        assert DEFAULT_VOCABULARY.normalize(word) == word, "an alias would be the usual word"


def test_the_training_has_the_other_words_and_the_texts_the_usual_ones(tmp_path: Path) -> None:
    counts = prepare(tmp_path, QUICK)
    assert counts.keys() == {*PREDICATES, *SYNONYMS.values()} - {*HELD_OUT, *SYNONYMS}
    for split in ("train", "validation"):
        path = tmp_path / "world" / f"{split}_words.jsonl"
        for row in read_examples(path, open_vocabulary=True):
            assert {*row.graph.objects}.isdisjoint(OBJECTS)
            (triple,) = row.graph.triples()
            assert triple == row.triple
            usual = {word: name for name, word in SYNONYMS.items()}.get(
                triple.predicate, triple.predicate
            )
            said = "near" if usual == "around/near" else usual
            assert row.prompt == f"a photo of {triple.subject} {said} {triple.object}"
    test = read_examples(tmp_path / "world" / "test.jsonl")
    assert {row.triple.predicate for row in test} == set(PREDICATES)
    assert prepare(tmp_path, QUICK) == counts, "what is there is kept"


def test_items_are_grouped_by_what_is_new_in_them() -> None:
    assert [group_of(item) for item in ITEMS] == list(GROUPS)


def test_an_arm_is_told_what_its_heading_says() -> None:
    item = ITEMS[1]
    neutral = "a photo of man and box"
    assert told(item, "graph") == (item.graph, neutral)
    graph, text = told(item, "trained_word")
    assert graph is not None
    assert (str(graph.triples()[0]), text) == ("man, shoving, box", neutral)
    assert told(item, "base_relational") == (None, "a photo of man pushing box")
    assert told(item, "null_graph") == (None, neutral)


def test_what_was_drawn_is_not_drawn_again() -> None:
    every = list(batches(ITEMS, (), 3))
    assert every[:3] == [("graph", [0, 1, 2]), ("graph", [3, 4]), ("trained_word", [1, 4])]
    done = [(arm, row) for arm, rows in every for row in rows]
    assert list(batches(ITEMS, done, 3)) == []
    assert list(batches(ITEMS, done[1:], 3)) == [("graph", [0])]


def test_the_tables_show_each_arm_in_its_column() -> None:
    verdicts = [
        {"arm": arm, "row": row, "holds": arm == "base_relational", "objects": row != 3}
        for arm, rows in batches(ITEMS, (), 8)
        for row in rows
    ]
    found = groups(ITEMS, verdicts)
    assert list(found) == list(GROUPS)
    assert found["seen"].keys() == {*ARMS} - {"trained_word"}
    assert found["synonyms"]["base_relational"]["relation_accuracy"]["macro"] == 1.0
    assert found["held-out objects"]["graph"]["objects_right"]["value"] == 0.0
    text = as_markdown({"groups": found, "command": "x", "date": "today"})
    (line,) = [one for one in text.splitlines() if one.startswith("| pushing (trained as shoving)")]
    shares = [part.split()[0] for part in line.split("|")[2:6]]
    assert shares == ["0.0", "0.0", "100.0", "0.0"], line
