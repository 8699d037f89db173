"""An index whose checksum is right and whose content is not: the shard does not count, that is all.

The checksum guards against accidents; anybody can write one.

If one of these failed, a damaged or forged index would make training read the wrong bytes, or end
it with a traceback.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.data.cache.shards import DamagedError, read_index
from sgflux.data.cache.store import CacheStore
from sgflux.data.cache.tensor_rows import StoredRows
from sgflux.errors import SgfluxError

KEY = "0" * 64
HEAD = '{"index_sha256": "%s", "content": '


def one_shard(folder: Path) -> Path:
    with CacheStore(folder).writer() as writer:
        writer.add([KEY], {"mean": torch.arange(6.0).view(1, 2, 3)})
    (index,) = folder.glob("shard-*.json")
    return index


def forge(index: Path, content: Any) -> None:
    body = json.dumps(content) + "}"
    index.write_text(HEAD % hashlib.sha256(body.encode()).hexdigest() + body)


def content_of(index: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(index.read_text())["content"]
    return content


def test_the_forgery_itself_is_no_reason(tmp_path: Path) -> None:
    index = one_shard(tmp_path)
    forge(index, content_of(index))
    assert KEY in CacheStore(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": [3]},
        {"keys": "0"},
        {"keys": []},
        {"keys": [KEY, KEY]},
        {"keys": ["0" * 62]},
        {"rows": "zz"},
        {"rows": 5},
        {"rows": ""},
        {"shapes": {}},
        {"shapes": {"mean": 5}},
        {"shapes": {"mean": [-1]}},
        {"shapes": {"mean": ["2", 3]}},
        {"shapes": {"mean": [2**62, 2**62]}},
        {"shapes": {"mean": [2, 3], "std": [2, 3]}},
        {"shapes": [1]},
        {"size": "1"},
        {"size": None},
        {"sha256": 5},
        {"format": []},
        {"more": 1},
    ],
)
def test_a_forged_index_is_named_and_its_entries_are_missing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    index = one_shard(tmp_path)
    forge(index, {**content_of(index), **changes})
    store = CacheStore(tmp_path)
    with pytest.raises(SgfluxError):
        StoredRows(store, [KEY]).rows(torch.tensor([0]))
    assert [shard.path for shard in store.damaged] == [index]


def test_a_forged_header_allocates_nothing(tmp_path: Path) -> None:
    index = one_shard(tmp_path)
    data = index.with_suffix(".safetensors")
    header = {"mean": {"dtype": "F32", "shape": [1, 2, 3], "data_offsets": [0, 2**60]}}
    text = json.dumps(header).encode()
    data.write_bytes(len(text).to_bytes(8, "little") + text)
    size, digest = data.stat().st_size, hashlib.sha256(data.read_bytes()).hexdigest()
    forge(index, {**content_of(index), "size": size, "sha256": digest})
    store = CacheStore(tmp_path)
    with pytest.raises(SgfluxError):
        StoredRows(store, [KEY]).rows(torch.tensor([0]))
    assert store.damaged


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_content_is_read_or_damaged(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = one_shard(tmp_path_factory.mktemp("cache"))
    content = content_of(index)
    name = data.draw(st.sampled_from([*sorted(content), "all"]))
    value = data.draw(VALUES)
    forge(index, value if name == "all" else {**content, name: value})
    try:
        shard = read_index(index)
        layout = shard.layout
    except DamagedError:
        return
    assert layout == [("mean", torch.float32, layout[0][2], 24)]
