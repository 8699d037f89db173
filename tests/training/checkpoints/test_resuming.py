"""What a resumed run is compared with: content, not paths; and what may change on the way.

Broken, a run goes on with other pictures, another base or damaged weights, or refuses to go on
because its data have moved.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sgflux.data.seen_rows import row_digests
from sgflux.errors import SgfluxError
from sgflux.training.checkpoints.checkpoint import (
    AdapterWeights,
    CheckpointError,
    TrainingState,
    shallow_dict,
)
from sgflux.training.checkpoints.checksum import content_checksum
from sgflux.training.checkpoints.resuming import changed_settings
from sgflux.training.processes.processes import Processes
from sgflux.training.run.data import plan_data, read_data
from sgflux.training.run.train import TrainResult, train
from tests.helpers.rows import file_digests
from tests.helpers.training import MakeConfig, equal, training_state


@pytest.fixture(scope="module")
def finished(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(make_config(tmp_path_factory.mktemp("resuming") / "run", sample_steps=0))


@pytest.fixture
def half(finished: TrainResult, tmp_path: Path) -> Path:
    """A folder with the finished run's middle checkpoint alone."""
    folder = tmp_path / "half"
    folder.mkdir()
    shutil.copy(finished.output_dir / "step2.pt", folder)
    return folder


def of_before(path: Path) -> None:
    """Make a checkpoint what older versions wrote: no checksum, no content, no identity."""
    content = torch.load(path, weights_only=True)
    del content["checksum"], content["content"]
    del content["adapter"]["base"]["identity"]
    torch.save(content, path)


# --- paths are no settings ----------------------------------------------------------------------


