"""``results.jsonl`` and the way back from it to the figures.

If one of these failed, figures could not be made again from the verdicts on record, or would be
believed although somebody had changed those.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.aggregation import aggregate
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.evaluator import evaluate
from sgflux.evaluation.records import comparison_lines, read_lines
from sgflux.evaluation.scoring import comparisons, relation_rows, summary
from sgflux.evaluation.statistics import compare, holm
from sgflux.settings.evaluation import EvalConfig
from sgflux.world.dataset import write_world
from tests.helpers.evaluated import make_evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("records"))


def results_of(folder: Path) -> dict:
    return json.loads((folder / "evaluation_results.json").read_text())


def test_the_lines_lead_back_to_every_figure_of_the_pictures(folder: Path) -> None:
    results = results_of(folder)
    judged = read_lines(folder / "results.jsonl", results)
    again = summary(judged, out_dir=folder, judge=results["judge"]["name"])
    again["comparisons"] = comparisons(judged)
    assert list(judged) == list(Arm)
    for name, figures in json.loads(json.dumps(again)).items():
        assert figures == results[name], name


def test_the_graph_is_compared_with_every_other_arm_on_the_same_pairs(folder: Path) -> None:
    results = results_of(folder)
    found = results["comparisons"]
    assert list(found) == [str(arm) for arm in Arm if arm is not Arm.GRAPH]
    for name, entry in found.items():
        difference = results["differences"][f"graph_minus_{name}"]
        assert (entry["difference"], entry["ci95"]) == (difference["value"], difference["ci95"])
        assert entry["n"] == difference["n"] / 2, "pairs, where the other counts both sides"
        assert 0 <= entry["better"] <= entry["n_discordant"] <= entry["clusters"]
        assert entry["bootstrap95"] == pytest.approx(entry["ci95"], abs=0.06)
    adjusted = holm([entry["p_sign"] for entry in found.values()])
    assert [entry["p_holm"] for entry in found.values()] == adjusted
    judged = read_lines(folder / "results.jsonl", results)
    pair = [relation_rows(judged[arm]) for arm in (Arm.GRAPH, Arm.BASE_NEUTRAL)]
    assert compare(*pair).better == found["base_neutral"]["better"]


def test_new_keys_stand_at_the_end(folder: Path) -> None:
    """Whoever reads the figures by their place or their digest finds the former ones as before."""
    last = ["comparisons", "picture_results", "graph_kinds"]
    assert list(results_of(folder))[-3:] == last
    for line in (folder / "results.jsonl").read_text().splitlines():
        assert list(json.loads(line))[-1] == "source"


def test_the_lines_say_which_shapes_were_held_out(tmp_path: Path) -> None:
    """Else figures of shapes that nobody trained on could not be made again."""
    write_world(
        tmp_path / "data",
        train_per_class=0,
        val_per_class=0,
        test_per_class=2,
        triples=3,
        hold_out_shapes=["star of 3"],
    )
    config = EvalConfig.from_flat(
        data=tmp_path / "data" / "test.jsonl",
        output_dir=tmp_path / "evaluation",
        generator="oracle",
        arms=("graph", "contradiction"),
    )
    results = evaluate(config, show_progress=False, say=lambda _: None)
    assert list(results["graph_kinds"]) == ["3 statements", "3 statements, held-out shape"]
    assert {own["arms"]["graph"]["all_right"]["n"] for own in results["graph_kinds"].values()} == {
        24
    }
    assert aggregate(config.output_dir) == (json.loads(json.dumps(results)), [])


def test_an_evaluation_without_kinds_of_graphs_is_of_an_earlier_version(
    folder: Path, tmp_path: Path
) -> None:
    results = results_of(folder)
    del results["graph_kinds"]
    shutil.copy(folder / "results.jsonl", tmp_path)
    (tmp_path / "evaluation_results.json").write_text(json.dumps(results))
    again, changed = aggregate(tmp_path)
    assert changed == []
    assert again["graph_kinds"] == results_of(folder)["graph_kinds"]


def test_a_comparison_is_one_line(folder: Path) -> None:
    results = results_of(folder)
    lines = comparison_lines(results)
    assert len(lines) == len(results["comparisons"])
    entry = results["comparisons"]["null_graph"]
    (line,) = (line for line in lines if line.startswith("graph minus null_graph: "))
    for words in (
        f"{100 * entry['difference']:+.1f} points",
        f"p = {entry['p_sign']:.2g}",
        f"{entry['n_discordant']} of {entry['clusters']} images differ",
        f"{100 * entry['smallest_detectable_difference']:.1f} points are detected",
    ):
        assert words in line
    assert comparison_lines({}) == [], "results of an earlier version"


def test_lines_that_were_changed_are_not_believed(folder: Path, tmp_path: Path) -> None:
    results, content = results_of(folder), (folder / "results.jsonl").read_bytes()
    path = tmp_path / "results.jsonl"
    lines = content.splitlines(keepends=True)
    for changed, message in (
        (b"".join(lines[:-3]), f"is cut: it has {len(lines) - 3} lines"),
        (content[:-40], "was changed"),
        (content.replace(b'"contradicted"', b'"holds"', 1), "was changed"),
        (content + lines[0], "was changed"),
    ):
        path.write_bytes(changed)
        with pytest.raises(SgfluxError, match=message):
            read_lines(path, results)
    path.unlink()
    with pytest.raises(SgfluxError, match="is not there"):
        read_lines(path, results)
    del results["picture_results"]
    with pytest.raises(SgfluxError, match="earlier version"):
        read_lines(path, results)


def test_a_damaged_line_is_named(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines[:2]]
    rows[1]["source"]["triple"] = ["nobody", "on", "nothing"]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {"lines": 2, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    with pytest.raises(SgfluxError, match=r"results\.jsonl:2: is damaged: the graph states"):
        read_lines(path, {"picture_results": record})
