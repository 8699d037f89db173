"""What works on Linux alone: text in the system's own encoding, forked processes, POSIX calls.

Windows writes text in cp1252 unless it is told otherwise, cannot fork, and lacks some modules;
macOS and Python 3.14 do not fork by default, and a fork of a process with threads may hang.

If one of these failed, sgflux would fail on Windows or macOS where it works on Linux.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for folder in ("src", "scripts", "benchmarks", "findings")
    for path in (ROOT / folder).rglob("*.py")
)
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
POSIX_CALLS = {
    *("fork", "forkpty", "killpg", "setsid", "getuid", "geteuid", "kill", "mkfifo"),
    *("pread", "pwrite", "uname", "sysconf", "statvfs", "getloadavg", "nice", "chown"),
    *("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate"),
}


def faults(source: str, *, shipped: bool) -> Iterator[str]:
    """What a module does that other systems do not have; ``shipped``: it is part of the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) and shipped:
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if (module or "").split(".")[0] in POSIX_ONLY:
                yield f"{node.lineno}: imports {module}"
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        if name in ("read_text", "write_text", "open"):
            if _is_text(node, name) and "encoding" not in keywords:
                yield f"{node.lineno}: {name} without an encoding"
        elif name in POSIX_CALLS and owner == "os" and shipped:
            yield f"{node.lineno}: os.{name}"
        elif (
            (name == "get_context" and [ast.unparse(a) for a in node.args] != ["'spawn'"])
            or (name in ("Process", "Pool") and owner in ("multiprocessing", "mp"))
            or (name == "ProcessPoolExecutor" and "mp_context" not in keywords)
        ):
            yield f"{node.lineno}: processes that are not spawned"


def _is_text(node: ast.Call, name: str) -> bool:
    """Whether the call reads or writes text and has no encoding among its plain arguments."""
    values = [a.value for a in node.args if isinstance(a, ast.Constant)]
    if name == "read_text":
        return isinstance(node.func, ast.Attribute) and not node.args
    if name == "write_text":
        return isinstance(node.func, ast.Attribute) and len(node.args) == 1
    of_a_path = isinstance(node.func, ast.Attribute)
    modes = [v for v in values if isinstance(v, str) and v and set(v) <= set("rwaxbt+")]
    modes += [str(k.value.value) for k in node.keywords if k.arg == "mode"]  # type: ignore[attr-defined]
    return bool(modes or not of_a_path) and not any("b" in mode for mode in modes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_needs_linux(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    shipped = "src" in path.relative_to(ROOT).parts
    assert not list(faults(source, shipped=shipped))


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "path.write_text(text)",
        "path.open('w')",
        "open('a')",
        "import fcntl",
        "import os; os.kill(os.getpid(), 2)",
        "import os; os.pread(descriptor, 4, 0)",
        "import multiprocessing; multiprocessing.Pool(2)",
        "import multiprocessing; multiprocessing.get_context('fork')",
        "from concurrent.futures import ProcessPoolExecutor; ProcessPoolExecutor(2)",
    ],
)
def test_a_fault_is_found(source: str) -> None:
    assert list(faults(source, shipped=True))


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text('utf-8'); path.write_text(text, encoding='utf-8'); path.open('rb')",
        "folder.write_text(name, text); Image.open(path); log.open(folder, step=1)",
        "ProcessPoolExecutor(2, mp_context=get_context('spawn'))",
    ],
)
def test_what_works_everywhere_is_left_alone(source: str) -> None:
    assert not list(faults(source, shipped=True))
