"""Measure time and memory of a cache with 100,000 entries, and of opening one with a million.

    python benchmarks/cache.py --folder cache_bench --results benchmarks/cache.json

Entries are posteriors of pictures: mean and standard deviation, (16, h, w), bf16. The million rows
are small, since opening reads only the index files. Every phase runs in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ENTRIES, MILLION = 100_000, 1_000_000
LATENT = 16
BATCH = 64
BATCHES_READ = 500
PHASES = ("write", "open", "read", "verify")


def keys_of(count: int) -> list[str]:
    """Make ``count`` different keys."""
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def run_phase(phase: str, folder: Path, *, entries: int, side: int) -> dict[str, Any]:
    """Run one phase in this process."""
    import torch

    from sgflux.data.cache.store import CacheStore
    from sgflux.data.cache.tensor_rows import StoredRows

    keys = keys_of(entries)
    before, _ = memory_mib()
    start = time.perf_counter()
    amount = entries
    if phase == "write":
        block = torch.randn(1024, 16, side, side).bfloat16()
        with CacheStore(folder).writer() as writer:
            for first in range(0, entries, 1024):
                part = keys[first : first + 1024]
                mean = block[: len(part)] + first
                writer.add(part, {"mean": mean, "std": block[: len(part)].abs()})
    elif phase == "open":
        rows = StoredRows(CacheStore(folder), keys)
    elif phase == "read":
        rows = StoredRows(CacheStore(folder), keys)
        generator = torch.Generator().manual_seed(0)
        start = time.perf_counter()
        amount = BATCH * BATCHES_READ
        for _ in range(BATCHES_READ):
            rows.rows(torch.randint(entries, (BATCH,), generator=generator))
    else:
        damaged = CacheStore(folder).verify()
        if damaged:
            raise SystemExit(f"damaged: {damaged}")
    seconds = time.perf_counter() - start
    resident, peak = memory_mib()
    return {
        "phase": phase,
        "entries": entries,
        "bytes_per_entry": 2 * 2 * 16 * side * side,
        "seconds": round(seconds, 2),
        "entries_per_second": round(amount / seconds),
        "memory_mib": resident - before,
        "peak_memory_mib": peak - before,
    }


def memory_mib() -> tuple[int, int]:
    """Resident memory of this process, now and at its peak; Linux only."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mib = round(peak * (1 if sys.platform == "darwin" else 1024) / 2**20)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_mib, peak_mib
    return round(pages * resource.getpagesize() / 2**20), peak_mib


def main() -> None:
    """Parse the flags, run every phase, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--many-entries", type=int, default=MILLION)
    parser.add_argument("--side", type=int, default=LATENT, help="Side of the latents.")
    parser.add_argument(
        "--phase", choices=PHASES, default=None, help="Run this phase only, in this process."
    )
    flags = parser.parse_args()
    if flags.phase is not None:
        found = run_phase(flags.phase, flags.folder, entries=flags.entries, side=flags.side)
        print(json.dumps(found))
        return
    results = []
    plan = [(flags.entries, flags.side, PHASES), (flags.many_entries, 1, ("write", "open"))]
    for entries, side, phases in plan:
        folder = flags.folder / f"{entries}_{side}"
        shutil.rmtree(folder, ignore_errors=True)
        for phase in phases:
            command = [sys.executable, __file__, "--phase", phase, "--folder", str(folder)]
            command += ["--entries", str(entries), "--side", str(side)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
            print(json.dumps(results[-1]), flush=True)
        shutil.rmtree(folder)
    record = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "load_average_at_the_end": os.getloadavg()[0],
        "runs": results,
    }
    if flags.results is not None:
        flags.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
