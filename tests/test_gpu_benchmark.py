"""The benchmark of one GPU, rehearsed on the CPU.

If one of these fails, time on a rented machine would be lost: a row would fail, figures would be
lost or mixed, or a table in docs/ would say something that was not measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu
import gpu_speed
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
    batches = found["steps-512"]["batches"]
    assert [(own["batch"], own["is_largest"]) for own in batches] == [
        (4, False),
        (4, True),
        (1, False),
    ]
    for own in batches:
        assert list(own["ways"]) == ["A", "B", "B2", "B+", "C"]
    assert found["training-deterministic"]["resumed_equal"]
    spent = found["parts-512"]["parts"]
    assert {"prefix", "graph encoder", "chosen blocks", "rest", "optimizer"} <= set(spent)
    assert all(seconds >= 0 for seconds in spent.values())
    assert {"torch", "diffusers"} <= set(content["versions"])
    assert content["source"]


def test_every_row_has_a_line_in_the_tables(rehearsal: Path) -> None:
    content = json.loads(rehearsal.read_text())
    for row in gpu.ROWS:
        described = gpu_tables.row_lines(row.name, content["rows"][row.name])
        assert described, row.name
        assert all(name.split()[0] == row.name for name, _ in described)
    assert "Not measured" not in gpu_tables.gpu_region({**content, "card": {**CARD}})


CARD = {"name": "a card", "memory_gib": 80}


def test_a_rehearsal_is_no_figure_for_the_documentation(rehearsal: Path) -> None:
    with pytest.raises(SystemExit, match="rehearsal"):
        gpu_tables.read_results(rehearsal)


# --- going on, failing, running out of time ------------------------------------------------------


def bench() -> Bench:
    return Bench(Place(torch.device("cpu"), memory_limit=4), toy=True, results={})


def row(name: str, measure: Any = lambda _: {"ok": True}, seconds: float = 10) -> gpu.Row:
    return gpu.Row(name, seconds, measure)


def written(tmp_path: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    return rows


def opened(tmp_path: Path, *, keep_older: bool = False, **where: str) -> gpu.Record:
    return gpu.Record.open(tmp_path / "gpu.json", {**WHERE, **where}, keep_older=keep_older)


def test_a_row_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    def broken(_: Bench) -> dict[str, Any]:
        raise RuntimeError("the card caught fire\nand four lines of advice")

    record = opened(tmp_path)
    gpu.run_row(row("broken", broken), bench(), record, limit=10)
    gpu.run_row(row("good"), bench(), record, limit=10)
    rows = written(tmp_path)
    assert rows["broken"]["status"] == "failed"
    assert rows["broken"]["error"] == "RuntimeError: the card caught fire"
    assert rows["good"]["status"] == "done"


def test_a_row_that_hangs_is_stopped(tmp_path: Path) -> None:
    def hangs(_: Bench) -> dict[str, Any]:
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001  # as a library might
            return {}
        return {}

    record = opened(tmp_path)
    started = time.monotonic()
    gpu.run_row(row("hangs", hangs), bench(), record, limit=0.2)
    assert time.monotonic() - started < 20
    assert record.rows["hangs"]["status"] == "failed"


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A row that ended the process comes last; else it would end every later process as well."""
    record = opened(tmp_path)
    rows = [row("one"), row("two"), row("three"), row("four")]
    record.set("one", status=gpu.DONE, found={})
    record.set("two", status=gpu.RUNNING)
    record.set("three", status=gpu.DROPPED)
    again = opened(tmp_path)
    assert [own.name for own in again.todo(rows)] == ["three", "four", "two"]
    assert "ended while this row ran" in again.rows["two"]["error"]
    assert [own.name for own in again.todo(rows, leave_failed=True)] == ["three", "four"]


@pytest.mark.parametrize("name", ["toy", "card", "source", "versions"])
def test_a_file_of_something_else_is_not_mixed_with(tmp_path: Path, name: str) -> None:
    path = tmp_path / "gpu.json"
    opened(tmp_path).set("one", status=gpu.DONE, found={})
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
    assert {
        "exact",
        "memory-512",
        "compiled-512",
        "steps-512",
        "steps-256",
        "training-deterministic",
        "world-base",
    } <= {r.name for r in kept}
    assert len({own.name for own in gpu.ROWS}) == len(gpu.ROWS)
    assert all(own.least <= own.seconds for own in gpu.ROWS)


# --- rows that end early -------------------------------------------------------------------------


def counting(upto: int, seen: list[int]) -> Any:
    """A row that finds 1, 2, 3, one after the other, and fails after ``upto``."""

    def measure(own: Bench) -> dict[str, Any]:
        found: dict[str, Any] = own.earlier or {"numbers": []}
        for number in (1, 2, 3):
            if number in found["numbers"]:
                continue
            if number > upto:
                raise RuntimeError(f"no time for {number}")
            seen.append(number)
            found["numbers"].append(number)
            own.keep(found)
        return found

    return measure


