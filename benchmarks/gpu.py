"""Measure sgflux on one GPU, whole and in nine minutes; see benchmarks/README.md.

    python benchmarks/gpu.py --out gpu.json

The rows come in the order of their importance, and a row for which the time left does not suffice
is dropped. The JSON is written after every row; the same command goes on where it
stopped, and tries rows again that were dropped or failed. A row that fails leaves its error in the
JSON, and the next one begins. ``--toy`` rehearses every row on the CPU at small width.

Nothing is fetched: FLUX.1-schnell's transformer has random weights, made on the card, and tiny-flux
lies beside the code.
"""

from __future__ import annotations

import argparse
import contextlib
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
from gpu_correctness import exact, gradients, pictures, training  # noqa: E402
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
from measuring import Place, commit, source_digest, today, versions, write_json  # noqa: E402

DONE, RUNNING, FAILED, DROPPED = "done", "running", "failed", "dropped"
PATIENCE = 2.5
"""A row may take so many times as long as is expected of it."""
RESERVE = 8.0
"""Seconds at the end for the table, and for a row that is a little late."""


@dataclass(frozen=True)
class Row:
    """Something to measure.

    Attributes:
        name: in the JSON.
        seconds: how long it should take on an H100.
        measure: does it.
    """

    name: str
    seconds: float
    measure: Callable[[Bench], dict[str, Any]]


LARGEST: dict[str, Any] = {"names": ("A", "B"), "batches": (0,)}

ROWS = (
    Row("ceilings", 8, ceilings),
    Row("exact", 20, exact),
    Row("gradients", 12, gradients),
    Row("training", 35, training),
    Row("pictures", 20, pictures),
    Row("memory-512", 40, partial(memory, size=512)),
    Row("steps-512", 45, partial(steps, size=512, names=ALL_WAYS, batches=(1, 4, 0))),
    Row("parts-512", 12, partial(parts, size=512, batch=4)),
    Row("compiled-512", 100, partial(steps, size=512, **LARGEST, compiled=True)),
    Row("memory-256", 30, partial(memory, size=256)),
    Row("steps-256", 25, partial(steps, size=256, names=("A", "B"), batches=(1, 4, 0))),
    Row("sampling-256", 20, partial(sampling, size=256, batch=16)),
    Row("sampling-512", 20, partial(sampling, size=512, batch=8)),
    Row("world-adapter", 25, world_adapter),
    Row("world-base", 35, world_base),
    Row("memory-1024", 30, partial(memory, size=1024)),
    Row("steps-1024", 25, partial(steps, size=1024, names=("A", "B"), batches=(1, 0))),
    Row("memory-table", 75, memory_table),
    Row("compiled-256", 80, partial(steps, size=256, **LARGEST, compiled=True)),
    Row("sampling-256-compiled", 60, partial(sampling, size=256, batch=16, compiled=True)),
    Row("world-base-compiled", 60, partial(world_base, compiled=True)),
)
"""In the order of their importance, in which they run as well."""


class RowTimeoutError(BaseException):
    """A row takes too long; no library's ``except Exception`` may swallow that."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Interrupt what runs inside after so long."""

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
    """The JSON: what was measured where, row by row.

    Attributes:
        content: all of it.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        """Keep the parts; see :meth:`open`."""
        self._path, self.content = path, content

    @classmethod
    def open(cls, path: Path, bench_of: dict[str, Any], *, keep_older: bool = False) -> Record:
        """Begin a file, or go on with one of the same code on the same kind of card.

        Args:
            path: of the file.
            bench_of: what was measured, where, with what.
            keep_older: keep rows that older code measured; each of them names that code.

        Raises:
            SystemExit: if the file is of something else.
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
        if content["source"] != bench_of["source"]:
            content["rows"] = {
                name: {"source": content["source"], **row}
                for name, row in content["rows"].items()
                if row["status"] == DONE
            }
            content |= bench_of
        for row in content["rows"].values():
            if row["status"] == RUNNING:
                row |= {"status": FAILED, "error": "the process ended while this row ran"}
        return cls(path, content)

    @property
    def rows(self) -> dict[str, Any]:
        """Name -> what became of the row."""
        found: dict[str, Any] = self.content["rows"]
        return found

    def set(self, name: str, **row: Any) -> None:
        """Say what became of a row, and write the file."""
        self.rows[name] = row
        write_json(self._path, self.content)

    def todo(self, rows: Sequence[Row], *, leave_failed: bool = False) -> list[Row]:
        """What is still to be done; rows that failed before come last, or are left out."""
        ended = {DONE, FAILED} if leave_failed else {DONE}
        open_rows = [row for row in rows if self._status(row) not in ended]
        return sorted(open_rows, key=lambda row: self._status(row) == FAILED)

    def _status(self, row: Row) -> str | None:
        return self.rows.get(row.name, {}).get("status")


