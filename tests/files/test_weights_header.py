"""What is no whole file of weights is named before anything is loaded.

If one of these failed, a cut-off download would be loaded for minutes before an error that does
not name it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sgflux.errors import SgfluxError
from sgflux.files.weights_header import StoredTensor, read_header

TENSORS = {"a": torch.zeros(3, 4), "b.c": torch.zeros(5, dtype=torch.bfloat16)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path


def test_a_whole_file(weights: Path) -> None:
    found = read_header(weights)
    size = weights.stat().st_size
    assert found == {
        "a": StoredTensor("F32", (3, 4), start=size - 58, stop=size - 10),
        "b.c": StoredTensor("BF16", (5,), start=size - 10, stop=size),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><head>", "is a web page"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive"),
        (struct.pack("<Q", 50) + b"{", "ends within its header"),
        (struct.pack("<Q", 2**40) + b"{}", "is no .safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "damaged header"),
        (struct.pack("<Q", 2) + b"{]", "damaged header"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(SgfluxError, match=said) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_cut_off_anywhere_is_refused(weights: Path) -> None:
    whole = weights.read_bytes()
    for length in range(len(whole)):
        weights.write_bytes(whole[:length])
        with pytest.raises(SgfluxError, match="again"):
            read_header(weights)
    weights.write_bytes(whole + b"x")
    with pytest.raises(SgfluxError, match="1 bytes more"):
        read_header(weights)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match=r"gone\.safetensors: cannot be read"):
        read_header(tmp_path / "gone.safetensors")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    entry=VALUES | st.fixed_dictionaries({"dtype": VALUES, "shape": VALUES, "data_offsets": VALUES})
)
def test_any_header_is_read_or_refused(
    entry: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("header") / "w.safetensors"
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    said = None
    try:
        read_header(path)
    except SgfluxError as error:
        said = str(error)
    assert said is None or str(path) in said
