"""Measure sgflux on one GPU in nine minutes; benchmarks/README.md describes the rows.

    python benchmarks/gpu.py --out gpu.json

The rows are measured in the order of ``ROWS``, and a row is dropped if too little time is left for
it. The JSON is written after every row and after every part of a row (a batch size, a way to save
memory). The same command continues an interrupted file: it measures rows that were dropped, failed
or are incomplete. A row that fails leaves its error in the JSON, and the next row begins. ``--toy``
rehearses every row on the CPU at small width.

The script downloads nothing: FLUX.1-schnell's transformer gets random weights on the card, and the
weights of tiny-flux are part of the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # before the libraries are imported: that takes its share of the budget

import checkout  # noqa: E402, F401
import torch  # noqa: E402
from gpu_bench import Bench  # noqa: E402
from gpu_correctness import (  # noqa: E402
    deterministic_training,
    exact,
    gradients,
    pictures,
    training,
)
from gpu_memory import memory_table  # noqa: E402
from gpu_speed import (  # noqa: E402
    ALL_WAYS,
    ceilings,
    memory,
    parts,
    sampling,
    steps,
    world_adapter,
    world_base,
)
from gpu_tables import short_table  # noqa: E402
from measuring import Place, commit, source_digest, today, versions  # noqa: E402
from result_files import write_json  # noqa: E402

from sgflux.errors import first_line  # noqa: E402

DONE, RUNNING, FAILED, DROPPED = "done", "running", "failed", "dropped"
PATIENCE = 2.5
"""A row is stopped after this many times its expected seconds."""
RESERVE = 8.0
"""Seconds kept at the end for the summary, and for a row that is a little late."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: Name in the JSON.
        seconds: Expected duration on an H200.
        measure: Function that measures the row and returns its figures.
        first: Expected seconds until the first figures are kept; None if they are kept at the end.
            A row is dropped if less time than that is left.
    """

    name: str
    seconds: float
    measure: Callable[[Bench], dict[str, Any]]
    first: float | None = None

    @property
    def least(self) -> float:
        """Seconds without which the row has no figures."""
        return self.seconds if self.first is None else self.first


def steps_row(size: int, seconds: float, first: float, **settings: Any) -> Row:
    """A row that times training steps with eager blocks."""
    return Row(f"steps-{size}", seconds, partial(steps, size=size, **settings), first)


def compiled_row(size: int, seconds: float) -> Row:
    """A row that times A and B with compiled blocks at their largest common batch."""
    measure = partial(steps, size=size, names=("A", "B"), batches=(0,), compiled=True)
    return Row(f"compiled-{size}", seconds, measure)


# The expected times come from an H200. Measured there: most rows that take less than a minute,
# 32 s for memory-512, and 51 s for compiled sampling, of which 20 s were sampling. The others are
# estimates: a step of A or B at the largest batch takes 2.25 s, of B+ 3, of C 5 (A, B2, B+ and C
# together 12.5), and a row of steps makes LARGEST_TURNS + 2 turns there.
ROWS = (
    Row("ceilings", 2, ceilings),
    Row("exact", 5, exact),
    Row("gradients", 3, gradients),
    Row("memory-512", 35, partial(memory, size=512), first=18),
    compiled_row(512, 150),
    steps_row(512, 125, 35, names=ALL_WAYS, batches=(4, 0, 1)),
    Row("memory-256", 35, partial(memory, size=256), first=18),
    steps_row(256, 45, 15, names=("A", "B"), batches=(4, 0, 1)),
    Row("training-deterministic", 30, deterministic_training),
    Row("world-base", 40, world_base, first=30),
    Row("training", 20, training),
    Row("pictures", 10, pictures),
    Row("memory-table", 75, memory_table, first=15),
    Row("memory-1024", 35, partial(memory, size=1024), first=18),
    steps_row(1024, 45, 15, names=("A", "B"), batches=(1, 0)),
    Row("parts-512", 8, partial(parts, size=512, batch=4)),
    Row("sampling-256", 22, partial(sampling, size=256, batch=16)),
    Row("sampling-512", 32, partial(sampling, size=512, batch=8)),
    Row("world-adapter", 12, world_adapter),
    compiled_row(256, 120),
    Row("sampling-256-compiled", 55, partial(sampling, size=256, batch=16, compiled=True)),
    Row("world-base-compiled", 70, partial(world_base, compiled=True), first=50),
)
"""All rows, in the order in which they are measured: checks of correctness that take seconds, then
what no GPU has measured yet, then the rest."""


class RowTimeoutError(BaseException):
    """A row took too long. As a ``BaseException`` it passes a library's ``except Exception``."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`RowTimeoutError` in the body once it has run for ``seconds``."""

    def stop(*_: Any) -> None:
        raise RowTimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Record:
    """The JSON file: the machine, and the state and figures of every row.

    A row is a dictionary. Its ``status`` is "done", "failed" or "dropped"; while it is measured,
    "running". ``found`` holds its figures, and ``partial`` is true if some are missing. ``source``
    is there if older code measured the row, and fingerprints that code. ``error`` says why the
    latest attempt failed. A running row keeps the row of the earlier attempt as ``before``.

    Attributes:
        content: Content of the file.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        """Hold a content; :meth:`open` reads one."""
        self._path, self.content = path, content

    @classmethod
    def open(cls, path: Path, bench_of: dict[str, Any], *, keep_older: bool = False) -> Record:
        """Begin a file, or continue one that the same code measured on the same kind of card.

        Args:
            path: Path of the file.
            bench_of: Description of the card, the libraries and the code that measure now.
            keep_older: Keep figures of older code until they are measured again; their rows name
                that code.

        Raises:
            SystemExit: if the file describes another card, other libraries or other code.
        """
        if not path.exists():
            return cls(path, {**bench_of, "rows": {}})
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            differing = [
                f"{name}: {content[name]!r} there, {bench_of[name]!r} now"
                for name in ("toy", "card", "versions", *(() if keep_older else ("source",)))
                if content[name] != bench_of[name]
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SystemExit(f"error: {path} is no file of this script ({error})") from error
        if differing:
            raise SystemExit(
                f"error: {path} was measured differently ({'; '.join(differing)}); "
                "give another --out"
            )
        rows = {
            name: ended(row, error="the process ended while this row ran")
            if row["status"] == RUNNING
            else row
            for name, row in content["rows"].items()
        }
        if content["source"] != bench_of["source"]:
            rows = {
                name: {
                    "source": content["source"],
                    **{key: value for key, value in row.items() if key != "error"},
                }
                for name, row in rows.items()
                if "found" in row
            }
            content |= bench_of
        return cls(path, {**content, "rows": rows})

    @property
    def rows(self) -> dict[str, Any]:
        """State and figures of every row, by name."""
        found: dict[str, Any] = self.content["rows"]
        return found

    def set(self, name: str, **row: Any) -> None:
        """Replace a row, and write the file."""
        self.rows[name] = row
        write_json(self._path, self.content)

    def begin(self, name: str) -> dict[str, Any]:
        """Mark a row as running.

        Returns:
            Figures that an earlier attempt of the same code kept, with which the row continues.
        """
        before = self.rows.get(name, {})
        self.set(name, status=RUNNING, before=before)
        return {} if "source" in before else copy.deepcopy(before.get("found", {}))

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Write what a running row has found so far."""
        self.set(name, **{**self.rows[name], "partial": True, "found": found})

    def fail(self, name: str, **row: Any) -> None:
        """Say why a running row ended; figures that it kept, or had before, stay."""
        self.set(name, **ended(self.rows[name], **row))

    def todo(self, rows: Sequence[Row], *, leave_failed: bool = False) -> list[Row]:
        """The rows to measure, in their order but for two groups that come last.

        Rows that failed without figures come after the others, and after them the rows that only
        older code measured.

        Args:
            rows: Rows that are wanted.
            leave_failed: Leave out rows whose latest attempt failed.
        """

        def turn(row: Row) -> int | None:
            state = self.rows.get(row.name, {})
            if leave_failed and "error" in state:
                return None
            if state.get("status") == DONE:
                return 2 if "source" in state else None
            return 1 if state.get("status") == FAILED and "found" not in state else 0

        turns = {row.name: turn(row) for row in rows}
        wanted = [row for row in rows if turns[row.name] is not None]
        return sorted(wanted, key=lambda row: turns[row.name] or 0)


