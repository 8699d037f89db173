"""A test set of which an adapter can read a part: its rows, its truth and its comparison.

If one of these failed, rows of the results would be others of the file, or a statement that the
adapter cannot read would be taken for false.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sgflux.data.examples import read_examples, write_examples
from sgflux.data.expressible import keep_expressible
from sgflux.errors import SgfluxError
from sgflux.evaluation import evaluator, readable
from sgflux.evaluation.arms import make_items
from sgflux.evaluation.calibration import false_questions
from sgflux.evaluation.comparing import compare_runs
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.readable import ReadableExamples, readable_examples
from sgflux.world.dataset import write_world
from tests.helpers.graph_examples import example

ENCODER = {
    "kind": "cgip",
    "objects": ["__image__", "man", "horse", "dog", "cat"],
    "predicates": ["__in_image__", "standing on", "holding", "on", "riding"],
    "synonyms": {},
}


@pytest.fixture
def by_cgip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadableExamples:
    """Row 0 is of another predicate; what row 2 says beside it is readable, and row 2 is not."""
    rows = [
        example("cat, pulling, dog", number=1),
        example("man, standing on, horse; (dog)"),
        example("man, pulling, dog; man, holding, horse"),
        example("dog, riding, cat", number=2),
    ]
    write_examples(tmp_path / "test.jsonl", rows)
    monkeypatch.setattr(readable, "read_config", lambda _: SimpleNamespace(encoder=ENCODER))
    return readable_examples(
        tmp_path / "test.jsonl", vocabulary=None, adapter=tmp_path, say=lambda _: None
    )


def test_what_an_adapter_cannot_read_stays_true_of_the_picture(by_cgip: ReadableExamples) -> None:
    assert [str(one.triple) for one in by_cgip.examples] == [
        "man, standing on, horse",
        "dog, riding, cat",
    ]
    assert list(by_cgip.rows) == [1, 3]
    assert len(by_cgip.every) == 4
    replaced, unrelated = set(), set()
    for seed in range(40):
        items = make_items(
            by_cgip.examples,
            [0, 1],
            seed=seed,
            predicates=["standing on", "holding", "on", "riding"],
            places=by_cgip.rows,
        )
        assert [item.row for item in items] == [1, 3]
        assert items[0].replaced is not None
        replaced.update(map(str, items[0].replaced.graph.triples()))
        own, _ = false_questions(by_cgip.examples, seed=seed)
        unrelated.update(str(one.statement) for one in own if one.kind == "unrelated")
    assert replaced
    assert "man, holding, horse" not in replaced
    assert unrelated == {"horse, standing on, dog", "dog, standing on, horse"}


def evaluated(data: Path, out: Path, **settings: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"generator": "oracle", "arms": ("graph",), **settings}
    config = EvalConfig.from_flat(data=data, output_dir=out, **asked)
    return evaluate(config, show_progress=False, say=lambda _: None)


def test_rows_are_those_of_the_file_and_no_test_row_chooses_a_wording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And two adapters that read different parts of the data are told why they do not compare."""
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    data = tmp_path / "data" / "test.jsonl"
    every = read_examples(data)
    lacked = every[0].triple.predicate
    words = {p for one in every for _, p, _ in one.graph.relationships} - {lacked}

    def part(path: Path, **_: Any) -> ReadableExamples:
        kept = keep_expressible(every, predicates=words)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return ReadableExamples(kept.examples, kept.rows, every, kept.to_json(), digest)

    evaluated(data, tmp_path / "native")
    monkeypatch.setattr(evaluator, "readable_examples", part)
    evaluated(data, tmp_path / "cgip")
    native, cgip = (
        {line["row"]: line for line in map(json.loads, path.read_text().splitlines())}
        for path in (tmp_path / name / "results.jsonl" for name in ("native", "cgip"))
    )
    readable_rows = [row for row, one in enumerate(every) if one.triple.predicate != lacked]
    assert list(cgip) == readable_rows
    assert 0 < len(readable_rows) < len(every)
    for row in readable_rows:
        assert cgip[row]["image_rel_path"] == every[row].image_rel_path
        assert cgip[row]["seed"] == native[row]["seed"]
    with pytest.raises(SgfluxError, match=r"the adapter of .*cgip cannot read .* left out \d+ exa"):
        compare_runs(tmp_path / "native", tmp_path / "cgip")
    write_examples(tmp_path / "wordings.jsonl", every[:1])
    told = {"generator": "model", "model_id": "tiny", "arms": ("base_relational",)}
    with pytest.raises(SgfluxError, match="is an example of the test data"):
        evaluated(data, tmp_path / "out", **told, base_prompts=tmp_path / "wordings.jsonl")
