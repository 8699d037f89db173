"""The README's table of what the demo reaches."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.evaluation.report_fixture import make_evaluation

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from demo_figures import AIMS, LEFT_OUT, as_table, record


def test_the_table_says_what_the_evaluation_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_evaluation(tmp_path / "runs" / "demo")
    demo = record(tmp_path / "runs" / "demo", "sgflux demo")
    assert str(tmp_path) not in json.dumps(demo), "a folder of this machine is nobody's business"
    assert set(AIMS) <= set(demo["figures"])

    results = json.loads((tmp_path / "runs/demo/evaluation/evaluation_results.json").read_text())
    accuracy = results["arms"]["graph"]["relation_accuracy"]
    low, high = (100 * bound for bound in accuracy["ci95"])
    head, rule, *lines = as_table({"demo": demo, "full": {**demo, "command": "x"}}).splitlines()
    assert head == "| | `sgflux demo` | `x` | aim |"
    cell = f"{100 * accuracy['macro']:.1f}\N{NO-BREAK SPACE}% ({low:.1f} to {high:.1f})"
    assert f"| Adapter, true graph g⁺ | {cell} | {cell} | 85 % |" in lines
    assert {line.count("|") for line in [rule, *lines]} == {5}
    assert not any(line.startswith(f"| {label}") for line in lines for label in LEFT_OUT)
