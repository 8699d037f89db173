"""Caches: nothing is encoded twice, nothing broken is used, disk and memory agree.

If one of these failed, training would read latents or text features of another picture, prompt,
size or encoder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.data.cache.arrays import TrainingArrays, latent_key, text_key
from sgflux.data.cache.encoding import Encoders as EncodersOf
from sgflux.data.cache.encoding import EncodingPlan, Share, name_features
from sgflux.data.cache.store import CacheStore
from sgflux.data.cache.tensor_rows import StoredRows, TensorRows
from sgflux.data.content import content_digest
from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.prompts import PROMPT_KINDS, true_prompt_for
from sgflux.errors import SgfluxError
from sgflux.graphs.names import names_in_context
from sgflux.settings.model_source import ModelSource
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from tests.helpers.arrays import prepare_training_arrays
from tests.helpers.rows import example, write_picture


@dataclass
class Encoders:
    """Deterministic stand-ins that count what they are asked for."""

    fail_after: int | None = None
    pictures: int = 0
    prompts: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.fail_after is not None and self.pictures >= self.fail_after:
            raise KeyboardInterrupt
        self.pictures += len(images)
        self.batches.append(len(images))
        level = images.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
        mean = level + torch.linspace(0, 1, 64).view(1, 16, 2, 2)
        return mean, mean.exp() / 3

    def text(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        self.prompts += prompts
        rows = [[float(len(prompt)), float(sum(map(ord, prompt)) % 97)] for prompt in prompts]
        pooled = torch.tensor(rows) / 7
        hidden = pooled[:, None, :].expand(-1, 5, -1) * torch.arange(5)[:, None]
        return {"hidden": hidden, "pooled": pooled}


def prepare(
    examples: Sequence[SceneExample],
    images_dir: Path,
    encoders: Encoders,
    store: CacheStore | None = None,
    **changes: Any,
) -> TrainingArrays:
    arguments: dict[str, Any] = {
        "images_dir": images_dir,
        "height": 8,
        "width": 8,
        "store": store,
        "encode_images": encoders.images,
        "encode_text": encoders.text,
        "encoder_identity": "vae-1",
        "text_identity": "t5-1",
        "max_sequence_length": 5,
        "batch_size": 2,
    }
    return prepare_training_arrays(examples, **{**arguments, **changes})


def assert_equal(first: TrainingArrays, second: TrainingArrays) -> None:
    assert first.examples == second.examples
    assert first.prompts == second.prompts
    assert torch.equal(first.image_index, second.image_index)
    assert torch.equal(first.prompt_index, second.prompt_index)
    for part in ("latents", "texts"):
        ours, theirs = everything(getattr(first, part)), everything(getattr(second, part))
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name


def everything(rows: TensorRows) -> dict[str, Tensor]:
    return rows.rows(torch.arange(len(rows)))


def hex_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> tuple[list[SceneExample], Path]:
    """Seven rows about five pictures, of which two files are the same."""
    root = tmp_path / "images"
    names = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    for seed, name in enumerate(names):
        write_picture(root / name, seed=seed)
    (root / "copy.png").write_bytes((root / "a.png").read_bytes())
    triples = ["man, on, box", "cup, on, box", "man, in, car", "dog, on, box", "man, on, box"]
    rows = [
        example(triple, meta={"image_rel_path": name})
        for triple, name in zip(
            [*triples, "box, below, man", "man, on, box"],
            [*names, "a.png", "copy.png"],
            strict=True,
        )
    ]
    return rows, root


def test_pictures_and_prompts_are_encoded_once_and_found_by_their_rows(data):
    rows, root = data
    encoders = Encoders()
    arrays = prepare(rows, root, encoders)
    assert encoders.pictures == 5
    assert max(encoders.batches) == 2
    assert len(encoders.prompts) == len(set(encoders.prompts)) == len(arrays.prompts)
    assert arrays.image_index.tolist() == [0, 1, 2, 3, 4, 0, 0]
    assert everything(arrays.latents)["mean"].shape == (5, 16, 2, 2)
    assert everything(arrays.texts)["hidden"].shape == (len(arrays.prompts), 5, 2)
    assert arrays.prompt_index.shape == (7, 4)
    for row, kinds in zip(rows, arrays.prompt_index.tolist(), strict=True):
        texts = [true_prompt_for(row, kind) for kind in PROMPT_KINDS]
        assert [arrays.prompts[index] for index in kinds] == texts


def test_batches_are_taken_by_row_and_kind(data):
    rows, root = data
    arrays = prepare(rows, root, Encoders())
    mean, std = arrays.posterior(torch.tensor([6, 2]))
    assert mean.dtype == std.dtype == torch.float32
    assert torch.equal(mean, arrays.latents.rows(torch.tensor([0, 2]))["mean"].float())
    text = arrays.text(torch.tensor([1, 1]), torch.tensor([1, 2]))
    wanted = [arrays.prompts.index(text) for text in ("a photo of cup and box", "")]
    expected = arrays.texts.rows(torch.tensor(wanted))
    assert torch.equal(text["hidden"], expected["hidden"])
    assert torch.equal(text["pooled"], expected["pooled"])


def test_disk_and_memory_give_the_same_values_and_a_full_store_needs_no_encoder(data, tmp_path):
    rows, root = data
    in_memory = prepare(rows, root, Encoders())
    assert_equal(in_memory, prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache")))
    silent = Encoders()
    assert_equal(in_memory, prepare(rows, root, silent, CacheStore(tmp_path / "cache")))
    assert silent.pictures == 0
    assert silent.prompts == []


def test_the_order_of_the_rows_does_not_matter_to_the_store(data, tmp_path):
    rows, root = data
    prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache", shard_entries=2))
    silent = Encoders()
    backwards = prepare(rows[::-1], root, silent, CacheStore(tmp_path / "cache"))
    assert silent.pictures == 0
    assert_equal(backwards, prepare(rows[::-1], root, Encoders()))


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_identity": "vae-2"},
        {"crop": "center"},
        {"height": 4},
        {"width": 4},
        {"crop": "union"},
    ],
)
def test_whatever_a_posterior_depends_on_makes_it_another_entry(data, tmp_path, change):
    rows = [example("man, on, box", boxes=[[0, 0, 4, 4], [2, 2, 4, 4]])]
    prepare(rows, data[1], Encoders(), CacheStore(tmp_path / "cache"))
    encoders = Encoders()
    prepare(rows, data[1], encoders, CacheStore(tmp_path / "cache"), **change)
    assert encoders.pictures == 1
    assert encoders.prompts == []


def test_keys_tell_apart_what_differs():
    def key(**changes: Any) -> str:
        base = {"crop": "none", "box": None, "height": 8, "width": 8, "identity": "i"}
        return latent_key(changes.pop("sha", "0"), **{**base, **changes})

    union = {"crop": "union", "box": (0, 0, 1, 1)}
    keys = [key(), key(sha="1"), key(height=9), key(width=9), key(identity="j"), key(**union)]
    keys += [key(**{**union, "box": (0, 0, 1, 2)}), key(crop="center")]
    keys += [text_key("i", max_sequence_length=n, identity=i) for n in (8, 9) for i in "ij"]
    assert len(set(keys)) == len(keys)
    assert key(**union) == key(**{**union, "box": (0.0, 0.0, 1.0, 1.0)})


def test_one_picture_with_two_union_crops_is_two_pictures(data):
    _, root = data
    rows = [example("man, on, box", boxes=[[0, 0, 2, 2], [0, 0, size, size]]) for size in (2, 6, 6)]
    arrays = prepare(rows, root, Encoders(), crop="union")
    assert arrays.image_index.tolist() == [0, 1, 1]
    with pytest.raises(SgfluxError, match=r"example 2 \(a\.png\) has no boxes"):
        prepare([rows[0], example()], root, Encoders(), crop="union")


def test_an_interrupted_run_resumes_where_its_last_shard_ended(data, tmp_path):
    rows, root = data
    store = CacheStore(tmp_path / "cache", shard_entries=2)
    with pytest.raises(KeyboardInterrupt):
        prepare(rows, root, Encoders(fail_after=4), store)
    assert len(store) == 4
    encoders = Encoders()
    arrays = prepare(rows, root, encoders, CacheStore(tmp_path / "cache"))
    assert encoders.pictures == 1
    assert_equal(arrays, prepare(rows, root, Encoders()))


def test_a_writer_killed_between_its_two_files_leaves_nothing_that_counts(data, tmp_path):
    rows, root = data
    folder = tmp_path / "cache"
    prepare(rows, root, Encoders(), CacheStore(folder))
    for index in folder.glob("shard-*.json"):
        index.unlink()
    (folder / ".shard-x.json.1.tmp").write_bytes(b"{")
    store = CacheStore(folder)
    assert len(store) == 0
    assert store.damaged == []
    encoders = Encoders()
    prepare(rows, root, encoders, store)
    assert encoders.pictures == 5


def content_of(index: Path) -> dict[str, Any]:
    return json.loads(index.read_bytes())["content"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def flip_silently(path: Path) -> None:
    """As a failing disk does it: the file's time stays."""
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def replace_by_foreign(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("safetensors", flip),
        ("safetensors", truncate),
        ("safetensors", replace_by_foreign),
        ("safetensors", remove),
        ("json", flip),
        ("json", truncate),
        ("json", replace_by_foreign),
    ],
)
def test_a_damaged_shard_is_named_and_only_its_entries_are_encoded_again(
    data, tmp_path, caplog, suffix, damage
):
    rows, root = data
    folder = tmp_path / "cache"
    expected = prepare(rows, root, Encoders())
    prepare(rows, root, Encoders(), CacheStore(folder, shard_entries=2))
    victim = next(
        path
        for path in sorted(folder.glob("*.json"))
        if set(content_of(path)["shapes"]) == {"mean", "std"} and len(content_of(path)["keys"]) == 2
    )
    damage(victim.with_suffix(f".{suffix}"))

    encoders = Encoders()
    store = CacheStore(folder)
    with caplog.at_level(logging.WARNING):
        arrays = prepare(rows, root, encoders, store)
    assert_equal(arrays, expected)
    assert encoders.pictures == 2
    assert encoders.prompts == []
    assert [shard.path for shard in store.damaged] == [victim]
    assert victim.name in caplog.text
    assert not victim.exists()

    again = CacheStore(folder)
    assert again.verify() == []
    silent = Encoders()
    assert_equal(prepare(rows, root, silent, again), expected)
    assert silent.pictures == 0


