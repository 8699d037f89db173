"""Figures follow from the verdicts on record.

If one of these failed, a table could not be traced to the pictures that it is about, or figures of
another run would pass for those of these pictures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.report.aggregation import aggregate, check_figures
from sgflux.evaluation.report.data import read_evaluation
from tests.helpers.evaluated import forget_lines, make_evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("aggregation"))


def test_the_table_of_arms_follows_from_the_lines(folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    evaluation = read_evaluation(folder)
    found = aggregate(evaluation)
    assert found["differences"] == results["differences"]
    for arm, entry in results["arms"].items():
        assert found["arms"][arm]["relation_accuracy"] == entry["relation_accuracy"]
    assert check_figures(evaluation) == 7 + 6


def test_a_changed_verdict_or_figure_is_found(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    path = copy / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (own, *_) = lines[0]["verdict"]["verdicts"]
    own["verdict"] = "contradicted" if own["verdict"] == "holds" else "holds"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SgfluxError, match="was changed after the evaluation"):
        read_evaluation(copy)
    forget_lines(copy)
    with pytest.raises(
        SgfluxError, match=r"arms\.base_neutral\.relation_accuracy\.macro is .* but"
    ):
        check_figures(read_evaluation(copy))


def test_the_command_writes_the_report_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    metrics = folder.parent / "metrics.jsonl"
    assert main(["eval", "report", str(copy), "--metrics", str(metrics)]) == 0
    assert "13 figures follow from results.jsonl again" in capsys.readouterr().out
    assert "Loss by training step" in (copy / "report.html").read_text(encoding="utf-8")
    results = copy / "evaluation_results.json"
    content = json.loads(results.read_text())
    content["arms"]["graph"]["relation_accuracy"]["n"] += 1
    results.write_text(json.dumps(content))
    assert main(["eval", "report", str(copy)]) == 2
    assert "of different runs, or one was changed" in capsys.readouterr().err
