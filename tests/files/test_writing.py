"""Full disks: one line that names the file and the room, and nothing half-written is left.

Three ways to have a disk without room: a write that raises ``ENOSPC``, a process whose files may
not grow (``RLIMIT_FSIZE``, every write is real and fails with ``EFBIG``), and ``/dev/full``.

If one of these failed, a full disk would leave half a file under its final name, or end a run
with a traceback.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from sgflux.bases.hub import why_not_loaded
from sgflux.errors import SgfluxError
from sgflux.files.writing import (
    WriteError,
    disk_error,
    make_folder,
    naming_disk_errors,
    readable_size,
    replace_file,
    replacing,
)
from sgflux.terminal.endings import exit_status
from tests.helpers.writers import WRITERS

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write to a binary file that is opened from now on finds no room."""

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open

    def open_(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = opened(self, mode, *args, **kwargs)
        if "b" in mode and mode != "rb" and isinstance(file, io.BufferedWriter):
            return Full(file.detach())
        return file

    monkeypatch.setattr(Path, "open", open_)


def test_a_replaced_file_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace_file(path, "old")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        interrupted()
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.usefixtures("full_disk")
def test_the_message_says_what_where_and_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgflux.files.writing.free_bytes", lambda _: 1_250_000)
    with pytest.raises(WriteError) as caught:
        replace_file(tmp_path / "weights", bytes(3_000_000))
    assert str(caught.value) == (
        f"{tmp_path / 'weights'}: cannot be written: the disk is full, 1.2 MB are free and 3.0 MB "
        "are needed, 1.8 MB are missing; free some, or give a folder on another disk"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("full_disk")
def test_torchs_own_error_hides_a_full_disk(tmp_path: Path) -> None:
    """torch.save says "unexpected pos 704 vs 598"."""
    path = tmp_path / "step1.pt"
    with pytest.raises(WriteError, match="the disk is full") as caught, replacing(path) as file:
        torch.save({"weight": torch.zeros(1000)}, file)
    assert "step1.pt: cannot be written" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_safetensors_hides_the_number_in_its_text(tmp_path: Path) -> None:
    error = SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
    assert getattr(disk_error(error), "errno", None) == errno.ENOSPC
    wanted = pytest.raises(WriteError, match=r"x: cannot be written: the disk is full")
    with wanted, naming_disk_errors(tmp_path / "x"):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), naming_disk_errors(tmp_path):
        raise KeyError("x")
    with pytest.raises(FileNotFoundError), naming_disk_errors(tmp_path / "out"):
        (tmp_path / "in" / "missing").read_bytes()
    assert disk_error(ValueError("no")) is None


def test_an_inner_error_is_told_of_the_outer_folder(tmp_path: Path) -> None:
    """The hidden folder that will be renamed means nothing to a reader."""
    hidden = tmp_path / ".final.1234.tmp"
    outer = naming_disk_errors(tmp_path / "final")
    with pytest.raises(WriteError) as caught, outer, naming_disk_errors(hidden, size=10**18):
        raise FULL
    assert str(caught.value).startswith(f"{tmp_path / 'final'}: cannot be written")
    assert "1000000.0 TB are needed" in str(caught.value)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file is no folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(WriteError, match=r"file/below: cannot be written: Not a directory"):
        make_folder(tmp_path / "file" / "below")


def test_sizes_are_readable() -> None:
    sizes = {0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 999_960: "1.0 MB", 24e9: "24.0 GB"}
    assert {size: readable_size(int(size)) for size in sizes} == sizes


def test_the_hubs_cache_is_full() -> None:
    error = OSError("An error happened while downloading")
    error.__cause__ = FULL
    assert "the disk is full" in why_not_loaded(error, "a/b", allow_download=True)


@pytest.mark.parametrize(
    "error", [FULL, RuntimeError("broken"), SafetensorError("I/O error (os error 28)")]
)
def test_the_last_net(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output, a library's cache: no traceback there either."""

    def run() -> int:
        try:
            raise FULL
        except OSError:
            raise error from None if error is FULL else FULL

    assert exit_status(run) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: a file cannot be written: ")
    assert text.count("\n") == 1


def test_a_defect_keeps_its_traceback() -> None:
    def run() -> int:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        exit_status(run)


# --- every write is real, and fails -------------------------------------------------------------


_PROGRAM = """
import resource, sys
from pathlib import Path
from sgflux.errors import SgfluxError
from tests.helpers.writers import WRITERS
for name, (write, file) in WRITERS.items():
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        write(folder)
        print(name, "wrote it")
    except SgfluxError as error:
        print(name, error)
    except BaseException as error:
        print(name, "TRACEBACK", repr(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_no_writer_ends_in_a_traceback_or_leaves_a_part(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**environment, "PYTHONPATH": f"{root / 'src'}:{root}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    said = {words[0]: words[1] for words in lines if words[0] in WRITERS}
    for name, (_, file) in WRITERS.items():
        assert "the system allows no file that large here" in said[name], (name, said[name])
        assert said[name].split(": cannot be written")[0].rpartition("/")[2].startswith(file)
        if name not in ("log", "board"):  # these grow line by line
            assert not [path for path in (tmp_path / name).rglob("*") if path.is_file()], name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["data", "check", "rows.jsonl"]])
def test_standard_output_is_full(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sgflux", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: a file cannot be written: No space left on device")
    assert done.stderr.count("\n") == 1


def test_the_limit_is_not_ours() -> None:
    """The limit above must not stay on this process."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    assert issubclass(WriteError, SgfluxError)
