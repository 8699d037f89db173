"""Broken bases are refused in one line that names the file, before anything is loaded.

If one of these failed, a damaged or mismatched base would load with random weights, or end in a
library's traceback.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer, T5TokenizerFast

from sgflux.bases.flux1.check import check_input_channels, check_model
from sgflux.bases.flux1.load import load_text_encoders
from sgflux.bases.hub import resolve_model_id
from sgflux.bases.memory.quantization import check_libraries
from sgflux.bases.tokenizers import check_tokenizer
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource

TINY = Path(resolve_model_id("tiny"))


def links(source: str, target: str) -> None:
    Path(target).symlink_to(source)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """tiny-flux, whose files a test may replace."""
    shutil.copytree(TINY, tmp_path / "base", copy_function=links)
    return tmp_path / "base"


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def change(path: Path, **settings_: Any) -> None:
    content = json.loads(path.read_bytes())
    content.update(settings_)
    put(path, json.dumps(content).encode())


def refused(base: Path) -> str:
    with pytest.raises(SgfluxError) as caught:
        check_model(ModelSource(model_id=str(base)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_base() -> None:
    report = check_model(ModelSource(model_id="tiny"))
    (line,) = report.lines
    assert line.startswith("tiny: configuration, tokenizers and the headers of 19.7 MB of weights")
    assert report.unreadable is not None
    assert [name for name, _ in report.unreadable(["horse", " "], None)] == [" "]


WEIGHTS = (
    "transformer/diffusion_pytorch_model",
    "vae/diffusion_pytorch_model",
    "text_encoder/model",
    "text_encoder_2/model",
)


@pytest.mark.parametrize("stem", WEIGHTS)
@pytest.mark.parametrize("how", ["cut off", "pointer", "missing", "variant", "another", "fewer"])
def test_weights(base: Path, stem: str, how: str) -> None:
    path = base / f"{stem}.safetensors"
    whole = path.read_bytes()
    if how == "cut off":
        put(path, whole[:200_000])
        assert f"{path}: has 200.0 kB of the" in refused(base)
    elif how == "pointer":
        put(path, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        assert f"{path}: is a git-lfs pointer" in refused(base)
    elif how == "missing":
        path.unlink()
        assert f"has no {stem}.safetensors" in refused(base)
    elif how == "variant":
        path.rename(path.with_suffix(".fp16.safetensors"))
        assert "fp16.safetensors but no" in refused(base)
    else:
        tensors = load_file(path)
        name = next(name for name in tensors if name.endswith("weight"))
        if how == "fewer":
            del tensors[name]
        else:
            tensors[name] = torch.zeros(7, 7)
        path.unlink()
        save_file(tensors, path)
        said = refused(base)
        assert str(path.parent) in said
        assert "do not belong together" in said


def shards(base: Path, part: str = "transformer") -> Path:
    folder = base / part
    whole = folder / "diffusion_pytorch_model.safetensors"
    names = sorted(load_file(whole))
    half = len(names) // 2
    table = {}
    for number, own in enumerate((names[:half], names[half:])):
        file = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
        save_file({name: load_file(whole)[name] for name in own}, folder / file)
        table.update(dict.fromkeys(own, file))
    whole.unlink()
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return index


def test_shards(base: Path) -> None:
    index = shards(base)
    check_model(ModelSource(model_id=str(base)))
    table = json.loads(index.read_text())["weight_map"]
    second = index.parent / "diffusion_pytorch_model-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    assert f"{second}: has" in refused(base)
    second.unlink()
    assert second.name in refused(base)
    second.write_bytes(whole)
    name = next(name for name in table if table[name] == second.name)
    for weight_map, said in (
        ({**table, name: "../../elsewhere.safetensors"}, "is no file beside it"),
        ({**table, name: 3}, "is no file beside it"),
        ({**table, "more": second.name}, "has no 'more'"),
        ({key: file for key, file in table.items() if key != name}, "has no weights for"),
        ([], "has no table 'weight_map'"),
        ({}, "has no table 'weight_map'"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        assert said in refused(base), weight_map


@pytest.mark.parametrize(
    ("channels", "said"),
    [(384, "it is FLUX.1 Fill"), (128, "it is FLUX.1 Canny or Depth"), (68, "do not belong")],
)
def test_input_channels(base: Path, channels: int, said: str) -> None:
    config = json.loads((base / "transformer/config.json").read_text())
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    shutil.rmtree(base / "transformer")
    made = FluxTransformer2DModel(**{**own, "in_channels": channels, "out_channels": 64})
    made.save_pretrained(base / "transformer")
    assert said in refused(base)


def test_flux_own_numbers() -> None:
    check_input_channels("schnell", 64, latent_channels=16)
    for channels in (384, 128):
        with pytest.raises(SgfluxError, match=r"give FLUX\.1-schnell or FLUX\.1-dev"):
            check_input_channels("x", channels, latent_channels=16)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("model_index.json", {"_class_name": "Flux2KleinPipeline"}, "no FluxPipeline"),
        ("model_index.json", {"_class_name": 3}, "no FluxPipeline"),
        ("transformer/config.json", {"_class_name": "ChromaTransformer2DModel"}, "Chroma"),
        ("transformer/config.json", {"num_layers": 10**9}, "'num_layers' must be"),
        ("transformer/config.json", {"num_layers": 10**6}, "of 8 such layers"),
        ("transformer/config.json", {"num_layers": "8"}, "'num_layers' must be a whole number"),
        ("transformer/config.json", {"num_attention_heads": 2}, "do not belong together"),
        ("transformer/config.json", {"axes_dims_rope": [8, 12]}, "transformer/config.json"),
        ("transformer/config.json", {"axes_dims_rope": None}, "'axes_dims_rope' must be a list"),
        ("vae/config.json", {"block_out_channels": "32"}, "'block_out_channels' must be a list"),
        ("vae/config.json", {"scaling_factor": 0}, "must not be 0"),
        ("vae/config.json", {"shift_factor": None}, "'shift_factor' must be a number"),
        ("vae/config.json", {"down_block_types": ["Nothing"]}, "vae/config.json"),
        ("text_encoder/config.json", {"hidden_size": 2**40}, "'hidden_size' must be"),
        ("text_encoder/config.json", {"num_hidden_layers": 2}, "of 1 such layers"),
        ("text_encoder_2/config.json", {"d_model": 64}, "do not belong together"),
        ("text_encoder_2/config.json", {"num_layers": True}, "'num_layers' must be"),
        ("scheduler/scheduler_config.json", {"shift": "3"}, "'shift' must be a number"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ("scheduler/scheduler_config.json", {"time_shift_type": "x"}, "makes no schedule"),
    ],
)
def test_settings(base: Path, file: str, changes: dict[str, Any], said: str) -> None:
    change(base / file, **changes)
    message = refused(base)
    assert said in message
    assert file.rpartition("/")[2] in message


@pytest.mark.parametrize("file", ["transformer/config.json", "tokenizer_2/tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": NaN}'])
def test_damaged_json(base: Path, file: str, content: bytes) -> None:
    put(base / file, content)
    said = refused(base)
    assert str(base) in said
    assert file.partition("/")[0] in said


def outcome(look: Callable[[], Any]) -> str | None:
    """What is refused, None if nothing is."""
    try:
        look()
    except SgfluxError as error:
        return str(error)
    return None


FILES = [
    "model_index.json",
    *(f"{part}/config.json" for part in ("transformer", "vae", "text_encoder", "text_encoder_2")),
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
]
VALUES = st.sampled_from(
    [None, True, -1, 0, 3, 2**31, 2**70, 1e300, "", "x", [], [1], [2**70], {}, {"a": 1}]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_setting_is_taken_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No traceback, and nothing of the size of the changed number is allocated."""
    base = tmp_path_factory.mktemp("altered") / "base"
    shutil.copytree(TINY, base, copy_function=links)
    path = base / data.draw(st.sampled_from(FILES))
    content = json.loads(path.read_bytes())
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(VALUES)
    put(path, json.dumps(content).encode())
    said = outcome(lambda: check_model(ModelSource(model_id=str(base))))
    assert said is None or str(base) in said
    shutil.rmtree(base)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_its_vocabulary(base: Path, part: str) -> None:
    (base / part / "tokenizer.json").unlink()
    message = refused(base)
    assert f"{base / part}: has no vocabulary" in message


