"""Measure time and memory of `sgflux data vg` on a release of the real size, in both forms.

    python benchmarks/synthetic_visual_genome.py --out-dir synthetic_vg
    python benchmarks/visual_genome.py --release synthetic_vg --results vg.json

Each form runs in a process of its own. Its peak memory is the largest resident set that the system
recorded. That includes pages of mapped files, which the system may drop under pressure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMITS = {"raw": {"seconds": 90, "peak_gib": 6}, "h5": {"seconds": 20}}
"""What DESIGN asks for on two cores."""


def run(form: str, release: Path, out_dir: Path) -> dict[str, Any]:
    """Time one form from outside its process."""
    source = ["--raw", str(release)]
    if form == "h5":
        files = [str(release / f"{split}.h5") for split in ("train", "val", "test")]
        source = ["--h5", *files, "--vocab-path", str(release / "vocab.json")]
        source += ["--images-dir", str(release)]
    command = [sys.executable, "-m", "sgflux", "data", "vg", *source, "--output-dir", str(out_dir)]
    start = time.perf_counter()
    child = subprocess.Popen([*command, "--allow-imbalance"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{form}: the command failed with the status {status}")
    summary = json.loads((out_dir / "vg_quickwin_summary.json").read_text("utf-8"))
    return {
        "form": form,
        "images": summary["images"],
        "relationships": summary["relationships"],
        "rows": {split: entry["rows"] for split, entry in summary["splits"].items()},
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gib": round(_peak_bytes(usage) / 2**30, 2),
        "limits": LIMITS[form],
    }


def _peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Parse the flags, run both forms, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    flags = parser.parse_args()
    results = []
    for form in ("raw", "h5"):
        with tempfile.TemporaryDirectory() as out_dir:
            results.append(run(form, flags.release, Path(out_dir)))
        print(json.dumps(results[-1]), flush=True)
    record = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "load_average_at_the_end": os.getloadavg()[0],
        "relationships_json_mib": round(
            (flags.release / "relationships.json").stat().st_size / 2**20
        ),
        "runs": results,
    }
    if flags.results is not None:
        flags.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
