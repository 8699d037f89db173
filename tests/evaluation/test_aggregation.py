"""Figures follow from the verdicts on record.

If one of these failed, a table could not be traced to the pictures that it is about, or figures of
another run would pass for those of these pictures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.aggregation import aggregate
from sgflux.evaluation.report.headline import headline
from sgflux.world.dataset import write_world
from tests.helpers.evaluated import forget_lines, make_evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("aggregation"))


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation_results.json").read_text())


def copied(folder: Path, to: Path, *, results: dict[str, Any] | None = None) -> Path:
    """A copy without pictures, with other results if they are given."""
    to.mkdir()
    shutil.copy(folder / "results.jsonl", to)
    text = json.dumps(results_of(folder) if results is None else results)
    (to / "evaluation_results.json").write_text(text)
    return to


def numbers(value: Any, place: str) -> Iterator[str]:
    """Places of all numbers within plain JSON."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from numbers(one, f"{place}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from numbers(one, f"{place}.{index}")
    elif isinstance(value, int | float):
        yield place


def falsified(value: Any) -> Any:
    """The same with every number replaced by another one of its kind."""
    if isinstance(value, dict):
        return {key: falsified(one) for key, one in value.items()}
    if isinstance(value, list):
        return [falsified(one) for one in value]
    if isinstance(value, float):
        return 0.123
    return value + 1 if isinstance(value, int) else value


def test_figures_made_again_are_those_on_record(folder: Path, tmp_path: Path) -> None:
    again, changed = aggregate(folder)
    assert changed == []
    assert again == results_of(folder)
    assert list(again) == list(results_of(folder))
    # What is left of an evaluation whose pictures were thrown away is enough.
    assert aggregate(copied(folder, tmp_path / "copy")) == (results_of(folder), [])


def test_every_figure_of_the_table_follows_from_the_lines(folder: Path, tmp_path: Path) -> None:
    """All figures of the pictures are falsified on record; all are named, and all come back."""
    truth = results_of(folder)
    of_pictures = ("arms", "win_rate", "win_rate_by_kind", "differences", "comparisons")
    of_pictures += ("contradiction",)
    record = {
        name: falsified(value) if name in of_pictures else value for name, value in truth.items()
    }
    record["judge"] = {**truth["judge"], "coverage": falsified(truth["judge"]["coverage"])}
    again, changed = aggregate(copied(folder, tmp_path / "copy", results=record))
    assert again == truth
    wrong = {place for name in of_pictures for place in numbers(truth[name], name)}
    wrong |= set(numbers(truth["judge"]["coverage"], "judge.coverage"))
    assert {line.split(" is ")[0] for line in changed} == wrong
    assert any("objects_right" in place for place in wrong)
    # All other rows of the printed table are of the judge itself, or of the ranking accuracy.
    rest = {"judge": truth["judge"], "ranking_accuracy": truth["ranking_accuracy"]}
    own = {(row.group, row.label) for row in headline(rest)}
    assert {(row.group, row.label) for row in headline({**rest, **truth})} - own == {
        (row.group, row.label) for row in headline({name: truth[name] for name in of_pictures})
    }


def test_lpips_stays_on_record(folder: Path, tmp_path: Path) -> None:
    """It needs its network, and is no difference between figures and lines."""
    truth = results_of(folder)
    truth["graph_sensitivity"]["lpips_alex"] = {"graph_to_null_graph": {"value": 0.2, "n": 4}}
    copy = copied(folder, tmp_path / "copy", results=truth)
    shutil.copytree(folder / "pictures", copy / "pictures")
    assert aggregate(copy) == (truth, [])
    truth["graph_sensitivity"]["pixel_distance"]["graph_to_null_graph"]["value"] += 0.1
    (copy / "evaluation_results.json").write_text(json.dumps(truth))
    (line,) = aggregate(copy)[1]
    assert line.startswith("graph_sensitivity.pixel_distance.graph_to_null_graph.value is ")


