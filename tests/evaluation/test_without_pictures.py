"""Graphs without pictures are evaluated: what needs real pictures is left out and said.

If one of these failed, graphs without pictures could not be evaluated, or figures that need
pictures would be made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.report.page import write_report
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.rows import row, write_lines, write_picture

TRIPLES = ("teddy bear, right of, dog", "man, riding, horse", "cup, below, chair")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("model")
    model_id = make_flux_folder(folder / "base")
    return model_id, write_adapter(folder / "final", model_id)


def graphs_alone(folder: Path) -> Path:
    rows = [
        row(text, meta={"image_rel_path": f"none/{number}.png"})
        for number, text in enumerate(TRIPLES)
    ]
    return write_lines(folder / "test.jsonl", *rows)


def run(data: Path, model: tuple[Path, Path], out: Path, **more: Any) -> tuple[dict, list[str]]:
    said: list[str] = []
    config = EvalConfig.from_flat(
        data=data,
        output_dir=out,
        model_id=str(model[0]),
        adapter=model[1],
        steps=1,
        device="cpu",
        **{"judge": "none", **more},
    )
    return evaluate(config, show_progress=False, say=said.append), said


def test_graphs_alone_are_drawn_in_every_arm(tmp_path: Path, model: tuple[Path, Path]) -> None:
    results, said = run(graphs_alone(tmp_path), model, tmp_path / "out")
    assert any("none of its pictures" in line and "no ranking accuracy" in line for line in said)
    assert results["ranking_accuracy"]["value"] is None
    assert results["items"]["rows"] == 3
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").open()]
    assert len(lines) == 3 * len(results["arms"])
    assert write_report(tmp_path / "out").is_file()


def test_a_judge_reads_them_but_is_said_to_be_uncalibrated(
    tmp_path: Path, model: tuple[Path, Path]
) -> None:
    rows = [
        row(text, meta={"image_rel_path": f"none/{number}.png"})
        for number, text in enumerate(("man, riding, horse", "cup, above, box", "dog, in, car"))
    ]
    data = write_lines(tmp_path / "test.jsonl", *rows)
    results, said = run(data, model, tmp_path / "out", judge="world")
    assert any("not calibrated on this test set" in line for line in said)
    judge = results["judge"]
    assert (judge["accuracy"], judge["n"]) == (None, 0)
    assert judge["name"] != "none"
    assert judge["sha256"]
    assert results["arms"]["graph"]["relation_accuracy"]["n"] == 3
    assert "not calibrated on this test set" in write_report(tmp_path / "out").read_text()


def test_some_missing_pictures_are_still_an_error(tmp_path: Path, model: tuple[Path, Path]) -> None:
    data = graphs_alone(tmp_path)
    write_picture(tmp_path / "none" / "1.png", size=(64, 64))
    with pytest.raises(SgfluxError, match=r"none/0\.png|none/2\.png"):
        run(data, model, tmp_path / "out")


def test_a_vocabulary_of_ones_own_gives_negatives_and_canonical_words(
    tmp_path: Path, model: tuple[Path, Path]
) -> None:
    words = {
        "predicates": [{"name": "kicking", "kind": "action"}],
        "aliases": {"booting": "kicking"},
    }
    (tmp_path / "words.json").write_text(json.dumps(words))
    rows = [
        row(text, meta={"image_rel_path": f"none/{number}.png"})
        for number, text in enumerate(("man, is booting a, ball", "cup, above, box"))
    ]
    data = write_lines(tmp_path / "test.jsonl", *rows)
    results, _ = run(data, model, tmp_path / "out", vocabulary=tmp_path / "words.json")
    assert results["items"]["by_predicate"] == {"above": 1, "kicking": 1}
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").open()]
    wrong = [one["graph"]["relationships"] for one in lines if one["arm"] == "negative_graph"]
    assert wrong[0] == [[1, "kicking", 0]], "a swap, which needs to know that kicking has sides"
