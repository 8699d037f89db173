"""Measure the CPU time of help texts, of errors in one line, and of imports.

    python benchmarks/startup.py --out benchmarks/results/startup.json

Every row is a process of its own. The rows take turns, and the figure of a row is the median of the
CPU time (user and system) over the turns, as the operating system counts it. Importing diffusers'
pipeline is a row as well, so that a slow machine shows in all of them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkout
from measuring import machine, significant
from result_files import write_json

from sgflux.commands import COMMANDS

IMPORTS = {
    "nothing": "pass",
    "import sgflux.sampling": "import sgflux.sampling",
    "from sgflux.sampling import SceneGraphFluxPipeline": (
        "from sgflux.sampling import SceneGraphFluxPipeline"
    ),
    "from diffusers import FluxPipeline": "from diffusers import FluxPipeline",
}
"""Name of a row -> Python code."""

ERRORS = {
    "train, a missing data file": "train --train-jsonl gone --output-dir out",
    "train, a missing configuration": "train --config gone.toml",
    "train, a damaged configuration": "train --config bad.json",
    "train, a wrong value": "train --train-jsonl gone --output-dir out --lora-rank 0",
    "train, a missing model": "train --train-jsonl here --output-dir out --model-id no/where",
    "train, a missing checkpoint": "train --train-jsonl here --output-dir out --resume step1.pt",
    "train-classifier, a missing data file": (
        "train-classifier --train-jsonl gone --val-jsonl gone --output-dir out"
    ),
    "cache, a missing data file": "cache gone --latent-cache-dir cache",
    "sample, a missing adapter": "sample --adapter ./gone --graph man,on,horse",
    "sample, an adapter not on the hub": "sample --adapter no/where --graph man,on,horse",
    "sample, a graph that cannot be read": "sample --adapter ./gone --graph man",
    "saliency, a missing picture": "saliency --image gone.png --graph man,on,horse",
    "eval, a missing data file": "eval --data gone",
    "eval layout, a missing folder": "eval layout gone",
    "export, a missing adapter": "export --adapter gone --format kohya --output lora.safetensors",
    "import, a missing file": (
        "import --legacy gone --cgip-ckpt gone --vocab-path gone --output-dir out"
    ),
    "demo, a folder that cannot be made": "demo --output-dir here/out",
    "data check, a missing data file": "data check gone",
    "data from-prompts, a missing list": "data from-prompts gone --output out.jsonl",
    "data vg, a missing folder": "data vg --raw gone --output-dir out",
    "world measure-base, a missing model": "world measure-base --model-id ./gone",
    "an unknown command": "sampel",
}
"""Name of a row -> words after ``sgflux``."""


def calls() -> dict[str, tuple[list[str], int]]:
    """Name of a row -> arguments of Python, and the exit status that is expected."""
    found = {name: (["-c", code], 0) for name, code in IMPORTS.items()}
    found["--help"] = (["-m", "sgflux", "--help"], 0)
    for command in COMMANDS:
        name = " ".join(command.words)
        found[f"{name} --help"] = (["-m", "sgflux", *command.words, "--help"], 0)
        found[f"{name}, an unknown flag"] = (["-m", "sgflux", *command.words, "--gone"], 2)
    for name, words in ERRORS.items():
        found[name] = (["-m", "sgflux", *words.split()], 2)
    return found


def cpu_seconds(arguments: Sequence[str], *, status: int, folder: Path) -> float:
    """CPU seconds of one process of Python.

    Raises:
        RuntimeError: if it ends with another status.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = [str(checkout.ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(*, turns: int) -> dict[str, Any]:
    """Row -> median and range of its CPU seconds."""
    rows = calls()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "here").touch()
        (folder / "bad.json").write_text("{", encoding="utf-8")
        for turn in range(turns + 1):  # the first one fills the file cache
            for name, (arguments, status) in rows.items():
                taken = cpu_seconds(arguments, status=status, folder=folder)
                if turn:
                    seconds[name].append(taken)
    return {
        name: {
            "cpu_seconds": significant(statistics.median(own), 3),
            "range": [significant(min(own), 3), significant(max(own), 3)],
        }
        for name, own in seconds.items()
    }


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="Number of processes of each row.")
    parser.add_argument("--out", type=Path, help="JSON file that is written.")
    arguments = parser.parse_args()
    rows = measure(turns=arguments.turns)
    for name, row in sorted(rows.items(), key=lambda one: -one[1]["cpu_seconds"]):
        low, high = row["range"]
        print(f"{row['cpu_seconds']:6.2f} s  ({low:.2f} to {high:.2f})  {name}")
    if arguments.out is not None:
        content = {
            "command": f"python benchmarks/startup.py --turns {arguments.turns}",
            "machine": machine(),
            "turns": arguments.turns,
            "rows": rows,
        }
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