def test_a_row_that_is_stopped_keeps_its_figures_and_is_completed_later(tmp_path: Path) -> None:
    seen: list[int] = []
    gpu.run_row(row("one", counting(2, seen)), bench(), opened(tmp_path), limit=10)
    stopped = written(tmp_path)["one"]
    assert (stopped["status"], stopped["partial"]) == ("failed", True)
    assert stopped["found"] == {"numbers": [1, 2]}
    assert stopped["error"] == "RuntimeError: no time for 3"
    again = opened(tmp_path)
    # It is not put behind the rows that were not begun, as one without figures would be.
    assert [own.name for own in again.todo([row("one"), row("two")])] == ["one", "two"]
    gpu.run_row(row("one", counting(3, seen)), bench(), again, limit=10)
    complete = written(tmp_path)["one"]
    assert seen == [1, 2, 3], "no figure is measured twice"
    assert complete["status"] == "done"
    assert complete["found"] == {"numbers": [1, 2, 3]}
    assert not {"partial", "error", "before"} & set(complete)


def test_figures_survive_a_row_that_ends_the_process(tmp_path: Path) -> None:
    record = opened(tmp_path)
    own = bench()
    own.begin(record.begin("one"), lambda found: record.keep("one", found))
    own.keep({"numbers": [1]})
    assert written(tmp_path)["one"]["status"] == "running"
    again = opened(tmp_path)
    assert again.rows["one"]["found"] == {"numbers": [1]}
    assert again.rows["one"]["partial"]
    assert again.begin("one") == {"numbers": [1]}
    # A second attempt that ends before its first figure leaves those of the first one.
    assert opened(tmp_path).rows["one"]["found"] == {"numbers": [1]}


def test_steps_keep_every_batch_and_measure_the_rest_later() -> None:
    """A and B come first at every batch, then the other ways; nothing is measured twice."""
    kept: list[dict[str, Any]] = []

    def stop_after_two(found: dict[str, Any]) -> None:
        kept.append(json.loads(json.dumps(found)))
        if len(kept) == 2:
            raise gpu.RowTimeoutError

    def measure(own: Bench) -> dict[str, Any]:
        return gpu_speed.steps(own, 256, names=("A", "B", "C"), batches=(1, 2))

    first = bench()
    first.begin({}, stop_after_two)
    with pytest.raises(gpu.RowTimeoutError):
        measure(first)
    assert [list(own["ways"]) for own in kept[-1]["batches"]] == [["A", "B"], ["A", "B"]]
    later = bench()
    later.begin(json.loads(json.dumps(kept[-1])), lambda _: None)
    found = measure(later)
    assert [list(own["ways"]) for own in found["batches"]] == [["A", "B", "C"]] * 2
    for before, after in zip(kept[-1]["batches"], found["batches"], strict=True):
        assert {name: after["ways"][name] for name in ("A", "B")} == before["ways"]


def test_a_batch_that_does_not_fit_becomes_smaller() -> None:
    found = gpu_speed.steps(bench(), 256, names=("A", "B"), batches=(6,))
    assert [(own["asked"], own["batch"]) for own in found["batches"]] == [(6, 4)]


def test_memory_of_one_way_is_kept_while_the_other_is_measured() -> None:
    kept: list[dict[str, Any]] = []
    own = bench()
    own.begin({}, lambda found: kept.append(json.loads(json.dumps(found))))
    gpu_speed.memory(own, 256)
    assert [set(found) for found in kept] == [{"weights_gib", "A"}, {"weights_gib", "A", "B"}]
    own.begin(kept[0], lambda _: None)
    assert gpu_speed.memory(own, 256)["A"] == kept[0]["A"]


# --- figures of older code -----------------------------------------------------------------------


