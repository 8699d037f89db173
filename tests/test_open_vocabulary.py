"""The measurement of words that an adapter was never trained on: its rows, groups and tables.

If one of these failed, a word would be counted as new that the adapter was trained on, or a column
would show other pictures than its heading says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_vocabulary import (
    ARMS,
    GROUPS,
    HELD_OUT,
    OBJECTS,
    QUICK,
    SYNONYMS,
    UNKNOWN,
    as_markdown,
    batches,
    draw,
    figure,
    figure_rows,
    group_of,
    groups,
    picture_of,
    prepare,
    read_verdicts,
    relations_read,
    told,
    training_settings,
)
from result_files import expect_same, write_json

from sgflux.data.examples import read_examples
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.icons import OBJECT_NAMES
from sgflux.world.scenes import PREDICATES
from tests.helpers.graph_examples import example

ITEMS = [
    example("man, riding, horse", number=0),
    example("man, pushing, box", number=1),
    example("man, behind, box", number=2),
    example("dog, riding, horse", number=3),
    example("dog, pushing, box", number=4),
    example("man, eating, box", number=5),
]


def test_the_words_are_new_and_the_things_are_the_worlds() -> None:
    assert {*HELD_OUT, *SYNONYMS} <= set(PREDICATES)
    assert len({*HELD_OUT, *SYNONYMS}) == 6
    assert set(OBJECTS) <= set(OBJECT_NAMES)
    assert set(PREDICATES) - {*HELD_OUT, *SYNONYMS} >= {*UNKNOWN}
    for word in (*SYNONYMS.values(), *UNKNOWN.values()):
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
    assert [group_of(item) for item in ITEMS] == [*GROUPS, "seen"]


def test_an_arm_is_told_what_its_heading_says() -> None:
    item = ITEMS[1]
    neutral = "a photo of man and box"
    assert told(item, "graph") == (item.graph, neutral)
    graph, text = told(item, "trained_word")
    assert graph is not None
    assert (str(graph.triples()[0]), text) == ("man, shoving, box", neutral)
    assert told(item, "base_relational") == (None, "a photo of man pushing box")
    assert told(item, "null_graph") == (None, neutral)
    assert told(item, "graph_and_words") == (item.graph, "a photo of man pushing box")
    graph, text = told(ITEMS[5], "unknown_word")
    assert graph is not None
    assert (str(graph.triples()[0]), text) == ("man, devouring, box", neutral)
    assert told(ITEMS[5], "base_unknown_word") == (None, "a photo of man devouring box")


def test_what_was_drawn_is_not_drawn_again() -> None:
    every = list(batches(ITEMS, (), 3))
    assert every[:2] == [("graph", [0, 1, 2]), ("graph", [3, 4, 5])]
    assert every[-3:] == [
        ("trained_word", [1, 4]),
        ("unknown_word", [5]),
        ("base_unknown_word", [5]),
    ]
    done = [(arm, row) for arm, rows in every for row in rows]
    assert list(batches(ITEMS, done, 3)) == []
    assert list(batches(ITEMS, done[1:], 3)) == [("graph", [0])]


def judged() -> list[dict[str, Any]]:
    """Verdicts under which the base in words alone is right, and "on" is read elsewhere."""
    return [
        {
            "arm": arm,
            "row": row,
            "holds": arm == "base_relational",
            "objects": row != 3,
            "read": ITEMS[row].triple.predicate if arm == "base_relational" else "on",
        }
        for arm, rows in batches(ITEMS, (), 8)
        for row in rows
    ]


def test_verdicts_of_an_older_version_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path, verdicts = tmp_path / "verdicts.json", judged()
    write_json(path, verdicts)
    assert read_verdicts(path) == verdicts
    write_json(path, [{name: one[name] for name in one if name != "read"} for one in verdicts])
    with pytest.raises(SgfluxError, match=r"verdicts\.json .* lack read; delete .* give"):
        read_verdicts(path)


def test_a_folder_of_other_settings_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for _ in range(2):
        expect_same(path, training_settings(QUICK), way_out="give another --folder")
    other = training_settings(replace(QUICK, max_steps=3000))
    with pytest.raises(SgfluxError, match=r"max_steps was 4, is 3000; save_every .* give another"):
        expect_same(path, other, way_out="give another --folder")
    assert json.loads(path.read_text()) == json.loads(json.dumps(training_settings(QUICK)))


def test_the_tables_show_each_arm_in_its_column() -> None:
    verdicts = judged()
    found = groups(ITEMS, verdicts)
    assert list(found) == list(GROUPS)
    assert found["seen"].keys() == {*ARMS} - {"trained_word"}
    assert found["synonyms"].keys() == {*ARMS} - {"unknown_word", "base_unknown_word"}
    assert found["synonyms"]["base_relational"]["relation_accuracy"]["macro"] == 1.0
    assert found["held-out objects"]["graph"]["objects_right"]["value"] == 0.0
    read = relations_read(ITEMS, verdicts)
    assert list(read) == ["behind", "eating", "pushing"], (
        "a picture with a held-out object shows two things"
    )
    assert read["pushing"]["graph"] == {"on": 1}
    text = as_markdown({"groups": found, "relations_read": read, "command": "x", "date": "today"})
    (line,) = [one for one in text.splitlines() if one.startswith("| pushing (trained as shoving)")]
    n, *shares, often = [part.strip() for part in line.split("|")[2:-1]]
    assert (n, often) == ("1", "on 1")
    assert [share.split()[0] for share in shares] == ["0.0", "0.0", "100.0", "0.0", "0.0"], line
    (line,) = [one for one in text.splitlines() if one.startswith("| eating (told as devouring)")]
    assert line.endswith("| on 1 |")


def test_the_figure_has_a_line_for_each_new_word_and_says_what_the_judge_reads() -> None:
    assert figure_rows(ITEMS) == [[2], [1], [3]], "behind, pushing, dog"
    more = [*ITEMS, example("horse, behind, man", number=6)]
    assert figure_rows(more) == [[2], [1], [3]], "columns would shift below a longer line"
    assert figure_rows([*ITEMS, *ITEMS]) == [[2, 8], [1, 7], [3, 9]]
    entries = figure(Path("run"), ITEMS, judged())
    assert len(entries) == 6
    assert entries[:2] == [
        (Path("run/pictures/graph/0002.png"), "man, behind, box\nadapter: no: on"),
        (Path("run/pictures/base_relational/0002.png"), "man, behind, box\nbase in words: holds"),
    ]


class Artist:
    """Draws grey pictures and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, dict[str, Any]]] = []

    def sample_batch(
        self,
        graphs: Sequence[SceneGraph | None],
        texts: Sequence[str],
        seeds: Sequence[int],
        **settings: Any,
    ) -> np.ndarray:
        assert len(graphs) == len(texts)
        self.asked += [(seed, settings) for seed in seeds]
        return np.full((len(texts), 64, 64, 3), 128, np.uint8)


def test_arms_share_their_noise_and_the_base_draws_without_the_adapter(tmp_path: Path) -> None:
    judge, noises = WorldJudgeAdapter.load(), []
    for arm in ARMS:
        artist = Artist()
        rows = [5] if "unknown" in arm else [1]
        verdicts = draw(tmp_path, artist, judge, ITEMS, arm, rows, QUICK)  # type: ignore[arg-type]
        assert [(one["arm"], one["row"]) for one in verdicts] == [(arm, *rows)]
        for one in verdicts:
            picture, info = read_picture(picture_of(tmp_path, arm, one["row"]))
            assert picture.shape == (64, 64, 3)
            assert info["text"] == told(ITEMS[one["row"]], arm)[1]
        noises += [(rows[0], seed) for seed, _ in artist.asked]
        assert all(own["use_adapter"] != arm.startswith("base") for _, own in artist.asked)
    assert len(set(noises)) == 2, "one noise for each of the two items"