@pytest.mark.parametrize(
    ("kind", "embeddings", "tokens"), [(T5TokenizerFast, 32_128, 104), (CLIPTokenizer, 49_408, 2)]
)
def test_flux_own_classes_without_files_are_stubs(kind: Any, embeddings: int, tokens: int) -> None:
    """transformers 5 makes them without an error; all prompts would read alike."""
    stub = kind()
    assert len(stub) == tokens
    assert stub("man").input_ids == stub("sky").input_ids
    with pytest.raises(SgfluxError, match=rf"knows {tokens} of the {embeddings:,} tokens"):
        check_tokenizer(stub, embeddings=embeddings, where="x", part="tokenizer")


@pytest.mark.parametrize(
    ("tokens", "embeddings", "fits"),
    [
        (32_100, 32_128, True),
        (49_408, 49_408, True),
        (345, 345, True),
        (346, 345, False),
        (30_000, 32_128, False),
    ],
)
def test_how_many_tokens_a_vocabulary_needs(tokens: int, embeddings: int, fits: bool) -> None:
    class Tokens:
        def __len__(self) -> int:
            return tokens

    try:
        check_tokenizer(Tokens(), embeddings=embeddings, where="x", part="tokenizer")
    except SgfluxError:
        assert not fits
    else:
        assert fits


def test_the_loader_refuses_a_stub_too(base: Path) -> None:
    """Python's users have no dry run."""
    index = json.loads((base / "model_index.json").read_text())
    index["tokenizer_2"] = ["transformers", "T5TokenizerFast"]
    change(base / "model_index.json", **index)
    (base / "tokenizer_2/tokenizer.json").unlink()
    change(base / "tokenizer_2/tokenizer_config.json", tokenizer_class="T5TokenizerFast")
    with pytest.raises(SgfluxError, match=r"tokenizer_2 knows 10. of the 348 tokens"):
        load_text_encoders(ModelSource(model_id=str(base)))


def test_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", found)
    check_libraries(quantize="none")
    with pytest.raises(SgfluxError, match=r"pip install '\.\["):
        check_libraries(quantize="nf4")


def test_encoders_alone(base: Path) -> None:
    """`sgflux cache` needs no transformer."""
    shutil.rmtree(base / "transformer")
    shutil.rmtree(base / "scheduler")
    report = check_model(ModelSource(model_id=str(base)), needs_transformer=False)
    assert "text_encoder_2" in report.lines[0]
    assert report.unreadable is not None
    assert "has no transformer/" in refused(base)