def test_an_index_with_other_keys_is_damaged_even_if_it_is_json(data, tmp_path):
    rows, root = data
    folder = tmp_path / "cache"
    prepare(rows, root, Encoders(), CacheStore(folder))
    for path in folder.glob("*.json"):
        index = json.loads(path.read_bytes())
        index["content"]["keys"] = index["content"]["keys"][::-1]
        path.write_text(json.dumps(index))
    store = CacheStore(folder)
    assert len(store) == 0
    assert all("checksum" in shard.reason for shard in store.damaged)


def test_a_damaged_shard_is_named_once(data, tmp_path, caplog):
    rows, root = data
    prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache"))
    truncate(next((tmp_path / "cache").glob("*.safetensors")))
    with caplog.at_level(logging.WARNING):
        store = CacheStore(tmp_path / "cache")
        store.refresh()
        assert len(store.verify()) == 1
    assert len(caplog.records) == 1


def test_verify_reads_everything_and_names_the_damaged(data, tmp_path):
    rows, root = data
    store = CacheStore(tmp_path / "cache", shard_entries=2)
    prepare(rows, root, Encoders(), store)
    assert store.verify() == []
    before = len(store)
    victim = sorted((tmp_path / "cache").glob("*.safetensors"))[0]
    flip_silently(victim)
    (damaged,) = store.verify()
    assert damaged.path == victim.with_suffix(".json")
    assert "checksum" in str(damaged)
    assert before - 2 <= len(store) < before
    assert [shard.path for shard in store.verify()] == [damaged.path]
    store.refresh()
    assert before - 2 <= len(store) < before


