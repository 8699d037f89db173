"""A base's identity covers all of its weights, and nothing but what its pictures depend on.

Broken, an adapter would run on another base without a word, or be refused on its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from sgflux.bases.digests import CACHE_VARIABLE, tensor_digest
from sgflux.bases.flux1 import files as base_files
from sgflux.bases.flux1.files import PARTS, identify_base
from sgflux.bases.identity import BaseIdentity, check_identity
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from tests.helpers.original_layout import make_transformer
from tests.helpers.single_files import (
    make_autoencoder,
    make_clip,
    make_t5,
    make_tokenizers,
    write_single_files,
)

WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}


@pytest.fixture
def copy(flux_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that may be changed."""
    return Path(shutil.copytree(flux_folder, tmp_path / "copy"))


def identity(folder: Path) -> BaseIdentity:
    return identify_base(ModelSource(model_id=str(folder)))


@pytest.mark.parametrize("part", WEIGHTS)
def test_one_number_of_any_weight_makes_another_part(
    flux_folder: Path, copy: Path, part: str
) -> None:
    path = copy / part / WEIGHTS[part]
    own = identity(flux_folder)
    weights = load_file(path)
    for name in sorted(weights)[:: max(1, len(weights) // 7)]:
        changed = {**weights, name: weights[name].clone()}
        changed[name].view(-1)[-1] += 1
        save_file(changed, path, metadata={"format": "pt"})
        assert own.difference(identity(copy)) == (part,), name


@pytest.mark.parametrize(
    ("part", "file", "change"),
    [
        ("transformer", "config.json", {"axes_dims_rope": [4, 2, 2]}),
        ("vae", "config.json", {"scaling_factor": 0.5}),
        ("vae", "config.json", {"shift_factor": 0.2}),
        ("text_encoder", "config.json", {"hidden_act": "gelu"}),
        ("text_encoder_2", "config.json", {"layer_norm_epsilon": 1e-3}),
        ("scheduler", "scheduler_config.json", {"shift": 3.5}),
        ("scheduler", "scheduler_config.json", {"use_dynamic_shifting": True}),
    ],
)
def test_a_setting_that_changes_pictures_makes_another_part(
    flux_folder: Path, copy: Path, part: str, file: str, change: dict[str, object]
) -> None:
    path = copy / part / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert identity(flux_folder).difference(identity(copy)) == (part,)


def test_what_changes_no_picture_changes_nothing(flux_folder: Path, copy: Path) -> None:
    for path, change in (
        ("transformer/config.json", {"_diffusers_version": "9"}),
        ("vae/config.json", {"sample_size": 4096, "act_fn": "silu"}),
        ("scheduler/scheduler_config.json", {"max_shift": 9.0, "invert_sigmas": False}),
    ):
        settings = json.loads((copy / path).read_text())
        (copy / path).write_text(json.dumps({**settings, **change}))
    save_file({"a": torch.ones(1)}, copy / "vae" / "other.safetensors")
    assert identity(copy) == identity(flux_folder)


def test_a_tokenizer_is_its_words_and_not_its_files(flux_folder: Path, copy: Path) -> None:
    path = copy / "tokenizer_2" / "tokenizer.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, indent=4))
    assert identity(copy) == identity(flux_folder)
    text = path.read_text()
    path.write_text(text.replace('"riding"', '"!"').replace('"wearing"', '"riding"'))
    assert identity(flux_folder).difference(identity(copy)) == ("tokenizer_2",)


def test_shards_links_and_precision_are_the_same_base(flux_folder: Path, tmp_path: Path) -> None:
    own = identity(flux_folder)
    sharded = tmp_path / "sharded"
    shutil.copytree(flux_folder, sharded)
    for part, model in (("transformer", FluxTransformer2DModel), ("vae", AutoencoderKL)):
        shutil.rmtree(sharded / part)
        model.from_pretrained(flux_folder / part).save_pretrained(
            sharded / part, max_shard_size="50KB"
        )
        assert len(list((sharded / part).glob("*.safetensors"))) > 1
    shutil.rmtree(sharded / "text_encoder_2")
    T5EncoderModel.from_pretrained(flux_folder / "text_encoder_2").save_pretrained(
        sharded / "text_encoder_2", max_shard_size="5KB"
    )
    assert len(list((sharded / "text_encoder_2").glob("*.safetensors"))) > 1
    assert identity(sharded) == own

    linked = tmp_path / "linked"
    for path in flux_folder.rglob("*"):
        if path.is_file():
            target = linked / path.relative_to(flux_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    assert identity(linked) == own

    pickled = tmp_path / "pickled"
    shutil.copytree(flux_folder, pickled)
    path = pickled / "transformer" / WEIGHTS["transformer"]
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    assert identity(pickled) == own

    # bf16 fits into float32; the other way round something is lost.
    rounded, wide = tmp_path / "rounded", tmp_path / "wide"
    for target, dtypes in ((rounded, (torch.bfloat16,)), (wide, (torch.bfloat16, torch.float32))):
        shutil.copytree(flux_folder, target)
        weights = load_file(target / "vae" / WEIGHTS["vae"])
        for dtype in dtypes:
            weights = {name: value.to(dtype) for name, value in weights.items()}
        save_file(weights, target / "vae" / WEIGHTS["vae"], metadata={"format": "pt"})
    assert identity(rounded) == identity(wide)
    assert own.difference(identity(rounded)) == ("vae",)


@pytest.mark.parametrize("is_dev", [False, True])
def test_single_files_are_the_base_that_they_were_made_of(tmp_path: Path, is_dev: bool) -> None:
    files = write_single_files(tmp_path / "files", guidance_embeds=is_dev)
    tokenizer, tokenizer_2 = make_tokenizers()
    dynamic = {"use_dynamic_shifting": True, "shift": 3.0} if is_dev else {}
    FluxPipeline(
        transformer=make_transformer(guidance_embeds=is_dev, pooled_projection_dim=64),
        vae=make_autoencoder(),
        text_encoder=make_clip(len(tokenizer), tokenizer.eos_token_id),
        text_encoder_2=make_t5(len(tokenizer_2)).half(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        scheduler=FlowMatchEulerDiscreteScheduler(**dynamic),
    ).save_pretrained(tmp_path / "folder")
    apart = identify_base(ModelSource(**files.flags()))
    assert apart.difference(identity(tmp_path / "folder")) == ()
    weights = load_file(files.transformer)
    weights["double_blocks.1.img_attn.qkv.weight"][3, 5] += 1
    save_file(weights, files.transformer)
    assert apart.difference(identify_base(ModelSource(**files.flags()))) == ("transformer",)


def test_values_are_hashed_exactly_whatever_holds_them() -> None:
    values = torch.randn(3, 4).bfloat16()
    assert tensor_digest(values) == tensor_digest(values.float()) == tensor_digest(values.double())
    assert tensor_digest(values.t()) == tensor_digest(values.t().contiguous())
    others = [values.reshape(4, 3), values + 1, values.float() + 1e-6, torch.zeros(3, 4)]
    assert len({tensor_digest(value) for value in (values, *others)}) == 5
    for odd in (torch.tensor(1.5), torch.zeros(0), torch.tensor([float("nan")]), torch.arange(3)):
        assert len(tensor_digest(odd)) == 64


# --- the memory of digests ----------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many parts' weights have been read."""
    calls: list[str] = []
    own = base_files._part_digest

    def part_digest(part: str, *rest: object) -> str:
        calls.append(part)
        return own(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(base_files, "_part_digest", part_digest)
    return lambda: len(calls)


def settled(folder: Path, *, seconds: float) -> None:
    """Make all files so much older than they are."""
    for path in folder.rglob("*"):
        time = path.stat().st_mtime - seconds
        os.utime(path, (time, time))


def test_weights_are_read_once_and_again_when_a_file_changes(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], int]
) -> None:
    memory = tmp_path / "memory" / "digests.json"
    monkeypatch.setenv(CACHE_VARIABLE, str(memory))
    settled(copy, seconds=60)
    own = identity(copy)
    assert (identity(copy), counted()) == (own, 4)
    # The same size, another value, and the old time put back: the inode's time tells.
    path = copy / "vae" / WEIGHTS["vae"]
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert own.difference(identity(copy)) == ("vae",)
    assert counted() == 5
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    identity(copy)
    assert counted() == 9
    # A damaged memory is none, and so is one that cannot be written.
    memory.write_text('{"a": 1}')
    monkeypatch.setenv(CACHE_VARIABLE, str(memory))
    assert own.difference(identity(copy)) == ("vae",)
    monkeypatch.setenv(CACHE_VARIABLE, str(memory / "below"))
    assert own.difference(identity(copy)) == ("vae",)


def test_a_file_written_just_now_is_not_remembered(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], int]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "digests.json"))
    settled(copy, seconds=60)
    # A busy machine may take longer from a touch to the look than a file counts as young.
    settled(copy / "vae", seconds=-3600)
    identity(copy)
    identity(copy)
    assert counted() == 5


