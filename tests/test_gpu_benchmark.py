"""The GPU's benchmark, rehearsed: a rented machine is no place to find out that a row fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu
import gpu_tables
import pytest
import torch
from gpu_bench import Bench
from gpu_memory import MODES, SIZES, allowed_gib, estimates, largest_batches
from measuring import Place

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

WHERE = {"toy": True, "card": {"name": "a card"}, "source": "0", "versions": {"torch": "2"}}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows on the CPU, by a process that has nothing but the checkout."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("the rows of the bundled world's base need torch >= 2.9")
    out = tmp_path_factory.mktemp("gpu") / "toy.json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--toy", "--out", str(out)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        cwd=out.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return out


def test_every_row_runs_and_every_check_holds(rehearsal: Path) -> None:
    content = json.loads(rehearsal.read_text())
    assert [name for name, row in content["rows"].items() if row["status"] == "done"] == [
        row.name for row in gpu.ROWS
    ]
    found = {name: row["found"] for name, row in content["rows"].items()}
    assert found["exact"]["equal"]
    assert found["exact"]["open_gates_change_it"], "else equality says nothing"
    assert found["training"]["resumed_equal"]
    assert found["training"]["largest_weight"] > 0
    assert found["memory-512"]["A"]["largest_batch"] == 4, "the rehearsal's memory is so small"
    largest = found["steps-512"]["batches"][-1]
    assert largest["is_largest"]
    assert largest["batch"] == 4
    assert set(largest["ways"]) == {"A", "B", "B2", "B+", "C"}
    spent = found["parts-512"]["parts"]
    assert {"prefix", "graph encoder", "chosen blocks", "rest", "optimizer"} <= set(spent)
    assert all(seconds >= 0 for seconds in spent.values())
    assert {"torch", "diffusers"} <= set(content["versions"])
    assert content["source"]


def test_every_row_has_a_line_in_the_tables(rehearsal: Path) -> None:
    content = json.loads(rehearsal.read_text())
    described = [name for name, _ in gpu_tables.gpu_lines(content)]
    for row in gpu.ROWS:
        assert any(name.split()[0] == row.name for name in described), row.name
    assert "Not measured" not in gpu_tables.gpu_region({**content, "card": {**CARD}})


CARD = {"name": "a card", "memory_gib": 80}


def test_a_rehearsal_is_no_figure_for_the_documentation(rehearsal: Path) -> None:
    with pytest.raises(SystemExit, match="rehearsal"):
        gpu_tables.read_results(rehearsal)


# --- going on, failing, running out of time ------------------------------------------------------


def bench() -> Bench:
    return Bench(Place(torch.device("cpu")), toy=True, results={})


def row(name: str, measure: Any = lambda _: {"ok": True}, seconds: float = 10) -> gpu.Row:
    return gpu.Row(name, seconds, measure)


def test_a_row_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    def broken(_: Bench) -> dict[str, Any]:
        raise RuntimeError("the card caught fire")

    record = gpu.Record.open(tmp_path / "gpu.json", dict(WHERE))
    gpu.run_row(row("broken", broken), bench(), record, limit=10)
    gpu.run_row(row("good"), bench(), record, limit=10)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert rows["broken"]["status"] == "failed"
    assert "the card caught fire" in rows["broken"]["error"]
    assert rows["good"]["status"] == "done"


def test_a_row_that_hangs_is_stopped(tmp_path: Path) -> None:
    def hangs(_: Bench) -> dict[str, Any]:
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001  # as a library might
            return {}
        return {}

    record = gpu.Record.open(tmp_path / "gpu.json", dict(WHERE))
    started = time.monotonic()
    gpu.run_row(row("hangs", hangs), bench(), record, limit=0.2)
    assert time.monotonic() - started < 20
    assert record.rows["hangs"]["status"] == "failed"


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What is done stays; what killed the process comes last, so that it cannot do so for ever."""
    path = tmp_path / "gpu.json"
    record = gpu.Record.open(path, dict(WHERE))
    rows = [row("one"), row("two"), row("three"), row("four")]
    record.set("one", status=gpu.DONE, found={})
    record.set("two", status=gpu.RUNNING)
    record.set("three", status=gpu.DROPPED)
    again = gpu.Record.open(path, dict(WHERE))
    assert [own.name for own in again.todo(rows)] == ["three", "four", "two"]
    assert "ended while this row ran" in again.rows["two"]["error"]


@pytest.mark.parametrize("name", ["toy", "card", "source", "versions"])
def test_a_file_of_something_else_is_not_mixed_with(tmp_path: Path, name: str) -> None:
    path = tmp_path / "gpu.json"
    gpu.Record.open(path, dict(WHERE)).set("one", status=gpu.DONE, found={})
    with pytest.raises(SystemExit, match=name):
        gpu.Record.open(path, {**WHERE, name: "other"})
    path.write_text("{")
    with pytest.raises(SystemExit, match="no file of this script"):
        gpu.Record.open(path, dict(WHERE))


def test_the_least_important_rows_are_dropped_first() -> None:
    rows = [row("one", seconds=100), row("two", seconds=50), row("three", seconds=20)]
    assert [[own.name for own in part] for part in gpu.affordable(rows, 160)] == [
        ["one", "two"],
        ["three"],
    ]
    assert gpu.affordable(rows, 10)[0] == []


def test_the_important_rows_fit_nine_minutes() -> None:
    """By what is expected; 40 seconds are left for imports and the machine."""
    kept, _ = gpu.affordable(gpu.ROWS, 9 * 60 - 40)
    assert {"ceilings", "exact", "training", "steps-512", "compiled-512"} <= {r.name for r in kept}
    assert len({own.name for own in gpu.ROWS}) == len(gpu.ROWS)


# --- memory and tables ---------------------------------------------------------------------------


def test_the_largest_batch_follows_from_two_peaks() -> None:
    found = largest_batches([30.0, 35.0])
    count = found["largest_in_48_gb"]
    assert 30 + 5 * (count - 1) <= allowed_gib(48) < 30 + 5 * count
    assert found["largest_in_24_gb"] == 0
    assert largest_batches([30.0, None]) == {}


def test_every_mode_at_every_size_has_an_estimate() -> None:
    rows = list(estimates())
    assert {(own["mode"], own["size"]) for own in rows} == {
        (mode.name, size) for mode in MODES for size in SIZES
    }
    totals = {(own["mode"], own["size"]): own["total_gib"] for own in rows}
    for size in SIZES:
        order = ["plain", "checkpointed", "int8 checkpointed", "nf4 checkpointed"]
        own = [totals[mode, size] for mode in order]
        assert own == sorted(own, reverse=True)
        assert own[0] > own[1]


def test_the_documentation_is_what_the_figures_say() -> None:
    """Tables are written by gpu_tables.py, never by hand."""
    for (file, name), content in gpu_tables.regions().items():
        text = (gpu_tables.DOCS / file).read_text(encoding="utf-8")
        assert gpu_tables.replaced(text, name, content) == text, (file, name)


def test_a_document_without_the_region_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one region"):
        gpu_tables.replaced("no region", "gpu", "text")