def test_a_copy_in_another_shard_replaces_a_damaged_one(tmp_path):
    first, second = CacheStore(tmp_path), CacheStore(tmp_path)
    key = hex_key("k")
    for store in (first, second):
        with store.writer() as writer:
            writer.add([key], {"mean": torch.ones(1, 2, dtype=torch.bfloat16)})
    reader = CacheStore(tmp_path)
    numbers, _ = reader.locate([key])
    flip_silently(reader.shard(int(numbers[0])).path)
    with pytest.raises(SgfluxError, match="set aside"):
        StoredRows(reader, [key]).rows(torch.tensor([0]))
    assert StoredRows(reader, [key]).rows(torch.tensor([0]))["mean"].tolist() == [[1.0, 1.0]]
    assert len(reader.damaged) == 1


def write_entries(folder: str, prefix: str) -> None:
    torch.set_num_threads(1)
    with CacheStore(folder, shard_entries=2).writer() as writer:
        for number in range(10):
            value = torch.full((1, 3), number, dtype=torch.bfloat16)
            writer.add([hex_key(f"{prefix}{number}")], {"mean": value})
            writer.add([hex_key(f"both{number}")], {"mean": value})


def test_two_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_entries, args=(str(tmp_path), prefix)) for prefix in "ab"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
        assert writer.exitcode == 0
    store = CacheStore(tmp_path)
    assert store.verify() == []
    values = {
        hex_key(f"{prefix}{number}"): float(number)
        for prefix in ("a", "b", "both")
        for number in range(10)
    }
    found = StoredRows(store, list(values)).rows(torch.arange(len(values)))["mean"]
    assert found[:, 0].tolist() == list(values.values())


