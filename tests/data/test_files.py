"""Pictures are ordinary files: whatever else stands under their name is refused, and at once.

If one of these failed, a folder, pipe or device under a picture's name would hang a run or end it
with a traceback.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sgflux.data.files import UnreadableFileError, expect_file
from sgflux.data.images import load_image, picture_sizes
from sgflux.data.pictures import picture_size, read_picture
from sgflux.errors import SgfluxError
from tests.helpers.rows import write_picture

READERS = (load_image, picture_size, read_picture)


@pytest.mark.parametrize("read", READERS)
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    for name in ("pipe.png", "link.png"):
        with pytest.raises(SgfluxError, match=f"{name}.*named pipe"):
            read(tmp_path / name)


@pytest.mark.parametrize("read", READERS)
def test_folders_and_nothing_are_named(tmp_path: Path, read) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "none")
    for name, what in (
        ("folder.png", "a folder"),
        ("dangling.png", "No such file"),
        ("none.png", "No such file"),
    ):
        with pytest.raises(UnreadableFileError, match=f"{name}.*{what}"):
            read(tmp_path / name)


def test_a_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        with pytest.raises(UnreadableFileError, match="a device or socket"):
            expect_file("s.png")


def test_links_to_files_are_files(tmp_path: Path) -> None:
    write_picture(tmp_path / "blob.png", size=(20, 10))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "blob.png")
    assert expect_file(tmp_path / "images" / "a.png").st_size > 0
    assert picture_sizes(["a.png"], tmp_path / "images") == {"a.png": (20, 10)}