def test_data_and_base_may_move_and_be_named_in_another_way(
    make_config: MakeConfig,
    flux: Path,
    scenes: Path,
    finished: TrainResult,
    half: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch, model = tmp_path / "scratch", tmp_path / "model"
    shutil.copytree(scenes, scratch)
    shutil.copytree(flux, model)
    monkeypatch.chdir(tmp_path)
    config = make_config(
        half,
        train_jsonl=Path("scratch/train.jsonl"),
        val_jsonl=Path("scratch/val.jsonl"),
        images_dir=scratch,
        model_id="./model",
        resume="auto",
        sample_steps=0,
    )
    result = train(config)
    states = [TrainingState.load(folder / "step4.pt") for folder in (finished.output_dir, half)]
    assert result.step == 4
    assert equal(states[0].trainable, states[1].trainable)


def test_a_run_that_squashed_nothing_goes_on_under_the_default_that_keeps_shapes(
    make_config: MakeConfig, scenes: Path, half: Path, tmp_path: Path
) -> None:
    """Older versions wrote the crop 'none' into every checkpoint."""
    path = half / "step2.pt"
    content = torch.load(path, weights_only=True)
    content["config"]["crop"] = "none"
    content["checksum"] = content_checksum({k: v for k, v in content.items() if k != "checksum"})
    torch.save(content, path)
    assert train(make_config(half, resume="auto", sample_steps=0)).step == 4
    (half / "step4.pt").unlink()
    # Where a picture is shown in another way, it is another run.
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    for picture in data.rglob("*.png"):
        Image.new("RGB", (64, 32)).save(picture)
    paths = {"train_jsonl": data / "train.jsonl", "val_jsonl": data / "val.jsonl"}
    with pytest.raises(SgfluxError, match="crop: 'none' in the checkpoint, 'auto' now"):
        train(make_config(half, **paths, resume=str(path)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_replaced_picture_is_another_data_set(
    make_config: MakeConfig, scenes: Path, half: Path, tmp_path: Path, split: str
) -> None:
    """Also one of the same name and size, under a JSONL that has not changed."""
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    for path in sorted(data.rglob(f"*{split}*/*.png")) or sorted(data.rglob("*.png")):
        with Image.open(path) as image:
            changed = image.convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        changed.save(path)
    paths = {"train_jsonl": data / "train.jsonl", "val_jsonl": data / "val.jsonl"}
    with pytest.raises(SgfluxError, match=r"rows or the bytes of their pictures have changed"):
        train(make_config(half, **paths, resume="auto"))
    assert [entry.name for entry in half.iterdir()] == ["step2.pt"]


def test_a_changed_row_is_another_data_set(
    make_config: MakeConfig, scenes: Path, half: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    path = data / "train.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[1:], lines[0]]))
    paths = {"train_jsonl": path, "val_jsonl": data / "val.jsonl"}
    with pytest.raises(SgfluxError, match="on other data: the training rows or the bytes"):
        train(make_config(half, **paths, resume="auto"))


def test_settings_and_paths_are_told_apart() -> None:
    old = {"lr": 0.1, "log_every": 1, "output_dir": "a", "seed": 0, "gone": 1, "max_steps": 4}
    new = {"lr": 0.2, "log_every": 2, "output_dir": "b", "seed": 0, "new": 1, "max_steps": 9}
    known = {"by_content": True, "by_identity": True}
    assert changed_settings(old, new, **known) == ["gone", "lr", "new"]
    old = {"model_id": "a", "images_dir": None, "train_jsonl": "a", "cgip_ckpt": None}
    new = {"model_id": "b", "images_dir": "b", "train_jsonl": "b", "cgip_ckpt": "b"}
    assert changed_settings(old, new, **known) == ["cgip_ckpt"]
    # What cannot be compared by content is compared by name.
    unknown = {"by_content": False, "by_identity": False}
    assert changed_settings(old, new, **unknown) == ["cgip_ckpt", "images_dir", "model_id"]
    old = {"losses": {"classifier": "a", "lambda_words": 1.0}}
    assert not changed_settings(old, {"losses": {**old["losses"], "classifier": "b"}}, **known)
    for change in ({"classifier": None}, {"lambda_words": 2.0}):
        assert changed_settings(old, {"losses": {**old["losses"], **change}}, **known)


def test_a_setting_that_a_checkpoint_cannot_know_has_its_default(
    make_config: MakeConfig, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise no run could be resumed after an update that brings a setting."""
    path = half / "step2.pt"
    content = torch.load(path, weights_only=True)
    for table, name in (
        (content["config"], "statement_power"),
        (content["config"]["prompt_mix"], "contradicting"),
        (content["config"]["losses"]["negatives"], "moved_twin"),
    ):
        del table[name]
    content["checksum"] = content_checksum({k: v for k, v in content.items() if k != "checksum"})
    torch.save(content, path)
    with pytest.raises(SgfluxError, match=r"statement_power: 0\.0 in the checkpoint, 1\.0 now"):
        train(make_config(half, statement_power=1.0, resume="auto"))
    assert train(make_config(half, resume="auto", sample_steps=0)).step == 4
    said = capsys.readouterr().out
    for name in ("statement_power", "prompt_mix.contradicting", "losses.negatives.moved_twin"):
        assert name in said
    assert "the run goes on with the defaults" in said


# --- the base -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2", "vae"])
def test_another_base_is_refused_unless_it_is_meant(
    make_config: MakeConfig,
    flux: Path,
    half: Path,
    tmp_path: Path,
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    shutil.copytree(flux, other)
    (path,) = (other / part).glob("*.safetensors")
    weights = load_file(path)
    # Not what the two layers of the old fingerprint see.
    name = next(key for key, v in weights.items() if v.ndim >= 2 and "block" in key)
    weights[name] = weights[name] + 0.1
    save_file(weights, path, metadata={"format": "pt"})
    changes = {"model_id": str(other), "resume": "auto", "sample_steps": 0}
    with pytest.raises(SgfluxError, match=rf"another base: {part} differs: run \w+, here \w+"):
        train(make_config(half, **changes))
    train(make_config(half, allow_other_base=True, **changes))
    assert f"{part} differs" in capsys.readouterr().out
    bundle_base = TrainingState.load(half / "step4.pt").adapter["base"]["identity"]
    assert bundle_base != TrainingState.load(half / "step2.pt").adapter["base"]["identity"]


def test_allowing_another_base_needs_something_that_was_trained_on_one(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(SgfluxError, match="allow_other_base has no effect without resume"):
        make_config(tmp_path / "run", allow_other_base=True)


# --- the length ---------------------------------------------------------------------------------


def test_a_step_keeps_its_passes_whoever_does_them(make_config: MakeConfig, half: Path) -> None:
    """Two processes with one pass each become one process with two; nothing else may change."""
    path = half / "step2.pt"
    content = torch.load(path, weights_only=True)
    content |= {"processes": 2, "passes": None}  # as older versions wrote it
    content["checksum"] = content_checksum({k: v for k, v in content.items() if k != "checksum"})
    torch.save(content, path)
    with pytest.raises(SgfluxError, match=r"gradient_accumulation_steps: 1 in the .*, 3 now"):
        train(make_config(half, resume="auto", gradient_accumulation_steps=3))
    for accumulation in (1, 2):
        again = {"resume": str(path), "gradient_accumulation_steps": accumulation}
        train(make_config(half, **again, sample_steps=0))
        state = TrainingState.load(half / "step4.pt")
        assert (state.processes, state.passes, state.position) == (1, 2, 4 * 2 * 2)
        (half / "step4.pt").unlink()


def test_a_finished_run_goes_on_with_more_steps(
    make_config: MakeConfig, finished: TrainResult, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.output_dir, folder)
    result = train(make_config(folder, max_steps=6, resume="auto", sample_steps=0))
    assert (result.step, result.max_steps) == (6, 6)
    assert "another length than before" in (folder / "training.log").read_text()
    before = AdapterWeights.load(finished.output_dir / "final_graph_lora_token.pt")
    after = AdapterWeights.load(folder / "final_graph_lora_token.pt")
    assert (before.step, after.step) == (4, 6)
    assert not equal(before.trainable, after.trainable)
    with pytest.raises(SgfluxError, match="has 6 steps behind it, more than the 5"):
        train(make_config(folder, max_steps=5, resume="auto"))


# --- damaged and older checkpoints --------------------------------------------------------------


def flipped(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy of nested content with one leaf changed."""
    if not path:
        if isinstance(value, torch.Tensor):
            changed = value.clone()
            changed.reshape(-1).view(torch.uint8)[0] ^= 1
            return changed
        return {True: False, False: True, None: 0}.get(value, 17) if value != 17 else 18
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[path[0]] = flipped(copy[path[0]], path[1:])
    return copy


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, Mapping):
        return [leaf for key, entry in value.items() for leaf in leaves(entry, (*path, key))]
    if isinstance(value, list | tuple):
        return [leaf for i, entry in enumerate(value) for leaf in leaves(entry, (*path, i))]
    if isinstance(value, torch.Tensor) and not value.numel():
        return []
    return [path]


def test_every_changed_value_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "step5.pt"
    training_state().save(path)
    content = torch.load(path, weights_only=True)
    found = leaves(content)
    assert len(found) > 25
    for leaf in found:
        torch.save(flipped(content, leaf), path)
        with pytest.raises(CheckpointError, match=r"step5\.pt: (is damaged|was writ)"):
            TrainingState.load(path)


def test_flipped_bits_of_the_file_never_change_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "step5.pt"
    state = training_state()
    state.save(path)
    good = path.read_bytes()
    taken = 0
    for place in range(0, len(good), max(1, len(good) // 80)):
        bad = bytearray(good)
        bad[place] ^= 0x10
        path.write_bytes(bad)
        try:
            again = TrainingState.load(path)
        except CheckpointError:
            continue
        taken += 1
        assert equal(again, state), place
    assert taken < 80  # some bytes are padding, most are not


def test_a_checksum_tells_types_and_places_apart() -> None:
    contents = [
        {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1.0, "b": 2}, {"a": "1", "b": 2},
        {"a": True, "b": 2}, {"a": [1, 2]}, {"a": (1, 2)}, {"a": [[1], 2]}, {"a": None},
        torch.zeros(2), torch.zeros(2, 1), torch.zeros(2).int(), torch.zeros(2).double(),
    ]  # fmt: skip
    assert len({content_checksum(content) for content in contents}) == len(contents)
    same = [content_checksum({"a": [1, torch.ones(2)]}) for _ in range(2)]
    assert same[0] == same[1]
    with pytest.raises(TypeError, match="a checkpoint cannot hold a"):
        content_checksum({"a": Path("a")})


def test_a_checkpoint_of_before_goes_on_with_warnings(
    make_config: MakeConfig,
    half: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of_before(half / "step2.pt")
    result = train(make_config(half, resume="auto", sample_steps=0))
    assert result.step == 4
    assert [entry.getMessage() for entry in caplog.records if "older" in entry.getMessage()] == [
        f"{half / 'step2.pt'}: was written by an older sgflux, without a checksum of its own: only "
        "the checksums of torch's zip file were compared"
    ]
    output = capsys.readouterr().out
    assert "base not verified: the run was saved without its base's identity" in output
    assert "whether the pictures are the same was not compared" in output


def test_an_older_checkpoint_still_knows_its_bases_outermost_layers(
    make_config: MakeConfig, flux: Path, half: Path, tmp_path: Path
) -> None:
    of_before(half / "step2.pt")
    with pytest.raises(SgfluxError, match=r"other settings \(model_id: "):
        train(make_config(half, model_id=str(shutil.copytree(flux, tmp_path / "b")), resume="auto"))
    content = torch.load(half / "step2.pt", weights_only=True)
    content["adapter"]["base"]["fingerprint"] = "0" * 64
    torch.save(content, half / "step2.pt")
    with pytest.raises(SgfluxError, match=r"another base: fingerprint is '0+' in the checkpoint"):
        train(make_config(half, resume="auto"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", "5"),
        ("step", True),
        ("trainable", None),
        ("trainable", {"lora.a": 1.0}),
        ("optimizer", []),
        ("rng", 0),
        ("config", None),
        ("data", 3),
        ("best", 7),
        ("best", {"step": 3}),
        ("confusion", 1.5),
        ("content", [1]),
    ],
)
def test_a_wrong_type_in_an_older_checkpoint_is_named(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "step5.pt"
    state = shallow_dict(training_state())
    state["best"] = shallow_dict(state["best"])
    torch.save({"format": 1, **state, name: value}, path)
    with pytest.raises(CheckpointError, match=rf"step5\.pt: is damaged: .* at `\$\.{name}"):
        TrainingState.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", {"state": {}, "param_groups": []}),
        ("optimizer", {"state": {}}),
        ("rng", torch.zeros(3, dtype=torch.uint8)),
        ("trainable", {}),
    ],
)
def test_a_damaged_inner_part_of_an_older_checkpoint_is_named(
    make_config: MakeConfig, half: Path, name: str, value: object
) -> None:
    of_before(half / "step2.pt")
    content = torch.load(half / "step2.pt", weights_only=True)
    torch.save({**content, name: value}, half / "step2.pt")
    with pytest.raises(CheckpointError, match=r"step2\.pt: (is damaged|the weights are)"):
        train(make_config(half, resume="auto"))


def test_what_a_killed_save_left_is_swept_and_named(
    make_config: MakeConfig, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [f".step4.pt.{'a' * 32}.tmp", f".config.json.{'b' * 32}.tmp"]
    for name in left:
        (half / name).write_bytes(b"0" * 4096)
    folder = half / f".final.{'c' * 32}.tmp"
    folder.mkdir()
    (folder / "README.md").write_text("half")
    train(make_config(half, resume="auto", sample_steps=0))
    assert not [entry for entry in half.iterdir() if entry.suffix == ".tmp"]
    output = capsys.readouterr().out
    assert all(name in output for name in (*left, folder.name))


def test_a_flipped_bit_in_a_checkpoint_of_before_is_named_by_torchs_own_checksums(
    half: Path,
) -> None:
    path = half / "step2.pt"
    of_before(path)
    weights = TrainingState.load(path).trainable
    value = max(weights.values(), key=torch.Tensor.numel)
    content = bytearray(path.read_bytes())
    place = bytes(content).find(value.contiguous().numpy().tobytes())
    assert place > 0
    content[place + 1] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: the checksum of its record"):
        TrainingState.load(path)


def test_the_digest_of_a_split_is_of_the_rows_that_were_parsed(
    make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    """The file may change while the run reads its other files."""
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    rows = data / "train.jsonl"
    first = json.loads(rows.read_text().splitlines()[0])
    first["triple"]["predicate"] = "an unheard-of word"
    first.pop("graph", None)
    with rows.open("a") as file:
        file.write(json.dumps(first) + "\n")
    parsed = rows.read_bytes()

    def say(line: str) -> None:
        if "an unheard-of word" in line:
            rows.write_bytes(parsed + b"\n")

    config = make_config(tmp_path / "run", train_jsonl=rows, images_dir=data)
    splits = read_data(config, say=say)
    assert rows.read_bytes() != parsed
    assert splits.digests["training"] == hashlib.sha256(parsed).hexdigest()


def test_what_a_bundle_calls_seen_are_the_pictures_that_were_encoded(
    make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    """Not those that are on the disk when the training ends."""
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    paths = {"train_jsonl": data / "train.jsonl", "val_jsonl": data / "val.jsonl"}
    config = make_config(tmp_path / "run", **paths)
    splits = read_data(config, say=print)
    expected = row_digests(splits.train, file_digests(splits.train, data))
    planned = plan_data(config, splits, processes=Processes.start("cpu"))
    for picture in data.rglob("*.png"):
        Image.new("RGB", (16, 16)).save(picture)
    assert set(planned.seen) == {"training", "validation"}
    for kind in ("rows", "pictures"):
        assert planned.seen["training"][kind].tolist() == expected[kind].tolist()