def test_another_writers_shards_are_seen_after_a_refresh(tmp_path):
    reader, other = CacheStore(tmp_path), CacheStore(tmp_path)
    with other.writer() as writer:
        writer.add([hex_key("k")], {"mean": torch.ones(1, 2, dtype=torch.bfloat16)})
    assert hex_key("k") in other
    assert hex_key("k") not in reader
    reader.refresh()
    assert hex_key("k") in reader


def test_shards_are_bounded_by_entries_bytes_and_shapes(tmp_path):
    def shards(folder: str, *, limits: dict, sizes: Sequence[int]) -> int:
        with CacheStore(tmp_path / folder, **limits).writer() as writer:
            for number, size in enumerate(sizes):
                writer.add(
                    [hex_key(str(number))], {"mean": torch.zeros(1, size, dtype=torch.bfloat16)}
                )
        return len(list((tmp_path / folder).glob("*.safetensors")))

    assert shards("entries", limits={"shard_entries": 2}, sizes=[4] * 5) == 3
    assert shards("bytes", limits={"shard_bytes": 16}, sizes=[4] * 5) == 3
    assert shards("shapes", limits={}, sizes=[4, 4, 5, 5]) == 2


def test_the_picture_that_is_missing_or_broken_is_named_with_its_row(data):
    rows, root = data
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:60])
    with pytest.raises(SgfluxError, match=r"example 3 \(c\.png\): .*c\.png"):
        prepare(rows, root, Encoders())
    (root / "b.png").unlink()
    with pytest.raises(SgfluxError, match=r"example 2 \(b\.png\): .*b\.png.*No such file"):
        prepare(rows, root, Encoders())


