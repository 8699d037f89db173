"""A frozen LoRA in the base that is there in training, and gone where it is switched off.

If one of these failed, a training adapter would stay in the base that pictures are drawn with, or
act in another strength.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.lora_formats import LORA_FORMATS, METADATA_KEY, LoraWeights, write_lora
from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.models.adapter import adapter_disabled, build_model
from sgflux.models.bundle_folder import find_training_adapter
from sgflux.models.name_features import NameFeatures
from sgflux.models.training_adapter import (
    TRAINING_NAME,
    add_training_adapter,
)
from tests.helpers.flux import make_transformer
from tests.helpers.models import GRAPHS, make_config, train_by_chance
from tests.helpers.training_adapter import RANK, write_training_adapter


def merged(weights: dict[str, torch.Tensor], *, scale: float = 1.0) -> FluxTransformer2DModel:
    """The base with the LoRA added to its matrices by hand."""
    transformer = make_transformer()
    for name, up in weights.items():
        if name.endswith("lora_B.weight"):
            module = name.removeprefix("transformer.").removesuffix(".lora_B.weight")
            down = weights[name.replace("lora_B", "lora_A")]
            transformer.get_submodule(module).weight.data += scale * up @ down
    return transformer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pytorch_lora_weights.safetensors"
    write_training_adapter(path, make_transformer())
    return path


def test_on_it_is_the_merged_base_and_off_the_base_itself(
    file: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    transformer = make_transformer()
    model = build_model(
        transformer=transformer, config=make_config(transformer), name_features=names
    )
    adapter = add_training_adapter(transformer, file)
    with torch.no_grad():
        on = model(GRAPHS, inputs)
        torch.testing.assert_close(on, merged(load_file(file))(**vars(inputs)).sample)
        with adapter.switched_off():
            assert torch.equal(model(GRAPHS, inputs), make_transformer()(**vars(inputs)).sample)
            with adapter_disabled(model):
                assert torch.equal(model(None, inputs), make_transformer()(**vars(inputs)).sample)
        assert torch.equal(model(GRAPHS, inputs), on)


def test_alpha_is_read_from_a_files_header_or_its_keys(
    file: Path, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    weights = load_file(file)
    header = tmp_path / "header.safetensors"
    modules = [
        name.removeprefix("transformer.").removesuffix(".lora_A.weight")
        for name in weights
        if "lora_A" in name
    ]
    settings = {
        "transformer.r": RANK,
        "transformer.lora_alpha": 2 * RANK,
        "transformer.target_modules": modules,
    }
    save_file(weights, header, metadata={METADATA_KEY: json.dumps(settings)})
    keys = tmp_path / "keys.safetensors"
    alphas = {
        name.replace("lora_A.weight", "alpha"): torch.tensor(2.0 * RANK)
        for name in weights
        if "lora_A" in name
    }
    save_file(weights | alphas, keys)
    for path in (header, keys):
        transformer = make_transformer()
        add_training_adapter(transformer, path)
        with torch.no_grad():
            torch.testing.assert_close(
                transformer(**vars(inputs)).sample,
                merged(weights, scale=2.0)(**vars(inputs)).sample,
            )


def test_alpha_of_one_layer_is_that_layers_alone(
    file: Path, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    weights = load_file(file)
    first = next(name for name in weights if name.endswith("to_q.lora_A.weight"))
    layer = first.removesuffix(".lora_A.weight")
    path = tmp_path / "one.safetensors"
    save_file({**weights, f"{layer}.alpha": torch.tensor(0.5 * RANK)}, path)
    transformer = make_transformer()
    add_training_adapter(transformer, path)
    half = {**weights, f"{layer}.lora_B.weight": 0.5 * weights[f"{layer}.lora_B.weight"]}
    with torch.no_grad():
        found = transformer(**vars(inputs)).sample
        torch.testing.assert_close(found, merged(half)(**vars(inputs)).sample)
        assert not torch.allclose(found, merged(weights, scale=0.5)(**vars(inputs)).sample)


@pytest.mark.parametrize("layout", LORA_FORMATS)
def test_our_own_exports_are_training_adapters(
    names: NameFeatures, tmp_path: Path, inputs: FluxInputs, layout: Any
) -> None:
    """In every layout, with an alpha that is not the rank."""
    base = make_transformer()
    model = build_model(
        transformer=base, config=make_config(base, lora_alpha=10.0), name_features=names
    )
    state = train_by_chance(model)
    lora = {n.removeprefix("lora."): v for n, v in state.items() if n.startswith("lora.")}
    path = tmp_path / "lora.safetensors"
    write_lora(path, LoraWeights.with_alpha(lora, 10.0), layout=layout)
    transformer = make_transformer()
    add_training_adapter(transformer, path)
    with torch.no_grad():
        torch.testing.assert_close(transformer(**vars(inputs)).sample, model(None, inputs))


def test_switching_our_adapter_off_leaves_it_on(
    file: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    """So that the base that teaches in words has it, as the velocity that learns from it has."""
    transformer = make_transformer()
    model = build_model(
        transformer=transformer, config=make_config(transformer), name_features=names
    )
    train_by_chance(model)
    adapter = add_training_adapter(transformer, file)
    learning = {name: p.requires_grad for name, p in model.named_parameters()}
    on = model(GRAPHS, inputs)
    with adapter_disabled(model):
        torch.testing.assert_close(
            model(None, inputs), merged(load_file(file))(**vars(inputs)).sample
        )
        with pytest.raises(ValueError, match="switched off"):
            model(GRAPHS, inputs)
        with adapter.switched_off():
            assert torch.equal(model(None, inputs), make_transformer()(**vars(inputs)).sample)
    assert torch.equal(model(GRAPHS, inputs), on)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == learning
    with adapter.switched_off(), adapter_disabled(model):
        assert torch.equal(model(None, inputs), make_transformer()(**vars(inputs)).sample)
    assert torch.equal(model(GRAPHS, inputs), on)


@pytest.mark.parametrize("recompute", [False, True])
def test_only_our_adapter_learns_and_it_is_all_that_is_kept(
    file: Path, names: NameFeatures, inputs: FluxInputs, recompute: bool
) -> None:
    """Its gradients are those that it has on the merged base."""
    model, expected = (
        build_model(transformer=base, config=make_config(make_transformer()), name_features=names)
        for base in (make_transformer(), merged(load_file(file)))
    )
    expected.load_trainable_state(train_by_chance(model))
    adapter = add_training_adapter(model.flux.transformer, file)
    before = set(model.trainable_parameters())
    with adapter.switched_off():
        pass
    learning = {name for name, p in model.flux.named_parameters() if p.requires_grad}
    assert not [name for name in learning if TRAINING_NAME in name]
    assert set(model.trainable_parameters()) == before == set(expected.trainable_parameters())
    for one in (model, expected):
        velocity = one(GRAPHS, inputs, gradient_checkpointing=recompute)
        velocity.square().mean().backward()
    for name, weight in expected.trainable_parameters().items():
        own = model.trainable_parameters()[name].grad
        torch.testing.assert_close(own, weight.grad, rtol=1e-4, atol=1e-6)
    assert not [name for name in model.adapter_state() if TRAINING_NAME in name]


def test_a_recomputation_is_switched_off_as_the_forward_pass_was(
    file: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    """The anchor runs without it, and its backward pass comes when it is on again."""
    transformer = make_transformer()
    model = build_model(
        transformer=transformer, config=make_config(transformer), name_features=names
    )
    train_by_chance(model)
    adapter = add_training_adapter(transformer, file)
    found = []
    for recompute, within in ((False, None), (True, adapter.switched_off)):
        model.zero_grad()
        with adapter.switched_off():
            velocity = model.flux.suffix(
                model.flux.prefix(inputs),
                model.encoder(GRAPHS),
                gradient_checkpointing=recompute,
                recompute_within=within,
            )
        velocity.square().mean().backward()
        found.append([p.grad.clone() for p in model.trainable_parameters().values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_no_lora_of_this_model_is_named(file: Path, tmp_path: Path) -> None:
    weights = load_file(file)
    other = tmp_path / "other.safetensors"
    first = next(name for name in weights if name.endswith("lora_A.weight"))
    module = first.removeprefix("transformer.").removesuffix(".lora_A.weight")
    for changes, message in (
        (
            {"transformer.nothing.lora_A.weight": torch.ones(3, 4)},
            "nothing is no layer of FLUX.1's transformer",
        ),
        ({first: torch.ones(3, 5)}, rf"{module}.lora_A.weight is \(3, 5\), but .* takes 32"),
        ({first: None}, r"has no lora_A \(lora_down\) beside its lora_B"),
        ({first: torch.full((RANK, 32), torch.nan)}, "not finite"),
        ({"text_encoder.x.lora_A.weight": torch.ones(1, 1)}, "also changes the text encoders"),
        ({first.replace("lora_A.weight", "dora_scale"): torch.ones(1)}, "DoRA is no LoRA"),
    ):
        changed = {n: v for n, v in {**weights, **changes}.items() if v is not None}
        save_file(changed, other)
        with pytest.raises(SgfluxError, match=rf"other\.safetensors: .*{message}"):
            add_training_adapter(make_transformer(), other)


def test_it_is_found_as_a_file_a_folder_or_on_the_hub(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(SgfluxError, match=r"one \.safetensors file, found none; give the file"):
        find_training_adapter(str(folder), allow_download=False)
    (folder / "lora.safetensors").touch()
    found = find_training_adapter(str(folder), allow_download=False)
    assert found == folder / "lora.safetensors"
    (folder / "other.safetensors").touch()
    with pytest.raises(SgfluxError, match=r"found lora\.safetensors, other\.safetensors"):
        find_training_adapter(str(folder), allow_download=False)
    assert find_training_adapter(str(file), allow_download=False) == file
    assert find_training_adapter(str(file.parent), allow_download=False) == file
    with pytest.raises(SgfluxError, match=r"there is no file '.*gone\.safetensors'"):
        find_training_adapter(str(file.with_name("gone.safetensors")), allow_download=False)
    with pytest.raises(SgfluxError, match=r"nothing@v1' cannot be loaded.*--allow-download"):
        find_training_adapter("nobody/nothing@v1", allow_download=False)
