"""List which deliberate faults the tests notice.

    python benchmarks/mutants.py                       # all of benchmarks/mutants.toml
    python benchmarks/mutants.py --only E10 L3         # some
    python benchmarks/mutants.py --check               # only whether every fault still applies

A mutant is one named fault: a line of the product replaced by a wrong one. Each is put into a copy
of the repository, the tests that guard that line are run there, and the mutant is *killed* if one
of them fails. A mutant whose line is no longer in its file counts as alive: the list has to follow
the code. The result is written to ``benchmarks/results/mutants.json`` after every mutant, and a
call that was interrupted continues there as long as product and tests are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from result_files import write_json

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "benchmarks" / "mutants.toml"
COPIED = ("src", "tests", "benchmarks", "configs", "docs", "scripts", "README.md", "pyproject.toml")
"""What the tests read of a checkout."""

KILLED, ALIVE, GONE, UNUSABLE = "killed", "alive", "no longer applies", "tests fail without it"


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault.

    Attributes:
        id: Short name of the mutant.
        what: Description of the fault.
        file: The file that it changes.
        old: The text that is replaced; it must occur exactly once.
        new: The wrong text in its place.
        tests: The tests that guard it, as pytest names them: files, or single tests in them.
    """

    id: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applies(self, root: Path) -> bool:
        """Whether the text that it replaces is in its file, exactly once."""
        path = root / self.file
        return path.is_file() and path.read_text(encoding="utf-8").count(self.old) == 1

    def applied(self, root: Path) -> str:
        """The file's text with the fault in it."""
        return (root / self.file).read_text(encoding="utf-8").replace(self.old, self.new)


def read_list(path: Path = LIST) -> list[Mutant]:
    """All mutants of the list, in its order.

    Raises:
        ValueError: if two have one id, one changes nothing, or a test file is missing.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    mutants = [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    twice = [id_ for id_, count in Counter(mutant.id for mutant in mutants).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: the ids {twice} occur more than once")
    for mutant in mutants:
        if mutant.old == mutant.new or not mutant.tests:
            raise ValueError(f"{path}: mutant {mutant.id} changes nothing or names no test")
        missing = [name for name in files_of(mutant.tests) if not (ROOT / name).is_file()]
        if missing:
            raise ValueError(
                f"{path}: mutant {mutant.id} names tests that are not there: {missing}"
            )
    return mutants


def files_of(tests: Sequence[str]) -> list[str]:
    """The files that these tests are in."""
    return sorted({name.partition("::")[0] for name in tests})


def copy_of_the_repository(folder: Path) -> Path:
    """The working tree's product and tests in a folder of their own."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.is_file():
            shutil.copy2(source, folder / name)
    return folder


def tests_pass(root: Path, tests: Sequence[str], *, timeout: float) -> bool:
    """Whether these tests, slow ones left out, all pass in a copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-m", "not slow", *tests]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return False  # a fault that hangs is noticed, too
    if done.returncode not in (0, 1, 2):
        # 2: a module that cannot be imported any more; anything else is no answer of the tests.
        raise RuntimeError(
            f"pytest ended with {done.returncode} on {' '.join(tests)}:\n"
            + done.stdout.decode(errors="replace")[-2000:]
        )
    return done.returncode == 0


def digest_of(root: Path, tests: Sequence[str]) -> str:
    """A digest of the product and of some tests, for going on where a call stopped."""
    digest = hashlib.sha256()
    paths = [*sorted((root / "src").rglob("*.py")), *(root / name for name in files_of(tests))]
    for path in paths:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def judge(mutant: Mutant, root: Path, *, healthy: dict[tuple[str, ...], bool]) -> str:
    """What becomes of a mutant in a copy of the repository, which is as before afterwards."""
    if not mutant.applies(root):
        return GONE
    if mutant.tests not in healthy:
        healthy[mutant.tests] = tests_pass(root, mutant.tests, timeout=900)
    if not healthy[mutant.tests]:
        return UNUSABLE
    path = root / mutant.file
    before = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(root), encoding="utf-8")
    try:
        return ALIVE if tests_pass(root, mutant.tests, timeout=600) else KILLED
    finally:
        path.write_text(before, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the mutants, write the results, print which live."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="ID", help="Judge these mutants only.")
    parser.add_argument(
        "--check", action="store_true", help="Only say whether every mutant still applies."
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/mutants.json", help="Result file."
    )
    given = parser.parse_args(argv)
    mutants = read_list()
    unknown = set(given.only or ()) - {mutant.id for mutant in mutants}
    if unknown:
        parser.error(f"no mutant is called {sorted(unknown)}")
    chosen = [mutant for mutant in mutants if not given.only or mutant.id in given.only]
    if given.check:
        gone = [mutant.id for mutant in chosen if not mutant.applies(ROOT)]
        print(f"{len(chosen) - len(gone)} of {len(chosen)} mutants apply", *gone)
        return 1 if gone else 0
    found = json.loads(given.out.read_text("utf-8"))["mutants"] if given.out.is_file() else {}
    healthy: dict[tuple[str, ...], bool] = {}
    with tempfile.TemporaryDirectory(prefix="sgflux-mutants-") as folder:
        root = copy_of_the_repository(Path(folder))
        for number, mutant in enumerate(chosen, start=1):
            key = digest_of(root, mutant.tests)
            known = found.get(mutant.id, {})
            if known.get("of") == key and known.get("new") == mutant.new:
                outcome, seconds = known["outcome"], known["seconds"]
            else:
                started = time.monotonic()
                outcome = judge(mutant, root, healthy=healthy)
                seconds = round(time.monotonic() - started, 1)
            found[mutant.id] = {**asdict(mutant), "outcome": outcome, "seconds": seconds, "of": key}
            print(f"{number}/{len(chosen)}  {mutant.id}  {outcome}  {mutant.what}", flush=True)
            listed = {one.id: found[one.id] for one in mutants if one.id in found}
            counts = Counter(entry["outcome"] for entry in listed.values())
            write_json(given.out, {"counts": dict(counts), "mutants": listed})
    living = [mutant.id for mutant in chosen if found[mutant.id]["outcome"] != KILLED]
    print(f"{len(chosen) - len(living)} of {len(chosen)} killed; alive: {', '.join(living) or '–'}")
    return 1 if living else 0


if __name__ == "__main__":
    raise SystemExit(main())