def test_encoders_that_go_wrong_are_reported(data):
    rows, root = data

    def not_finite(images: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.full((len(images), 16, 2, 2), float("inf"))
        return mean, mean

    with pytest.raises(SgfluxError, match=r"'mean' that is not finite for '.*a\.png'"):
        prepare(rows, root, Encoders(), encode_images=not_finite)
    with pytest.raises(SgfluxError, match=r"gave 1 'mean' for 2 inputs"):
        prepare(rows, root, Encoders(), encode_images=lambda x: (x[:1], x[:1]))
    with pytest.raises(SgfluxError, match="gave 5 tokens a prompt where max_sequence_length is 6"):
        prepare(rows, root, Encoders(), max_sequence_length=6)


def test_an_identity_that_stayed_while_the_encoder_changed_is_reported(data, tmp_path):
    rows, root = data
    prepare(rows[:2], root, Encoders(), CacheStore(tmp_path / "cache"))

    def other(images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(images), 16, 4, 4), torch.zeros(len(images), 16, 4, 4)

    with pytest.raises(SgfluxError, match="under one encoder identity"):
        prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache"), encode_images=other)


def test_bad_settings_are_errors(data, tmp_path):
    rows, root = data
    for arguments, message in (
        ({"crop": "middle"}, "crop must be one of"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ):
        with pytest.raises(SgfluxError, match=message):
            prepare(rows, root, Encoders(), **arguments)
    with pytest.raises(SgfluxError, match="there is no example"):
        prepare([], root, Encoders())
    with pytest.raises(SgfluxError, match="at least 1"):
        CacheStore(tmp_path, shard_entries=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(SgfluxError, match="is no folder; give another"):
        CacheStore(tmp_path / "file")


def plan_of(rows: Sequence[SceneExample], root: Path) -> EncodingPlan:
    return EncodingPlan(
        rows,
        images_dir=root,
        height=8,
        width=8,
        encoder_identity="vae-1",
        text_identity="t5-1",
        max_sequence_length=5,
    )


def test_several_shares_together_encode_everything_once(data, tmp_path):
    rows, root = data
    expected = prepare(rows, root, Encoders())
    counted = Encoders()
    encoders = EncodersOf(images=counted.images, text=counted.text, batch_size=2)
    for index in range(3):
        plan = plan_of(rows, root)
        plan.fill(CacheStore(tmp_path / "cache"), encoders, share=Share(index=index, count=3))
    store = CacheStore(tmp_path / "cache")
    assert plan.missing(store) == 0
    assert counted.pictures == 5
    assert len(counted.prompts) == len(set(counted.prompts))
    assert_equal(plan.opened(store), expected)


def test_a_cache_that_lacks_a_share_is_refused_with_the_number(data, tmp_path):
    rows, root = data
    plan, store = plan_of(rows, root), CacheStore(tmp_path / "cache")
    with pytest.raises(SgfluxError, match=r"5 of 5 entries are not in the cache.*every --shard"):
        plan.opened(store)


def test_a_row_that_breaks_while_training_reads_it_is_named_and_set_aside(data, tmp_path):
    rows, root = data
    arrays = prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache"))
    (victim,) = [
        path
        for path in (tmp_path / "cache").glob("shard-*.json")
        if "mean" in content_of(path)["shapes"]
    ]
    flip_silently(victim.with_suffix(".safetensors"))
    with pytest.raises(SgfluxError, match=f"{victim.name}.*checksum.*set aside"):
        arrays.posterior(torch.arange(7))
    assert not victim.exists()
    encoders = Encoders()
    assert_equal(
        prepare(rows, root, encoders, CacheStore(tmp_path / "cache")),
        prepare(rows, root, Encoders()),
    )
    assert encoders.pictures == 5


def test_a_changed_picture_is_another_entry_and_so_is_its_mirror_image(data, tmp_path):
    rows, root = data
    prepare(rows, root, Encoders(), CacheStore(tmp_path / "cache"))
    write_picture(root / "b.png", seed=99)
    rows = [*rows, rows[2].with_meta(mirrored=True)]
    encoders = Encoders()
    arrays = prepare(rows, root, encoders, CacheStore(tmp_path / "cache"))
    assert encoders.pictures == 2
    assert_equal(arrays, prepare(rows, root, Encoders()))


def test_what_else_is_true_of_a_picture_counts_where_a_row_says_it():
    def digest(*known: list[str]) -> str:
        return content_digest([example(meta={"known_triples": list(known)})], ["picture"])

    before = "944f352c819982bfcc982717da50cd7efc02cd701fd870b66153fb9949cdfb75"
    assert digest() == content_digest([example()], ["picture"])
    assert content_digest([example()], ["p"]) == before, "of a run that is to go on"
    told = digest(["man", "holding", "horse"])
    assert len({digest(), told, digest(["man", "wearing", "hat"])}) == 3


def test_features_of_names_are_kept_in_float32(tmp_path):
    asked: list[str] = []

    def encode(names: Sequence[str]) -> Tensor:
        asked.extend(names)
        return torch.tensor([[len(name) + 1 / 3, 1.0] for name in names])

    def features(names: Sequence[str]) -> Tensor:
        return name_features(
            names, encode, store=CacheStore(tmp_path), max_sequence_length=8, identity="t5"
        )

    first = features(["man", "horse"])
    assert first.dtype == torch.float32
    assert torch.equal(features(["horse", "dog", "man"]), encode(["horse", "dog", "man"]))
    assert asked == ["man", "horse", "dog", "horse", "dog", "man"]


def test_a_statement_is_read_at_its_own_length_and_a_name_at_any(tmp_path):
    """T5 reads a statement padded to the length of prompts, and sees the padding."""
    source, store = ModelSource(model_id="tiny"), CacheStore(tmp_path)
    names = [*names_in_context("man", "riding", "horse"), "man"]
    encoders = {
        length: LazyEncoders(
            source, device=torch.device("cpu"), dtype="fp32", max_sequence_length=length
        )
        for length in (24, 32)
    }
    encoders[24].name_features(names, store)
    store.refresh()
    assert encoders[24].missing_names(names, store) == 0
    assert encoders[32].missing_names(names, store) == 3
    read = encoders[32].text.encode_names(names)
    assert torch.equal(encoders[32].name_features(names, store), read)
    assert not torch.equal(encoders[24].text.encode_names(names), read)


def encode_until_killed(folder: str, root: str, names: list[str]) -> None:
    """Kill this process, as the system would, while the third batch is being encoded."""
    torch.set_num_threads(1)
    encoders = Encoders()

    def images(batch: Tensor) -> tuple[Tensor, Tensor]:
        if encoders.pictures >= 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return encoders.images(batch)

    rows = [example(meta={"image_rel_path": name}) for name in names]
    store = CacheStore(folder, shard_entries=2)
    prepare(rows, Path(root), encoders, store, encode_images=images)


def test_a_process_killed_while_it_encodes_loses_no_finished_shard(data, tmp_path):
    _, root = data
    names = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    process = multiprocessing.get_context("spawn").Process(
        target=encode_until_killed, args=(str(tmp_path / "cache"), str(root), names)
    )
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    store = CacheStore(tmp_path / "cache")
    assert store.verify() == []
    assert len(store) == 4
    rows = [example(meta={"image_rel_path": name}) for name in names]
    encoders = Encoders()
    assert_equal(prepare(rows, root, encoders, store), prepare(rows, root, Encoders()))
    assert encoders.pictures == 1


# --- the default crop -----------------------------------------------------------------------------


def test_by_default_square_pictures_are_what_they_were_and_photographs_keep_their_shape(
    data, tmp_path
):
    rows, root = data
    boxed = [example("man, on, box", boxes=[[0, 0, 2, 2], [1, 1, 4, 4]])]
    # What is square needs no crop: a cache of whole pictures has it already, bit for bit.
    store = CacheStore(tmp_path / "cache")
    whole = prepare([*rows, *boxed], root, Encoders(), store, crop="none")
    encoders = Encoders()
    assert_equal(whole, prepare([*rows, *boxed], root, encoders, store))
    assert encoders.pictures == 0
    # A wide picture is cut, around its boxes if it has any, and shares the cache of that crop.
    write_picture(root / "wide.png", size=(24, 8))
    plain = example("man, on, box", meta={"image_rel_path": "wide.png"})
    near = example(
        "man, on, box", meta={"image_rel_path": "wide.png"}, boxes=[[18, 3, 2, 2], [19, 3, 2, 2]]
    )
    for row, crop in ((plain, "center"), (near, "union")):
        prepare([row], root, Encoders(), store, crop=crop)
        prepare([row], root, again := Encoders(), store)
        assert again.pictures == 0, crop
    arrays = prepare([plain, near], root, Encoders(), store)
    assert arrays.image_index.tolist() == [0, 1], "one file, two windows"


def test_a_plan_says_what_is_squashed_and_what_is_cut(data):
    rows, root = data
    write_picture(root / "wide.png", size=(24, 8))
    wide = example(
        "man, on, box", meta={"image_rel_path": "wide.png"}, boxes=[[0, 0, 2, 2], [20, 3, 2, 2]]
    )

    def line(crop: str, **more) -> str | None:
        return EncodingPlan(
            [*rows[:5], wide],
            images_dir=root,
            height=8,
            width=8,
            crop=crop,
            encoder_identity="i",
            text_identity="i",
            max_sequence_length=5,
            **more,
        ).shape_line()

    squashed = line("none")
    assert squashed is not None
    assert squashed.startswith("1 of 6 pictures are squashed to 8 x 8, by up to 3.00 times")
    cut = line("auto")
    assert cut is not None
    assert cut.startswith("of 1 of 6 pictures no window of 8 x 8 holds all objects")
    assert line("center") is None
    near = line("none", buckets=[(8, 8), (8, 16)])
    assert near is not None
    assert near.startswith(
        "1 of 6 pictures are squashed to the sizes of their buckets, by up to 1."
    )
    assert line("auto", buckets=[(8, 8), (8, 24)]) is None, "it is shown whole"


def test_a_bad_row_is_named_by_its_line_in_the_file(data, tmp_path):
    rows, root = data
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(one.to_json()) for one in rows[:3]]
    path.write_text("\n".join(["", lines[0], "", "", *lines[1:]]) + "\n")
    examples = read_examples(path)
    assert [one.line for one in examples] == [2, 5, 6]
    assert examples == rows[:3], "the line is no part of what a row says"
    (root / "b.png").unlink()
    with pytest.raises(SgfluxError, match=r"^line 5 \(b\.png\): .*data check` finds all such rows"):
        prepare(examples, root, Encoders())
    (root / "b.png").write_bytes(b"no picture")
    with pytest.raises(SgfluxError, match=r"^line 5 \(b\.png\): .*data check` finds all such rows"):
        prepare(examples, root, Encoders())
    # Boxes are no problem of the file's, so that the check would find nothing.
    write_picture(root / "b.png")
    with pytest.raises(SgfluxError, match=r"^line 2 \(a\.png\) has no boxes") as caught:
        prepare(examples, root, Encoders(), crop="union")
    assert "data check" not in str(caught.value)