def ended(row: dict[str, Any], **how: Any) -> dict[str, Any]:
    """A running row after it failed: complete or first figures of an earlier attempt come back."""
    before = row.get("before", {})
    if "found" in before and (before["status"] == DONE or "found" not in row):
        return {**before, "error": how["error"]}
    kept = {name: row[name] for name in ("partial", "found") if name in row}
    return {"status": FAILED, **kept, **how}


def affordable(rows: Sequence[Row], seconds: float) -> tuple[list[Row], list[Row]]:
    """Split rows into those that ``seconds`` suffice for, and the last ones, which are dropped."""
    kept = list(rows)
    while kept and sum(row.seconds for row in kept) > seconds:
        kept.pop()
    return kept, list(rows[len(kept) :])


def error_line(error: Exception) -> str:
    """An error's type and the first line of its message, to which CUDA adds lines of advice."""
    return f"{type(error).__name__}: {first_line(error)}"


def card_is_lost(error: str) -> bool:
    """Whether an error is a CUDA fault, after which this process can use the card no more."""
    return "CUDA error" in error


def start_again(minutes: float) -> None:
    """Replace this process by one with the same arguments that leaves out rows that failed.

    Args:
        minutes: Time that is left.
    """
    given = sys.argv[1:]
    sys.stdout.flush()
    os.execv(  # this script's own command line
        sys.executable,
        [sys.executable, __file__, *given, "--leave-failed", "--budget-minutes", f"{minutes:.2f}"],
    )


