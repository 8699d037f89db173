"""What all benchmarks share: the device, clocks, peaks of memory, and result files.

The ways that are compared take turns, so that a machine that is busy for a while slows down all of
them. Ratios are taken turn by turn.
"""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import checkout
import torch

ROOT = checkout.ROOT

LIBRARIES = (
    "torch", "triton", "diffusers", "transformers", "peft", "accelerate", "safetensors",
    "tokenizers", "huggingface_hub", "numpy", "msgspec", "tyro", "torchao", "bitsandbytes",
)  # fmt: skip


# --- where ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """The device that is measured.

    Attributes:
        device: CUDA device, or the CPU.
        memory_limit: Largest batch that fits in a rehearsal on the CPU; None elsewhere.
    """

    device: torch.device
    memory_limit: int | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has finished all its work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def clean(self) -> None:
        """Free memory that no object holds any more."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def restart_peak(self) -> None:
        """Begin a new measurement of the peak of memory."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gib(self) -> float | None:
        """Peak of the tensors' memory since :meth:`restart_peak`, in GiB; None on the CPU."""
        if not self.is_cuda:
            return None
        return round(torch.cuda.max_memory_allocated(self.device) / 2**30, 3)

    def describe(self) -> dict[str, Any]:
        """Describe the device as JSON; equal devices have equal descriptions."""
        if not self.is_cuda:
            return {"device": "cpu", "name": processor_name()}
        found = torch.cuda.get_device_properties(self.device)
        return {
            "device": "cuda",
            "name": found.name,
            "capability": f"{found.major}.{found.minor}",
            "memory_gib": round(found.total_memory / 2**30, 1),
            "multiprocessors": found.multi_processor_count,
        }


def processor_name() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries among LIBRARIES, by name."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # with its build, "+cu130"
    return found


def source_digest() -> str:
    """Fingerprint of the measured code: all Python files of sgflux and of the benchmarks."""
    digest = hashlib.sha256()
    for folder in ("src/sgflux", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """Git commit of the checkout, with "+" if files differ from it; None without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that measured a figure on a CPU."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "date": today(),
        "commit": commit(),
        "versions": versions(),
    }


# --- clocks ---------------------------------------------------------------------------------------


class Way(Protocol):
    """One of several ways to do the same work, which take turns."""

    def activate(self) -> None:
        """Prepare a step; this is not timed."""

    def step(self) -> None:
        """Do the work once."""


@dataclass(frozen=True)
class Action:
    """A way that consists of a function, and of another one that prepares it."""

    step: Callable[[], object]
    ready: Callable[[], object] = lambda: None

    def activate(self) -> None:
        """Prepare a step."""
        self.ready()


@dataclass(frozen=True)
class Times:
    """Seconds that each turn of a way took, by the clock and in CPU time of the process."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    def row(self, beside: Times | None = None) -> dict[str, Any]:
        """Medians as JSON, and their ratios to the same turns of ``beside``."""
        found: dict[str, Any] = {
            "seconds": significant(statistics.median(self.wall)),
            "seconds_range": [significant(min(self.wall)), significant(max(self.wall))],
            "cpu_seconds": significant(statistics.median(self.cpu)),
            "turns": len(self.wall),
        }
        if beside is not None:
            found["ratio"] = significant(ratio(self.wall, beside.wall), 3)
            found["cpu_ratio"] = significant(ratio(self.cpu, beside.cpu), 3)
            quarters = statistics.quantiles(
                [a / b for a, b in zip(self.cpu, beside.cpu, strict=True)] * 2, n=4
            )
            found["cpu_ratio_quartiles"] = [significant(q, 3) for q in (quarters[0], quarters[2])]
        return found


def ratio(times: Sequence[float], beside: Sequence[float]) -> float:
    """Median, over the turns, of the ratio of two ways' times."""
    return statistics.median([a / b for a, b in zip(times, beside, strict=True)])


def alternate(
    ways: Mapping[str, Way], *, place: Place, turns: int, warm_up: int = 2
) -> dict[str, Times]:
    """Time several ways that take turns.

    Args:
        ways: Ways by name.
        place: Device, which finishes its work before a clock is read.
        turns: Number of timed turns.
        warm_up: Number of turns before them, which are not timed.
    """
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + turns):
        for name, way in ways.items():
            way.activate()
            place.wait()
            started, worked = time.perf_counter(), time.process_time()
            way.step()
            place.wait()
            if turn >= warm_up:
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - worked)
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in ways}


def significant(value: float, digits: int = 4) -> float:
    """Round a number to ``digits`` significant digits."""
    return float(f"{value:.{digits}g}")


# --- memory ---------------------------------------------------------------------------------------


def fits(work: Callable[[], object], place: Place) -> bool:
    """Whether the work ends without running out of memory; memory that it held then is freed."""
    try:
        work()
        place.wait()
        enough = True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        enough = False
    if not enough:
        # Not before the error is gone: its traceback holds the frames that hold the tensors.
        place.clean()
    return enough


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory ran out; CUDA's libraries word it differently."""
    words = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def largest_batch(enough: Callable[[int], bool], *, limit: int, guess: int = 0) -> int:
    """Search the largest batch that fits; 0 if none does.

    The search takes growing steps, and then halves the interval.

    Args:
        enough: Function that says whether a batch of a size fits.
        limit: Largest batch that is tried.
        guess: Batch to begin with; 0 if nothing is known.
    """
    good, bad = 0, limit + 1
    place, stride = min(max(guess, 1), limit), 1
    while good < place < bad:
        if enough(place):
            good, place = place, min(place + stride, limit)
        else:
            bad, place = place, max(place - stride, 1)
        stride *= 2
    while bad - good > 1:
        middle = (good + bad) // 2
        if enough(middle):
            good = middle
        else:
            bad = middle
    return good


# --- files and libraries --------------------------------------------------------------------------


@contextmanager
def quietly() -> Iterator[None]:
    """Send what is printed inside to standard error."""
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = out
