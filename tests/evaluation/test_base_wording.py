"""The base's wording is chosen on validation examples, and the choice is on record.

If one of these failed, the base would be told a graph in a wording that it understands less, or the
wording would have been chosen on the test data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.data.examples import read_examples, write_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, PictureRequest
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.judges.judge import (
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
)
from sgflux.evaluation.report.headline import footnotes
from sgflux.evaluation.report.page import write_report
from sgflux.graphs.scene_graph import SceneGraph, Triple
from tests.helpers.graph_examples import example

TEST = (
    "man, riding, horse",
    "cup, on, box; box, on, table",
    "dog, left of, dog#2; dog#2, above, cat",
    "dog, left of, cat; cat, above, box; box, on, mat",
)
VALIDATION = ("cat, on, mat", "owl, above, box; box, on, mat", "owl, below, box; box, left of, mat")


class Listener:
    """A base that draws one statement told plainly and two told in sentences, and its judge."""

    name = "listener"
    identity = JudgeIdentity("listener")

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        return np.stack([self._picture(request) for request in requests])

    def _picture(self, request: PictureRequest) -> np.ndarray:
        few = len(request.item.graph.relationships) == 1
        understood = request.prompt.endswith(".") is not few
        right = request.arm is not Arm.BASE_RELATIONAL or understood
        return np.full((8, 8, 3), 255 * right, np.uint8)

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {"prompt": request.prompt, "seed": request.seed, "arm": str(request.arm)}

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Knows everything."""

    def covers(self, predicate: str) -> bool:
        return True

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        outcomes = [Outcome.HOLDS if image.any() else Outcome.CONTRADICTED for image in images]
        return [
            Reading({triple: Verdict(outcome, None, None) for triple in own}, None, {})
            for outcome, own in zip(outcomes, statements, strict=True)
        ]


def data(path: Path, *graphs: str) -> Path:
    rows = [example(text, number=number) for number, text in enumerate(graphs)]
    write_examples(
        path, [row.with_meta(image_rel_path=f"{path.stem}/{row.image_rel_path}") for row in rows]
    )
    return path


def run(folder: Path, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    config = EvalConfig.from_flat(
        data=data(folder / "test.jsonl", *TEST),
        output_dir=folder / "evaluation",
        arms=("base_neutral", "base_relational"),
        **settings,
    )
    both = Listener()
    return evaluate(config, generator=both, judge=both, show_progress=False, say=said.append), said


def prompts(folder: Path) -> list[str]:
    lines = (folder / "evaluation" / "results.jsonl").read_text().splitlines()
    return [one["prompt"] for one in map(json.loads, lines) if one["arm"] == "base_relational"]


def test_each_number_of_statements_gets_its_best_wording(tmp_path: Path) -> None:
    validation = data(tmp_path / "val.jsonl", *VALIDATION)
    results, said = run(tmp_path, base_prompts=validation)
    chosen = results["base_prompts"]
    assert chosen["chosen"] == {"1": "plain", "2": "sentences"}
    assert chosen["otherwise"] == "sentences", "two of three examples have two statements"
    assert (chosen["data"], chosen["rows"]) == (str(validation), 3)
    of_sentences = chosen["wordings"]["sentences"]
    assert of_sentences["by_statements"]["1"]["value"] == 0.0
    assert of_sentences["by_statements"]["2"]["value"] == 1.0
    assert of_sentences["example"] == "An owl is above a box. The box is on a mat."
    assert prompts(tmp_path) == [
        "a photo of man riding horse",
        "A cup is on a box. The box is on a table.",
        "A dog is to the left of another dog. The second dog is above a cat.",
        "A dog is to the left of a cat. The cat is above a box. The box is on a mat.",
    ]
    assert results["arms"]["base_relational"]["relation_accuracy"]["macro"] == 1.0
    by_size = results["arms"]["base_relational"]["all_triples_right"]
    assert {size: figure["value"] for size, figure in by_size.items()} == {"1": 1, "2": 1, "3": 1}
    assert any("2 statements in the wording 'sentences', on val.jsonl" in line for line in said)
    assert "by number of statements: 1: plain, 2: sentences" in " ".join(footnotes(results))
    write_report(tmp_path / "evaluation")


def test_without_the_flag_the_text_is_plain_and_tells_twins_apart(tmp_path: Path) -> None:
    results, _ = run(tmp_path)
    assert results["base_prompts"] is None
    assert prompts(tmp_path)[:3] == [
        "a photo of man riding horse",
        "a photo of cup on box and box on table",
        "a photo of dog left of another dog and second dog above cat",
    ]


def test_a_wording_that_says_the_same_of_every_example_is_drawn_once(tmp_path: Path) -> None:
    results, _ = run(tmp_path, base_prompts=data(tmp_path / "val.jsonl", *VALIDATION))
    found = results["base_prompts"]["wordings"]
    assert found["terse"] == found["plain"]
    folders = {one.name for one in (tmp_path / "evaluation" / "base_prompts").iterdir()}
    assert folders == found.keys() - {"terse"}, "other wordings are pictures of their own"


def test_a_wording_that_says_one_example_otherwise_is_drawn(tmp_path: Path) -> None:
    validation = data(tmp_path / "val.jsonl", *VALIDATION)
    (first, *rest) = read_examples(validation)
    write_examples(validation, [replace(first, prompt="The cat lies on the mat."), *rest])
    results, _ = run(tmp_path, base_prompts=validation)
    found = results["base_prompts"]["wordings"]
    assert found["terse"]["by_statements"]["1"] != found["plain"]["by_statements"]["1"]


def test_validation_data_with_a_test_example_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match="is an example of the test data, too"):
        run(tmp_path, base_prompts=data(tmp_path / "test.jsonl", *TEST))


@pytest.mark.parametrize(
    "settings", [{"generator": "blind"}, {"judge": "none"}, {"arms": ("graph",)}]
)
def test_a_choice_without_effect_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(SgfluxError, match="base_prompts has no effect with"):
        EvalConfig.from_flat(data=tmp_path, base_prompts=tmp_path, **settings)