def test_the_command_names_figures_that_do_not_follow(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(folder)
    results["arms"]["graph"]["relation_accuracy"]["macro"] = 0.123
    results["win_rate"]["n"] += 1
    copy = copied(folder, tmp_path / "copy", results=results)
    output = tmp_path / "again.json"
    assert main(["eval", "aggregate", str(copy), "--output", str(output)]) == 1
    said = capsys.readouterr().out
    assert "arms.graph.relation_accuracy.macro is 0.123 on record" in said
    assert "win_rate.n is" in said
    assert json.loads(output.read_text()) == results_of(folder)
    assert main(["eval", "aggregate", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "every figure is the one on record" in said
    assert "graph minus negative_graph: " in said


def test_the_report_is_written_again_if_its_figures_follow(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    metrics = folder.parent / "metrics.jsonl"
    assert main(["eval", "report", str(copy), "--metrics", str(metrics)]) == 0
    assert "every figure of the pictures follows from results.jsonl" in capsys.readouterr().out
    assert "Loss by training step" in (copy / "report.html").read_text(encoding="utf-8")
    results = results_of(copy)
    results["arms"]["graph"]["objects_right"]["n"] += 1
    (copy / "evaluation_results.json").write_text(json.dumps(results))
    assert main(["eval", "report", str(copy)]) == 2
    said = capsys.readouterr().err
    assert "arms.graph.objects_right.n is" in said
    assert "of different runs, or one was changed" in said
    forget_lines(copy)
    assert main(["eval", "report", str(copy)]) == 0
    assert "that they follow from results.jsonl cannot be checked" in capsys.readouterr().out


def test_lines_of_an_earlier_version_make_no_figures(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path / "copy")
    forget_lines(copy)
    with pytest.raises(SgfluxError, match="was written by an earlier version"):
        aggregate(copy)


def test_corrected_figures_follow_from_lines_and_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the calibration to the results, the printed table, and the same figures again."""
    data = tmp_path / "data" / "test.jsonl"
    write_world(data.parent, train_per_class=0, val_per_class=0, test_per_class=4)
    calibration, out = tmp_path / "judge.json", tmp_path / "evaluation"
    given = ["--data", str(data), "--judge", "world"]
    assert main(["eval", "calibrate", *given, "--output", str(calibration)]) == 0
    arms = ["--arms", "graph", "negative_graph", "shuffled_graph"]
    given += ["--calibration", str(calibration), "--generator", "oracle", *arms]
    assert main(["eval", *given, "--output-dir", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    results = results_of(out)
    rates, impossible = results["correction"]["rates"], results["correction"]["impossible"]
    assert len(rates) >= 15
    assert len(rates) + len(impossible) == 24
    assert "around/near" in impossible, "it has no swapped statement"
    assert results["arms"]["shuffled_graph"].get("corrected") is None
    known = json.loads(calibration.read_text())["stated"]["per_predicate"]
    for arm in ("graph", "negative_graph"):
        found = results["arms"][arm]["corrected"]
        assert found["predicates"] == len(rates)
        for name, own in found["per_predicate"].items():
            raw = found["raw"]["per_predicate"][name]["value"]
            yes, no = known[name]["confirmed"], known[name]["swapped_accepted"]
            assert own["value"] == pytest.approx(min(1, max(0, (raw - no) / (yes - no))))
    assert results["arms"]["graph"]["corrected"]["macro"] > 0.9
    assert results["arms"]["negative_graph"]["corrected"]["macro"] < 0.2
    assert "The same, corrected for the judge's errors" in printed
    assert "No correction is possible for" in printed
    assert aggregate(out) == (results, [])
    results["arms"]["graph"]["corrected"]["macro"] = 0.5
    (out / "evaluation_results.json").write_text(json.dumps(results))
    (line,) = aggregate(out)[1]
    assert line.startswith("arms.graph.corrected.macro is 0.5 on record")
