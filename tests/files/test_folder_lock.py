"""One writer a folder: the second is refused by name, and what a kill left is taken over.

If one of these failed, two processes would write into one folder, or a killed run would lock its
folder for ever.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.files.folder_lock import check_not_held, hold_folder, is_empty_folder, is_lock_file
from sgflux.world.dataset import write_world

HOLD = (
    "import sys, time; from sgflux.files.folder_lock import hold_folder\n"
    "with hold_folder(sys.argv[1], command='sgflux train'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


def start_holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def write_holder(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    own = psutil.Process()
    holder = {
        "command": "sgflux train",
        "process": os.getpid(),
        "host": os.uname().nodename,
        "process_started": own.create_time(),
        "since": "2026-11-28 01:33:00",
        "arguments": "sgflux train",
    }
    path = folder / ".sgflux.lock.json"
    path.write_text(json.dumps(holder | changes))
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_another_process_is_refused_by_name_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "vg"
    process = start_holder(folder)
    try:
        with (
            pytest.raises(SgfluxError) as refused,
            hold_folder(folder, command="sgflux eval"),
        ):
            pass
        with pytest.raises(SgfluxError, match="is being written by"):
            check_not_held(folder)
    finally:
        process.kill()
        process.wait()
    assert str(refused.value).startswith(
        f"{folder} is being written by `sgflux train` (process {process.pid} on "
        f"{os.uname().nodename}, since "
    )


def test_a_killed_holder_is_taken_over_and_said(tmp_path: Path) -> None:
    process = start_holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert files(tmp_path) == [".sgflux.lock", ".sgflux.lock.json"]
    assert is_empty_folder(tmp_path)
    check_not_held(tmp_path)
    said: list[str] = []
    with hold_folder(tmp_path, command="sgflux eval", say=said.append):
        pass
    (line,) = said
    assert f"process {process.pid} on " in line
    assert "no longer runs" in line
    assert files(tmp_path) == []


def test_a_process_number_that_is_used_again_is_no_holder(tmp_path: Path) -> None:
    """A live process with the number of the dead one, started at another time."""
    write_holder(tmp_path, process_started=psutil.Process().create_time() - 1000)
    said: list[str] = []
    with hold_folder(tmp_path, command="sgflux eval", say=said.append):
        pass
    assert "took over" in said[0]
    # With its own start time it is a holder, also where the system's lock says nothing (NFS).
    write_holder(tmp_path)
    with (
        pytest.raises(SgfluxError, match="is being written by"),
        hold_folder(tmp_path, command="sgflux eval"),
    ):
        pass


def test_another_host_is_refused_with_the_way_to_remove_its_lock(tmp_path: Path) -> None:
    path = write_holder(tmp_path, host="elsewhere", process=2**22 + 7)
    with (
        pytest.raises(SgfluxError, match=r"on elsewhere, since .* delete ") as refused,
        hold_folder(tmp_path, command="sgflux eval"),
    ):
        pass
    assert str(path) in str(refused.value)
    path.unlink()
    with hold_folder(tmp_path, command="sgflux eval"):
        pass


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[1]", b"null", b'{"process": 1e400}', b"\xff\xfe", b"[" * 50_000),
        json.dumps({"command": 1, "process": "x", "host": [], "since": 0}).encode(),
        json.dumps({"command": "c", "process": 2**70, "host": "h", "since": ""}).encode(),
    ],
)
def test_damaged_remains_are_taken_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".sgflux.lock.json").write_bytes(content)
    said: list[str] = []
    with hold_folder(tmp_path, command="sgflux eval", say=said.append):
        pass
    assert "an unknown process" in said[0]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_remains_are_taken_over_and_a_read_only_folder_is_named(tmp_path: Path) -> None:
    for name in (".sgflux.lock", ".sgflux.lock.json"):
        (tmp_path / name).touch(mode=0o400)
    with hold_folder(tmp_path, command="sgflux eval"):
        pass
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(SgfluxError, match="make the folder writable"),
            hold_folder(tmp_path, command="sgflux eval"),
        ):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_the_same_thread_may_hold_twice_another_may_not(tmp_path: Path) -> None:
    refusals: list[str] = []

    def other() -> None:
        try:
            with hold_folder(tmp_path, command="sgflux eval"):
                pass
        except SgfluxError as error:
            refusals.append(str(error))

    with hold_folder(tmp_path, command="sgflux demo"):
        with hold_folder(tmp_path, command="sgflux train"):
            pass
        check_not_held(tmp_path)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(refusals) == 1
        assert "another thread" in refusals[0]
    other()
    assert len(refusals) == 1


def test_parts_and_neighbours_do_not_exclude_each_other(tmp_path: Path) -> None:
    with (
        hold_folder(tmp_path / "cache", command="sgflux cache", part="part0of2"),
        hold_folder(tmp_path / "cache", command="sgflux cache", part="part1of2"),
        hold_folder(tmp_path / "world", command="sgflux data world", beside=True),
    ):
        assert not (tmp_path / "world").exists()
        assert all(is_lock_file(path) for path in tmp_path.rglob("*") if path.is_file())
    assert files(tmp_path) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(SgfluxError, match="bad data"),
        hold_folder(tmp_path / "a" / "b", command="sgflux train"),
    ):
        raise SgfluxError("bad data")
    assert files(tmp_path) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(SgfluxError, match="is no folder"),
        hold_folder(tmp_path / "file", command="sgflux train"),
    ):
        pass


def test_forty_at_once_never_overlap(tmp_path: Path) -> None:
    """Threads take turns at a folder that comes and goes; two inside at once would be seen."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(5):
            try:
                with hold_folder(tmp_path / "x", command="sgflux eval"):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.005)
                    inside.pop()
            except SgfluxError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most
    assert max(most) == 1


