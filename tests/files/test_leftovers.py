"""What a kill leaves is removed by the next writer, and a bundle never lacks its name.

Broken, killed runs fill the disk with files as large as checkpoints, and a kill while a bundle is
replaced loses both the old and the new one.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from sgflux.files import leftovers
from sgflux.files.folder_lock import hold_folder
from sgflux.files.leftovers import outdated, replace_folder, sweep


def left(name: str, ending: str = "tmp") -> str:
    return f".{name}.{uuid.uuid4().hex}.{ending}"


def make_folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "weights").write_text(text)
    return path


def test_the_next_holder_of_a_folder_removes_and_names_what_is_left(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / left("step20.pt")).write_bytes(b"0" * 2000)
    make_folder(run / left("final"), "half")
    (run / f".data.partial-{uuid.uuid4().hex}").mkdir()
    kept = ["step10.pt", ".hidden", ".git", ".step.tmp", f".{uuid.uuid4().hex}.tmp.txt"]
    for name in kept:
        (run / name).write_text("mine")
    said: list[str] = []
    with hold_folder(run, command="a test", say=said.append):
        pass
    assert sorted(entry.name for entry in run.iterdir()) == sorted(kept)
    assert len(said) == 3
    assert any("step20.pt" in line and "2.0 kB" in line and "removed" in line for line in said)


def test_beside_a_target_only_its_own_remains_are_removed(tmp_path: Path) -> None:
    mine, others = tmp_path / left("out"), tmp_path / left("other")
    mine.mkdir()
    others.mkdir()
    said: list[str] = []
    with hold_folder(tmp_path / "out", command="a test", beside=True, say=said.append):
        pass
    assert not mine.exists()
    assert others.exists()
    assert len(said) == 1


def test_in_a_part_and_in_a_young_cache_others_may_be_writing(tmp_path: Path) -> None:
    (tmp_path / "shard-1.json").write_text("{}")
    young, old = tmp_path / left("shard-2.safetensors"), tmp_path / left("shard-3.safetensors")
    young.write_text("")
    old.write_text("")
    with hold_folder(tmp_path, command="a test", part="part0of2"):
        assert young.exists()
        assert old.exists()
    before = time.time() - 2 * 86_400
    os.utime(old, (before, before))
    with hold_folder(tmp_path, command="a test"):
        assert young.exists()
        assert not old.exists()


def test_a_replacement_that_was_cut_short_is_found_and_put_back(tmp_path: Path) -> None:
    target = tmp_path / "final"
    old = make_folder(tmp_path / left("final", "old"), "old")
    make_folder(tmp_path / left("final"), "new, half")
    assert outdated(target) == old
    lines = sweep(tmp_path)
    assert (target / "weights").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["final"]
    assert any("put back" in line for line in lines)
    # With the new one in place, the old one is only left over.
    make_folder(tmp_path / left("final", "old"), "older")
    assert outdated(target) is None
    sweep(target.parent, only=target.name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["final"]
    assert (target / "weights").read_text() == "old"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(leftovers, "_exchange", lambda *_: False)
    target = tmp_path / "final"
    for text in ("first", "second", "third"):
        replace_folder(make_folder(tmp_path / left("final"), text), target)
        assert (target / "weights").read_text() == text
        assert [entry.name for entry in tmp_path.iterdir()] == ["final"]


def test_no_moment_is_without_a_folder_under_the_name(tmp_path: Path) -> None:
    target = make_folder(tmp_path / "final", "0")
    probe = make_folder(tmp_path / "probe", "1")
    if not leftovers._exchange(target, probe):
        pytest.skip("this file system cannot exchange two names at once")
    missing: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not target.is_dir():
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(300):
        replace_folder(make_folder(tmp_path / left("final"), str(number)), target)
    done.set()
    watcher.join()
    assert not missing


def _replace_for_ever(folder: str, is_ready: object) -> None:
    leftovers._exchange = lambda *_: False  # type: ignore[assignment]
    number = 0
    while True:
        temporary = make_folder(Path(folder) / left("final"), str(number))
        replace_folder(temporary, Path(folder) / "final")
        number += 1
        is_ready.set()  # type: ignore[attr-defined]


def test_a_kill_at_any_moment_leaves_a_whole_folder_to_be_found(tmp_path: Path) -> None:
    """Also where names cannot be exchanged."""
    context = multiprocessing.get_context("spawn")
    for trial in range(3):
        is_ready = context.Event()
        process = context.Process(target=_replace_for_ever, args=(str(tmp_path), is_ready))
        process.start()
        assert is_ready.wait(60)
        time.sleep(0.01 + 0.007 * trial)
        process.kill()
        process.join()
        target = tmp_path / "final"
        found = target if target.exists() else outdated(target)
        assert found is not None
        assert (found / "weights").read_text().isdigit()
        sweep(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["final"]
