"""Two finished evaluations, compared pair by pair.

If one of these failed, two runs would be compared that are about different things.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.comparing import compare_runs
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.judges.judge import JudgeIdentity
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.statistics import holm
from sgflux.world.dataset import write_world
from tests.helpers.evaluated import forget_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    write_world(folder, train_per_class=0, val_per_class=0, test_per_class=2, triples="1,2")
    return folder / "test.jsonl"


def run(data: Path, out_dir: Path, **settings: Any) -> Path:
    asked: dict[str, Any] = {"generator": "oracle", "arms": ("graph", "negative_graph"), **settings}
    config = EvalConfig.from_flat(data=data, output_dir=out_dir, **asked)
    evaluate(config, show_progress=False, say=lambda line: None)
    return out_dir


@pytest.fixture(scope="module")
def oracle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(data, tmp_path_factory.mktemp("oracle") / "out", seeds_per_item=2)


@pytest.fixture(scope="module")
def swapped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swapped") / "out"
    return run(data, out, generator="swapped", seeds_per_item=2)


class Named:
    """A judge of which nothing is asked but who it is."""

    def __init__(self, identity: JudgeIdentity) -> None:
        self.identity = identity


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation_results.json").read_text())


def test_two_runs_are_compared_by_pairs(oracle: Path, swapped: Path) -> None:
    """The differences, recomputed from the lines alone by other code."""
    found = compare_runs(oracle, swapped)
    assert list(found["arms"]) == ["graph", "negative_graph"]
    for arm, entry in found["arms"].items():
        gaps, images = defaultdict(list), defaultdict(float)
        for one, two in zip(lines_of(oracle), lines_of(swapped), strict=True):
            if one["arm"] == arm:
                right = [line["verdict"]["right"] for line in (one, two)]
                for statement, *pair in zip(one["statements"], *right, strict=True):
                    gaps[statement[1]].append(float(pair[0]) - float(pair[1]))
                    images[one["image_rel_path"]] += float(pair[0]) - float(pair[1])
        means = {name: float(np.mean(own)) for name, own in gaps.items()}
        assert entry["difference"] == pytest.approx(np.mean(list(means.values())))
        assert entry["n"] == sum(map(len, gaps.values()))
        assert entry["clusters"] == len(images) == 48
        assert entry["n_discordant"] == sum(gap != 0 for gap in images.values())
        assert entry["better"] == sum(gap > 0 for gap in images.values())
        assert {name: own["difference"] for name, own in entry["per_predicate"].items()} == (
            pytest.approx(means)
        )
    graph = found["arms"]["graph"]
    assert graph["difference"] > 0.7
    assert graph["ci95"][0] > 0.6
    assert graph["p_holm"] < 1e-6
    assert abs(graph["per_predicate"]["around/near"]["difference"]) < 0.5, "it has no roles"
    p_values = [own["p_sign"] for own in graph["per_predicate"].values()]
    assert [own["p_holm"] for own in graph["per_predicate"].values()] == holm(p_values)
    turned = compare_runs(swapped, oracle)["arms"]["graph"]
    assert turned["difference"] == pytest.approx(-graph["difference"])
    assert turned["p_sign"] == graph["p_sign"]


def test_a_run_does_not_differ_from_itself(oracle: Path) -> None:
    for entry in compare_runs(oracle, oracle)["arms"].values():
        assert (entry["difference"], entry["p_sign"], entry["n_discordant"]) == (0.0, 1.0, 0)
        assert entry["ci95"][0] < 0 < entry["ci95"][1], "48 images do not prove that there is none"


def test_runs_of_different_things_are_refused_in_one_error(
    data: Path, oracle: Path, tmp_path: Path
) -> None:
    other = run(data, tmp_path / "other", arms=("graph",), seed=1, items=24)
    with pytest.raises(SgfluxError) as refused:
        compare_runs(oracle, other)
    for words in (
        "seeds.seed (0 and 1)",
        "items.seeds_per_item (2 and 1)",
        "arms ('graph, negative_graph' and 'graph')",
        "items and noises ('96 rows' and '24 rows')",
        "--seed",
    ):
        assert words in str(refused.value)
    assert "data.sha256" not in str(refused.value), "the data are the same"
    assert "judge" not in str(refused.value).split("run 'sgflux eval'")[0]


def test_runs_of_other_data_or_another_judge_are_refused(oracle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(oracle / "results.jsonl", copy)
    results = results_of(oracle)
    results["data"]["sha256"] = "0" * 64
    results["judge"]["name"] = "clip"
    (copy / "evaluation_results.json").write_text(json.dumps(results))
    with pytest.raises(SgfluxError, match=r"judge\.name \('world' and 'clip'\); data\.sha256"):
        compare_runs(oracle, copy)


def judged_by(source: Path, out: Path, **judge: Any) -> Path:
    """Copy an evaluation whose judge goes by other names and digests."""
    shutil.copytree(source, out)
    results = results_of(source)
    results["judge"] |= judge
    (out / "evaluation_results.json").write_text(json.dumps(results))
    return out


def test_runs_by_several_judges_of_other_networks_are_refused(oracle: Path, tmp_path: Path) -> None:
    """Also those of an earlier version, which wrote no digest of them together."""

    def judges(*digests: str) -> list[dict[str, Any]]:
        names = ("geometry", "vqa")
        return [{"name": n, "sha256": own} for n, own in zip(names, digests, strict=True)]

    router = {"name": "geometry,vqa", "sha256": None}
    one = judged_by(oracle, tmp_path / "one", **router, judges=judges("a" * 64, "b" * 64))
    same = judged_by(oracle, tmp_path / "same", **router, judges=judges("a" * 64, "b" * 64))
    other = judged_by(oracle, tmp_path / "other", **router, judges=judges("a" * 64, "c" * 64))
    assert compare_runs(one, same)["arms"]
    with pytest.raises(SgfluxError, match=r"judge\.sha256 \('"):
        compare_runs(one, other)
    parts: Any = [
        Named(JudgeIdentity("geometry", "a" * 64, model="detector")),
        Named(JudgeIdentity("vqa", "b" * 64, model="network")),
    ]
    found = Router(parts).identity.to_json()
    new = judged_by(oracle, tmp_path / "new", **found)
    assert compare_runs(one, new)["same"]["judge.sha256"] == found["sha256"]
    with pytest.raises(SgfluxError, match=r"judge\.sha256 \('"):
        compare_runs(other, new)


def test_the_command_prints_a_table_and_writes_it(
    oracle: Path, swapped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "folder" / "differences.json"
    assert main(["eval", "compare", str(oracle), str(swapped), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    content = json.loads(output.read_text())
    assert content == compare_runs(oracle, swapped)
    assert content["first"]["folder"] == str(oracle)
    for arm, entry in content["arms"].items():
        (line,) = (line for line in said.splitlines() if line.startswith(f"{arm} "))
        assert f"{100 * entry['difference']:+.1f}" in line
        assert f"{entry['n_discordant']} of 48" in line
    assert "  riding" in said


@pytest.mark.parametrize("command", ["aggregate", "compare"])
def test_lines_that_were_changed_are_refused(
    oracle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(oracle / "evaluation_results.json", copy)
    content = (oracle / "results.jsonl").read_text()
    arguments = ["eval", command, *([] if command == "aggregate" else [str(oracle)]), str(copy)]
    for changed, message in (
        (content.replace('"not found"', '"holds"', 1), "was changed after the evaluation"),
        (content[: len(content) // 2], "is cut"),
    ):
        (copy / "results.jsonl").write_text(changed)
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    shutil.copy(oracle / "results.jsonl", copy)
    forget_lines(copy)
    assert main(arguments) == 2
    assert "earlier version" in capsys.readouterr().err


def test_predicates_that_the_judge_is_not_trusted_about_are_marked(
    oracle: Path, swapped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(oracle / "results.jsonl", copy)
    results = results_of(oracle)
    standing = {"on": {"better_than_majority": "yes"}, "in": {"better_than_majority": "open"}}
    results["calibration"] = {"judge": {"name": "world"}, "standing": standing}
    (copy / "evaluation_results.json").write_text(json.dumps(results))
    assert main(["eval", "compare", str(copy), str(swapped)]) == 0
    said = capsys.readouterr().out
    for name in ("in", "riding"):  # open, and never calibrated
        assert f"  {name} †" in said
    assert "  on †" not in said
    assert "does not show it to be better than the majority answer" in " ".join(said.split())
    assert main(["eval", "compare", str(oracle), str(swapped)]) == 0
    assert "†" not in capsys.readouterr().out