def test_older_figures_are_kept_named_and_measured_again_last(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.set("one", status=gpu.DONE, found={"ok": False})
    record.set("two", status=gpu.FAILED, error="stopped")
    record.set("three", status=gpu.FAILED, error="stopped", partial=True, found={"numbers": [1]})
    newer = opened(tmp_path, keep_older=True, source="1")
    assert {name: own["source"] for name, own in newer.rows.items()} == {"one": "0", "three": "0"}
    rows = [row("one"), row("two"), row("three")]
    assert [own.name for own in newer.todo(rows)] == ["two", "three", "one"]
    assert newer.begin("three") == {}, "figures of two states of the code are not mixed in one row"
    assert gpu.is_good(newer.rows["one"]), "a check that failed in older code is no failure now"


def test_an_attempt_that_fails_leaves_older_figures(tmp_path: Path) -> None:
    opened(tmp_path).set("one", status=gpu.DONE, found={"numbers": [1, 2, 3]})
    newer = opened(tmp_path, keep_older=True, source="1")
    gpu.run_row(row("one", counting(2, [])), bench(), newer, limit=10)
    kept = written(tmp_path)["one"]
    assert kept["found"] == {"numbers": [1, 2, 3]}
    assert (kept["status"], kept["source"]) == ("done", "0")
    assert kept["error"] == "RuntimeError: no time for 3"
    # After a CUDA fault, a new process must not try it for ever.
    assert newer.todo([row("one")], leave_failed=True) == []
    gpu.run_row(row("one", counting(3, [])), bench(), newer, limit=10)
    assert not {"source", "error"} & set(written(tmp_path)["one"])


def test_a_new_process_goes_on_after_a_cuda_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the same arguments and the time that is left, and leaves out the row that failed."""

    class Replaced(BaseException):
        """Ends the process, as ``os.execv`` would."""

    commands: list[list[str]] = []

    def replace_process(_: str, command: list[str]) -> None:
        commands.append(command)
        raise Replaced

    def fault(_: Bench) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    out = tmp_path / "gpu.json"
    given = ["--toy", "--out", str(out), "--budget-minutes", "5"]
    monkeypatch.setattr(gpu.os, "execv", replace_process)
    monkeypatch.setattr(gpu, "ROWS", (row("exact", fault), row("world-base")))
    monkeypatch.setattr(gpu, "STARTED", time.monotonic())
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given])
    with pytest.raises(Replaced):
        gpu.main()
    (command,) = commands
    assert command[0] == sys.executable
    assert command[1] == gpu.__file__
    assert command[2 : 2 + len(given)] == given
    assert command[-3:-1] == ["--leave-failed", "--budget-minutes"]
    assert 4 < float(command[-1]) <= 5
    monkeypatch.setattr(sys, "argv", command[1:])
    assert gpu.main() == 1, "a row failed"
    assert {name: own["status"] for name, own in written(tmp_path).items()} == {
        "exact": "failed",
        "world-base": "done",
    }


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


def content_of(**rows: Any) -> dict[str, Any]:
    return {
        "date": "2026-11-28",
        "commit": "abc",
        "source": "1",
        "card": CARD,
        "versions": {"torch": "2", "diffusers": "0.42"},
        "rows": {name.replace("_", "-"): own for name, own in rows.items()},
    }


BATCH = {"batch": 4, "ways": {"A": {"seconds": 1.0, "ratio": 1.0}}, "does_not_fit": ["C"]}


def test_rows_of_older_code_and_incomplete_ones_are_marked() -> None:
    steps = {"status": "failed", "partial": True, "error": "stopped", "found": {"batches": [BATCH]}}
    older = {"status": "done", "source": "0", "found": {"steps": 2, "resumed_after": 1}}
    older["found"] |= {"resumed_equal": True}
    text = gpu_tables.gpu_region(content_of(training=older, steps_512=steps))
    assert "| training † | 2 steps, resumed after 1: weights equal bit for bit |" in text
    assert "| steps-512 ‡ batch 4, A | 1 s, 1.00 × A |" in text
    assert "| steps-512 ‡ batch 4, C | does not fit |" in text
    assert "| steps-512 | the rest is not measured: stopped |" in text
    assert "† An earlier state of the code measured this row: `0`." in text
    assert "‡ The row ended early" in text
    assert "| compiled-512 | not measured |" in text, "a row that was never begun is named as well"


def test_a_way_that_was_not_measured_has_no_line() -> None:
    partial = {"status": "running", "partial": True, "found": {"weights_gib": 22.1, "A": MEMORY}}
    lines = gpu_tables.row_lines("memory-512", partial)
    assert [name for name, _ in lines] == ["memory-512 ‡ A", "memory-512"]
    assert lines[0][1].startswith("batch 1: 27.3 GiB, batch 4: 41.7 GiB; largest batch 23")


MEMORY = {"peak_gib": {"1": 27.327, "4": 41.738}, "largest_batch": 23}


def test_the_summary_has_what_this_code_measured() -> None:
    content = content_of(
        ceilings={"status": "done", "source": "0", "found": {}},
        memory_512={"status": "done", "found": {"A": MEMORY, "B": MEMORY}},
        exact={"status": "dropped"},
        gradients={"status": "failed", "error": "CUDA error: " + 200 * "x"},
    )
    text = gpu_tables.short_table(
        content, ["ceilings", "memory-512", "exact", "gradients", "parts-512"]
    )
    assert max(len(line) for line in text.splitlines()) == 120
    assert "not measured: exact, parts-512" in text
    assert "measured by older code: ceilings" in text
    assert text.count("memory-512") == 2


def test_measured_memory_stands_beside_its_estimate() -> None:
    content = content_of(
        memory_512={
            "status": "done",
            "found": {"B": MEMORY | {"at_largest": {"peak_gib": 134.349}}},
        }
    )
    text = gpu_tables.memory_region(content)
    assert "| 512², batch 1 | 27.4 | 27.3 | -0.3 % |" in text
    assert "| 512², batch 23 |" in text
    plain = next(line for line in text.splitlines() if line.startswith("| plain"))
    assert plain.split("|")[5:8] == [" not measured ", " 27.3 ", " not measured "]


def test_the_documentation_is_what_the_figures_say() -> None:
    """Tables are written by gpu_tables.py, never by hand."""
    for (file, name), content in gpu_tables.regions().items():
        text = (gpu_tables.DOCS / file).read_text(encoding="utf-8")
        assert gpu_tables.replaced(text, name, content) == text, (file, name)


def test_a_document_without_the_region_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one region"):
        gpu_tables.replaced("no region", "gpu", "text")