def run_row(row: Row, bench: Bench, record: Record, *, limit: float) -> None:
    """Measure a row and record its figures, or why there are none.

    Args:
        row: Row to measure.
        bench: Card and models.
        record: File for the figures.
        limit: Seconds after which the row is stopped.
    """
    bench.begin(record.begin(row.name), partial(record.keep, row.name))
    started = time.monotonic()

    def took() -> dict[str, float]:
        seconds = round(time.monotonic() - started, 1)
        return {"took_seconds": seconds, "expected_seconds": row.seconds}

    try:
        with at_most(limit):
            found = row.measure(bench)
        outcome = "ok" if found.get("ok", True) else "NOT OK"
        record.set(row.name, status=DONE, found=found, **took())
    except KeyboardInterrupt:
        record.fail(row.name, error="interrupted", **took())
        raise
    except RowTimeoutError:
        outcome = f"stopped after {limit:.0f} s"
        record.fail(row.name, error=outcome, **took())
    except Exception as error:  # noqa: BLE001  # the next row must be measured all the same
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        outcome = error_line(error)
        record.fail(row.name, error=outcome, where=where, **took())
    with contextlib.suppress(RuntimeError):  # a lost card is reported by the row itself
        bench.place.clean()
    print(f"{row.name:24} {took()['took_seconds']:6.1f} s  {outcome[:120]}", flush=True)


def main() -> int:
    """Measure the rows.

    Returns:
        Exit status: 1 if a row failed or a check of correctness did not hold.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file to begin or to continue.")
    parser.add_argument(
        "--budget-minutes", type=float, default=9.0, help="Time for all rows together."
    )
    parser.add_argument("--toy", action="store_true", help="Rehearse on the CPU at small width.")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], metavar="ROW")
    parser.add_argument("--adapter", type=Path, help="Adapter of tiny-flux for the row pictures.")
    parser.add_argument(
        "--leave-failed", action="store_true", help="Leave out rows whose latest attempt failed."
    )
    parser.add_argument(
        "--keep-older",
        action="store_true",
        help="Keep figures of --out that older code measured until they are measured again.",
    )
    given = parser.parse_args()
    if given.adapter is not None and not given.adapter.is_dir():
        parser.error(f"--adapter {given.adapter} is no folder")
    if not given.toy and not torch.cuda.is_available():
        parser.error("this torch sees no GPU; --toy rehearses without one")
    if given.toy:
        torch.set_num_threads(1)
    gc.freeze()  # the libraries' own objects: memory is collected often below, and they all stay
    device = torch.device("cpu") if given.toy else torch.device("cuda", 0)
    place = Place(device, memory_limit=4 if given.toy else None)
    out = given.out or Path("runs/gpu_toy.json" if given.toy else "benchmarks/results/gpu.json")
    record = Record.open(
        out,
        {
            "toy": given.toy,
            "card": place.describe(),
            "host": {"cores": os.cpu_count(), "system": platform.system()},
            "versions": versions(),
            "source": source_digest(),
            "commit": commit(),
            "date": today(),
        },
        keep_older=given.keep_older,
    )
    bench = Bench(place, toy=given.toy, results=record.rows, adapter=given.adapter)
    wanted = [row for row in ROWS if given.rows is None or row.name in given.rows]
    todo = record.todo(wanted, leave_failed=given.leave_failed)
    end = STARTED + 60 * given.budget_minutes - RESERVE
    print(f"{place.describe()['name']}: {len(todo)} of {len(wanted)} rows to measure", flush=True)
    forecast = [] if given.toy else affordable(todo, end - time.monotonic())[1]
    if forecast:
        print(f"dropped unless others are quicker: {', '.join(row.name for row in forecast)}")
    for row in todo:
        left = end - time.monotonic()
        if row.least > left and not given.toy:
            print(f"{row.name:24} dropped: {row.least:.0f} s needed, {left:.0f} s left")
            if record.rows.get(row.name, {}).get("status", DROPPED) == DROPPED:
                record.set(row.name, status=DROPPED, expected_seconds=row.seconds)
            continue
        limit = max(20, PATIENCE * row.seconds)
        # A rehearsal may share its cores with other tests.
        run_row(row, bench, record, limit=10 * limit if given.toy else min(left, limit))
        if card_is_lost(record.rows[row.name].get("error", "")) and row is not todo[-1]:
            start_again((end + RESERVE - time.monotonic()) / 60)
    print(short_table(record.content, [row.name for row in wanted]))
    return 0 if all(is_good(record.rows.get(row.name, {})) for row in wanted) else 1


def is_good(row: dict[str, Any]) -> bool:
    """Whether a row was dropped, measured by older code, or measured with every check holding."""
    if row.get("status") == DROPPED or "source" in row:
        return "error" not in row
    return row.get("status") == DONE and bool(row["found"].get("ok", True))


if __name__ == "__main__":
    sys.exit(main())