def affordable(rows: Sequence[Row], seconds: float) -> tuple[list[Row], list[Row]]:
    """The rows that there is time for, and those that are dropped: the last ones first."""
    kept = list(rows)
    while kept and sum(row.seconds for row in kept) > seconds:
        kept.pop()
    return kept, list(rows[len(kept) :])


def error_line(error: Exception) -> str:
    """An error's kind and the first line of what it says: CUDA adds four lines of advice."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def card_is_lost(error: str) -> bool:
    """Whether no row of this process can be measured any more: CUDA ends with its first fault."""
    return "CUDA error" in error


def start_again(minutes: float) -> None:
    """Go on in a new process, which leaves out what failed before it. This one ends here."""
    given = sys.argv[1:]
    sys.stdout.flush()
    os.execv(  # this script's own command line
        sys.executable,
        [sys.executable, __file__, *given, "--leave-failed", "--budget-minutes", f"{minutes:.2f}"],
    )


def run_row(row: Row, bench: Bench, record: Record, *, limit: float) -> None:
    """Measure a row, or say why not."""
    record.set(row.name, status=RUNNING)
    started = time.monotonic()
    try:
        with at_most(limit):
            found = row.measure(bench)
        status: dict[str, Any] = {"status": DONE, "found": found}
    except KeyboardInterrupt:
        record.set(row.name, status=FAILED, error="interrupted")
        raise
    except RowTimeoutError:
        status = {"status": FAILED, "error": f"stopped after {limit:.0f} s"}
    except Exception as error:  # noqa: BLE001  # the next row must have its chance
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        status = {"status": FAILED, "error": error_line(error), "where": where}
    seconds = round(time.monotonic() - started, 1)
    record.set(row.name, **status, took_seconds=seconds, expected_seconds=row.seconds)
    with contextlib.suppress(RuntimeError):  # where the card is lost, the next row will say so
        bench.place.clean()
    outcome = status.get("error") or ("ok" if status["found"].get("ok", True) else "NOT OK")
    print(f"{row.name:24} {seconds:6.1f} s  {outcome}", flush=True)


def main() -> int:
    """Measure; returns the exit status: 1 if a row failed, or a check of correctness did."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file to begin or to go on with.")
    parser.add_argument("--budget-minutes", type=float, default=9.0, help="Time for all of it.")
    parser.add_argument("--toy", action="store_true", help="Rehearse on the CPU at small width.")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], metavar="ROW")
    parser.add_argument("--adapter", type=Path, help="Bundle for tiny-flux to draw pictures with.")
    parser.add_argument(
        "--leave-failed", action="store_true", help="Do not try rows again that failed before."
    )
    parser.add_argument(
        "--keep-older", action="store_true", help="Keep rows of --out that older code measured."
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
        if row.seconds > left and not given.toy:
            print(f"{row.name:24} dropped: {row.seconds:.0f} s expected, {left:.0f} s left")
            if record.rows.get(row.name, {}).get("status") != FAILED:
                record.set(row.name, status=DROPPED, expected_seconds=row.seconds)
            continue
        limit = max(20, PATIENCE * row.seconds)
        run_row(row, bench, record, limit=limit if given.toy else min(left, limit))
        if card_is_lost(record.rows[row.name].get("error", "")) and row is not todo[-1]:
            start_again((end + RESERVE - time.monotonic()) / 60)
    print(short_table(record.content))
    good = all(
        record.rows[row.name]["status"] == DONE and record.rows[row.name]["found"].get("ok", True)
        for row in wanted
        if record.rows.get(row.name, {}).get("status") != DROPPED
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