COMMANDS = {
    # What is typed, "{}" being the test's folder -> whether the lock stands beside {}/x.
    "data world --output-dir {}/x --train-per-class 1": True,
    "data vg --raw {} --output-dir {}/x --tag t": False,
    "cache {}/a --latent-cache-dir {}/x --device cpu --model-id tiny": False,
    "train --train-jsonl {}/a --output-dir {}/x --device cpu --model-id tiny": False,
    "train-classifier --train-jsonl {}/a --val-jsonl {}/a --output-dir {}/x --model-id tiny": True,
    "sample --adapter {}/bundle --graph a,on,b --output-dir {}/x": False,
    "saliency --image {}/a --graph a,on,b --output-dir {}/x --model-id tiny": False,
    "eval --data {}/a --output-dir {}/x --model-id tiny": False,
    "export --adapter {}/bundle --format kohya --output {}/x": True,
    "import --legacy {}/a --cgip-ckpt {}/a --vocab-path {}/a --model-id tiny "
    "--output-dir {}/x": True,
    "demo --output-dir {}/x": False,
    "world train-base --output-dir {}/x": False,
    "world measure-base --output {}/x": True,
    "world train-judge --output {}/x": True,
    "world measure-judge --output {}/x": True,
}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_writes_respects_a_holder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    part = "t" if line.startswith("data vg") else ""
    words = [word.format(tmp_path) for word in line.split()]
    (tmp_path / "a").touch()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/sgflux_adapter.json").write_text('{"format": 1}')
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(words)))
    with hold_folder(tmp_path / "x", command="sgflux other", beside=COMMANDS[line], part=part):
        thread.start()
        thread.join()
    assert statuses == [2]
    assert "x is being written by `sgflux other` (process" in capsys.readouterr().err


def train_words(folder: Path) -> list[str]:
    words = "-m sgflux train --model-id tiny --height 64 --width 64 --max-steps 1 --batch-size 1"
    return [
        *(sys.executable, *words.split(), "--device", "cpu", "--sample-steps", "0"),
        *("--train-jsonl", str(folder / "world/train.jsonl")),
        *("--output-dir", str(folder / "run")),
    ]


def test_of_two_trainings_into_one_folder_one_wins(tmp_path: Path) -> None:
    write_world(
        tmp_path / "world", train_per_class=1, val_per_class=0, test_per_class=0, triples="1"
    )
    both = [
        subprocess.Popen(train_words(tmp_path), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], errors
    (refused,) = [e for process, e in zip(both, errors, strict=True) if process.returncode == 2]
    assert "is being written by `sgflux train` (process" in refused or "is not empty" in refused
    assert (tmp_path / "run/final/sgflux_adapter.json").is_file()
    assert not [path for path in tmp_path.rglob("*") if is_lock_file(path)]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_place_where_nothing_can_be_written_is_not_taken_for_a_busy_one() -> None:
    with (
        pytest.raises(SgfluxError, match="cannot be written: no file can be made in '/proc'"),
        hold_folder(Path("/proc/sgflux"), command="sgflux data world", beside=True),
    ):
        pytest.fail("nothing can be written there")
