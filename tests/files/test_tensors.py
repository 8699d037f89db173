"""Foreign .pt files: tensors and plain containers, of the size that the file really stores.

If one of these failed, a foreign checkpoint would run code, or fill the memory with a tensor that
its file does not store.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sgflux.errors import SgfluxError
from sgflux.files.tensors import read_tensors, read_torch_file


def nested(depth: int) -> dict[str, Any]:
    content: dict[str, Any] = {"a": torch.zeros(1)}
    for _ in range(depth):
        content = {"inner": content}
    return content


def test_plain_content_is_read(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save(
        {"a": whole, "view": whole[::2], "list": [torch.ones(2).bfloat16(), "x"]}, tmp_path / "a"
    )
    assert torch.equal(read_torch_file(tmp_path / "a")["view"], whole[::2])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": torch.zeros(1).expand(10**12)}, r"\(1000000000000,\), of which the file stores 4 b"),
        ({"state_dict": [{"a": torch.zeros(2, 1).expand(2, 10**9)}]}, "stores 8 bytes only"),
        ({"a": torch.eye(3).to_sparse()}, "sparse"),
        (nested(100), "deeper than 32 levels"),
    ],
)
def test_what_would_fill_the_memory_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(SgfluxError, match=said) as caught:
        read_torch_file(tmp_path / "a.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.pt'}: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<html><body>Log in", "is a web page"),
        (b"PK\x03\x04 cut off", "is no checkpoint"),
        (b"nonsense", "torch.save did not write it"),
        (pickle.dumps(Path("a")), "it holds more than tensors"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(SgfluxError, match=said) as caught:
        read_torch_file(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value), "torch advises to run what is in the file"


def test_weights_that_are_cut_off_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(100.0)}, path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SgfluxError, match=r"a\.safetensors: ends within its header.*download"):
        read_tensors(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(10.0)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(SgfluxError, match=str(path)):
            read_torch_file(path)