# --- what is said -------------------------------------------------------------------------------


def some_identity(**parts: str) -> BaseIdentity:
    return BaseIdentity({**dict.fromkeys(PARTS, "a" * 64), **parts})


def test_a_difference_names_both_sides_of_each_part() -> None:
    one = some_identity()
    other = some_identity(text_encoder_2="b" * 64, vae="c" * 64)
    assert one.difference(other) == ("text_encoder_2", "vae")
    with pytest.raises(SgfluxError) as error:
        check_identity(one, other)
    for said in (
        "text_encoder_2 differs: adapter aaaaaaaaaaaa, here bbbbbbbbbbbb",
        "vae differs: adapter aaaaaaaaaaaa, here cccccccccccc",
        "--allow-other-base",
    ):
        assert said in str(error.value)
    allowed = check_identity(one, other, allow_other=True)
    assert (allowed.status, allowed.difference) == ("other", ("text_encoder_2", "vae"))
    assert "vae differs" in allowed.text
    assert check_identity(one, some_identity()).status == "same"
    for known in ((None, one), (one, None)):
        unknown = check_identity(*known)
        assert unknown.status == "unverified"
        assert unknown.text.startswith("base not verified")


def test_an_identity_survives_json_and_a_damaged_one_is_named() -> None:
    one = some_identity(vae="0" * 64)
    assert BaseIdentity.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.fingerprint != some_identity().fingerprint
    for damaged, said in (
        (None, "table of digests"),
        ({}, "SHA-256 for transformer"),
        ({**one.to_json(), "vae": 3}, "SHA-256 for vae, got 3"),
        ({**one.to_json(), "vae": "abc"}, "SHA-256 for vae, got 'abc'"),
    ):
        with pytest.raises(SgfluxError, match=said):
            BaseIdentity.from_json(damaged)


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("vae/config.json", b"{", r"vae/config\.json: not JSON"),
        ("vae/config.json", b"[]", r"vae/config\.json: must hold one JSON object"),
        ("vae/config.json", None, r"vae/config\.json' cannot be read"),
        ("vae/diffusion_pytorch_model.safetensors", b"short", "cannot be read"),
        ("vae/diffusion_pytorch_model.safetensors", None, "has no weights: none of"),
        ("vae/diffusion_pytorch_model.safetensors.index.json", b"{}", "is no index of shards"),
        (
            "vae/diffusion_pytorch_model.safetensors.index.json",
            b'{"weight_map": {"a": "gone.safetensors"}}',
            r"gone\.safetensors' cannot be read",
        ),
        ("tokenizer/tokenizer.json", b"{", "tokenizer of .* cannot be loaded"),
    ],
)
def test_a_damaged_part_is_named(copy: Path, path: str, content: bytes | None, said: str) -> None:
    (copy / path).unlink(missing_ok=True)
    if content is not None:
        (copy / path).write_bytes(content)
    with pytest.raises(SgfluxError, match=said):
        identity(copy)
