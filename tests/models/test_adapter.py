"""The adapter as a thing that is built, saved, loaded, switched off and used elsewhere.

If one of these failed, an untrained adapter would change the base, a saved one would come back
different, or one that is switched off would still act.
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.load import load_transformer
from sgflux.bases.flux1.lora_formats import METADATA_KEY
from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, adapter_disabled, build_model, check_base
from sgflux.models.bundle import load_bundle, save_bundle
from sgflux.models.name_features import NameFeatures
from sgflux.settings.adapter import LoraTargets
from sgflux.settings.model_source import ModelSource
from tests.helpers.flux import make_transformer
from tests.helpers.models import GRAPHS, make_config, make_model, rows_of, train_by_chance

MODES = ("token", "temb")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("targets", get_args(LoraTargets))
def test_untrained_it_is_the_base(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs, mode: str, targets: str
) -> None:
    base = load_transformer(ModelSource(model_id=str(flux_folder)))(**vars(inputs)).sample
    model = make_model(flux_folder, names, graph_mode=mode, lora_targets=targets)
    assert torch.equal(model(None, inputs), base)
    assert torch.equal(model(GRAPHS, inputs), base)


def test_what_is_trained(flux_folder: Path, names: NameFeatures) -> None:
    model = make_model(flux_folder, names, lora_targets="image", block_start=2, block_end=3)
    trained = model.trainable_parameters()
    lora = {
        f"lora.transformer_blocks.2.attn.{part}.lora_{side}.weight"
        for part in ("to_q", "to_k", "to_v", "to_out.0")
        for side in "AB"
    }
    assert {name for name in trained if name.startswith("lora.")} == lora
    assert {name.partition(".")[0] for name in trained} == {"lora", "conditioner", "encoder"}
    requiring = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in requiring} == {id(p) for p in trained.values()}
    assert len(make_model(flux_folder, names).lora_layers()) == 2 * 8
    with_ff = set(make_model(flux_folder, names, lora_targets="all+ff").lora_layers())
    assert with_ff == set(make_model(flux_folder, names).lora_layers()) | {
        f"transformer_blocks.{block}.ff.net.{part}" for block in (3, 4) for part in ("0.proj", "2")
    }
    everything = set(make_model(flux_folder, names, lora_targets="all+ff+single").lora_layers())
    parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")
    count = make_transformer().config.num_single_layers
    assert everything - with_ff == {
        f"single_transformer_blocks.{block}.{part}" for block in range(count) for part in parts
    }


def test_a_bf16_base_gets_float32_weights_that_learn(
    flux_folder: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    transformer = load_transformer(ModelSource(model_id=str(flux_folder)), dtype=torch.bfloat16)
    config = make_config(transformer)
    model = build_model(transformer=transformer, config=config, name_features=names)
    assert {value.dtype for value in model.trainable_state().values()} == {torch.float32}
    # Not merely bf16 numbers in a wider coat.
    matrix = model.trainable_state()["lora.transformer_blocks.3.attn.to_q.lora_A.weight"]
    assert not torch.equal(matrix, matrix.bfloat16().float())
    train_by_chance(model)
    assert model(GRAPHS, inputs).dtype == torch.bfloat16
    for autocast in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            velocity = model(GRAPHS, inputs, gradient_checkpointing=True)
        velocity.float().square().mean().backward()
        for name, parameter in model.trainable_parameters().items():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_switched_off_it_is_the_base_and_comes_back(
    flux_folder: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    base = load_transformer(ModelSource(model_id=str(flux_folder)))(**vars(inputs)).sample
    model = make_model(flux_folder, names)
    train_by_chance(model)
    # Somebody trains only a part: neither the encoder nor one half of LoRA.
    model.encoder.requires_grad_(False)
    for layer in model.lora_layers().values():
        layer.lora_A.requires_grad_(False)
    trained = [name for name, p in model.trainable_parameters().items() if p.requires_grad]
    on = model(GRAPHS, inputs)
    with adapter_disabled(model):
        off = model(None, inputs)
        with pytest.raises(ValueError, match="switched off"):
            model(GRAPHS, inputs)
    assert not off.requires_grad
    assert torch.equal(off, base)
    assert torch.equal(model(GRAPHS, inputs), on)
    assert not torch.equal(model(None, inputs), base)
    assert [n for n, p in model.trainable_parameters().items() if p.requires_grad] == trained
    model.requires_grad_(False)
    with adapter_disabled(model):
        pass
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_two_graphs_learn_two_pictures_from_the_same_text(
    names: NameFeatures, inputs: FluxInputs, mode: str
) -> None:
    """The graph alone carries what the text does not say, and only its direction tells them apart.

    The targets are what the base draws from two other texts. A graph-blind model can do no better
    than their mean.
    """
    transformer = make_transformer()
    inputs = rows_of(inputs, [1, 1])
    with torch.no_grad():
        texts = 3 * torch.randn(2, 7, 32)
        target = transformer(**{**vars(inputs), "encoder_hidden_states": texts}).sample
    blind = (target - target.mean(dim=0)).square().mean()
    config = make_config(transformer, graph_mode=mode)
    model = build_model(transformer=transformer, config=config, name_features=names)
    optimizer = torch.optim.Adam(model.trainable_parameters().values(), lr=0.01)
    graphs = [SceneGraph.parse("man, above, horse"), SceneGraph.parse("horse, above, man")]
    prefix = model.flux.prefix(inputs)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (model.flux.suffix(prefix, model.encoder(graphs)) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.4 * blind
    with torch.no_grad():
        swapped = model(graphs[::-1], inputs)
    assert (swapped - target.flip(0)).square().mean() < 0.4 * blind


@pytest.mark.parametrize("mode", MODES)
def test_a_bundle_brings_back_the_same_model(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs, tmp_path: Path, mode: str
) -> None:
    model = make_model(flux_folder, names, graph_mode=mode, lora_alpha=8.0, lora_targets="image")
    state = train_by_chance(model)
    folder = tmp_path / "run" / "final"
    for _ in range(2):  # the second one replaces the first
        save_bundle(folder, config=model.config, state=state, card="# Card", metrics={"step": 3})
    assert [entry.name for entry in folder.parent.iterdir()] == ["final"]
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "README.md",
        "graph_conditioner.safetensors",
        "graph_encoder.safetensors",
        "pytorch_lora_weights.safetensors",
        "sgflux_adapter.json",
    ]
    assert json.loads((folder / "sgflux_adapter.json").read_text())["metrics"] == {"step": 3}
    config, loaded = load_bundle(folder)
    assert config == model.config
    transformer = load_transformer(ModelSource(model_id=str(flux_folder)))
    check_base(config, transformer)
    again = build_model(transformer=transformer, config=config, name_features=names)
    again.load_trainable_state(loaded)
    assert torch.equal(again(GRAPHS, inputs), model(GRAPHS, inputs))
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_a_bundles_lora_acts_as_trained_where_no_alpha_is_read(
    flux_folder: Path, names: NameFeatures, inputs: FluxInputs, tmp_path: Path
) -> None:
    """Its alpha, 2.5 times the rank, is in the weights; older bundles, which kept it, load too."""
    model = make_model(flux_folder, names, lora_alpha=10.0)
    state = train_by_chance(model)
    folder = tmp_path / "bundle"
    save_bundle(folder, config=model.config, state=state, card="", metrics={})
    path = folder / "pytorch_lora_weights.safetensors"
    stored = load_file(path)
    name = "transformer_blocks.3.attn.to_q.lora_B.weight"
    assert torch.equal(stored[f"transformer.{name}"], 2.5 * state[f"lora.{name}"])
    older = {
        f"transformer.{key.removeprefix('lora.')}": value.clone()
        for key, value in state.items()
        if key.startswith("lora.")
    }
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()[METADATA_KEY])
    assert settings["transformer.lora_alpha"] == 4
    expected = model(GRAPHS, inputs)
    for rewrite in (False, True):
        if rewrite:
            settings["transformer.lora_alpha"] = 10.0
            save_file(older, path, {METADATA_KEY: json.dumps(settings)})
            description = json.loads((folder / "sgflux_adapter.json").read_text())
            description.pop("digests")
            (folder / "sgflux_adapter.json").write_text(json.dumps(description))
        config, loaded = load_bundle(folder)
        assert config == model.config
        transformer = load_transformer(ModelSource(model_id=str(flux_folder)))
        again = build_model(transformer=transformer, config=config, name_features=names)
        again.load_trainable_state(loaded)
        torch.testing.assert_close(again(GRAPHS, inputs), expected)


@pytest.mark.parametrize("targets", get_args(LoraTargets))
def test_plain_diffusers_loads_the_lora(
    flux_folder: Path,
    names: NameFeatures,
    inputs: FluxInputs,
    tmp_path: Path,
    targets: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also with an alpha that is not the rank, and with nothing missing or left over."""
    model = make_model(flux_folder, names, lora_alpha=10.0, lora_targets=targets)
    state = train_by_chance(model)
    save_bundle(tmp_path / "bundle", config=model.config, state=state, card="", metrics={})
    pipeline = FluxPipeline.from_pretrained(flux_folder)
    pipeline.load_lora_weights(tmp_path / "bundle", adapter_name="theirs")
    assert not [record for record in caplog.records if "keys found" in record.message]
    loaded = {
        f"transformer.{name.replace('.theirs', '')}": value
        for name, value in pipeline.transformer.named_parameters()
        if "lora_" in name
    }
    stored = load_file(tmp_path / "bundle" / "pytorch_lora_weights.safetensors")
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in loaded.items())
    assert f"transformer.transformer_blocks.3.attn.{'to_q'}.lora_A.weight" in stored
    torch.testing.assert_close(pipeline.transformer(**vars(inputs)).sample, model(None, inputs))
    base = load_transformer(ModelSource(model_id=str(flux_folder)))(**vars(inputs)).sample
    assert (model(None, inputs) - base).abs().max() > 1e-3


def test_another_base_is_refused_with_both_sides_named(
    flux_folder: Path, names: NameFeatures
) -> None:
    config = make_config(load_transformer(ModelSource(model_id=str(flux_folder))))
    for other, difference in (
        (make_transformer(seed=5), r"fingerprint is '\w+' for the adapter and '\w+' for this"),
        (make_transformer(num_layers=9), "num_layers is 8 for the adapter and 9 for this model"),
        (make_transformer(heads=3), "inner_dim is 32 for the adapter and 48 for this model"),
    ):
        with pytest.raises(SgfluxError, match=difference):
            check_base(config, other)
        with pytest.raises(SgfluxError, match="another base model"):
            build_model(transformer=other, config=config, name_features=names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 0}, "lora_rank must be at least 1, got 0"),
        ({"lora_alpha": 0.0}, "lora_alpha must be greater than 0"),
        ({"block_start": 6, "block_end": 9}, r"6\.\.9 does not fit"),
        ({"graph_mode": "both"}, "'both'"),
        ({"lora_targets": "text"}, "'text'"),
        ({"encoder": {"kind": "clip"}}, r"Invalid value 'clip' - at `\$\.kind`"),
        ({"encoder": {"kind": "native", "hiden_dim": 8}}, "unknown field `hiden_dim`"),
        ({"encoder": {"kind": "native", "order_triples": True}}, "another version of sgflux"),
        ({"base": {}}, "base must be"),
    ],
)
def test_an_impossible_config_is_refused(settings: dict[str, Any], message: str) -> None:
    values = make_config(make_transformer()).to_json() | settings
    with pytest.raises(SgfluxError, match=message):
        AdapterConfig(**values)


def test_the_config_survives_json_and_names_its_defaults() -> None:
    config = make_config(make_transformer(), encoder={"kind": "native"})
    assert AdapterConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.encoder == {
        "kind": "native",
        "text_dim": 32,
        "hidden_dim": 256,
        "layers": 2,
        "number_triples": False,
    }
    settings = config.to_json()
    del settings["lora_rank"]
    with pytest.raises(SgfluxError, match=r"missing \['lora_rank'\], unknown \['rank'\]"):
        AdapterConfig.from_json({**settings, "rank": 4})


def test_weights_of_another_adapter_are_refused(flux_folder: Path, names: NameFeatures) -> None:
    model = make_model(flux_folder, names)
    state = model.trainable_state()
    name = "lora.transformer_blocks.3.attn.to_q.lora_B.weight"
    less = {key: value for key, value in state.items() if key != name}
    with pytest.raises(SgfluxError, match=rf"{name} is missing, but .*\(and 1 more"):
        model.load_trainable_state({**less, "extra": torch.zeros(1)})
    with pytest.raises(SgfluxError, match=r"extra is \(1,\), but this one has none"):
        model.load_trainable_state({**state, "extra": torch.zeros(1)})
    with pytest.raises(SgfluxError, match=r"to_q.lora_B.weight is \(32, 5\), but .* \(32, 4\)"):
        model.load_trainable_state({**less, name: torch.zeros(32, 5)})
    with pytest.raises(SgfluxError, match="already"):
        build_model(transformer=model.flux.transformer, config=model.config, name_features=names)


def test_a_damaged_or_foreign_folder_is_named(
    flux_folder: Path, names: NameFeatures, tmp_path: Path
) -> None:
    model = make_model(flux_folder, names)
    bundle = {"config": model.config, "state": model.trainable_state(), "card": "", "metrics": {}}
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(SgfluxError, match=r"thesis.*no adapter bundle"):
        save_bundle(foreign, **bundle)
    assert (foreign / "thesis.tex").exists()
    with pytest.raises(SgfluxError, match=r"thesis is no adapter bundle: sgflux_adapter\.json"):
        load_bundle(foreign)
    folder = tmp_path / "bundle"
    save_bundle(folder, **bundle)
    (folder / "graph_encoder.safetensors").write_bytes(b"half a fi")
    with pytest.raises(SgfluxError, match=r"graph_encoder\.safetensors: is no .safetensors file"):
        load_bundle(folder)
    (folder / "sgflux_adapter.json").write_text("{")
    with pytest.raises(SgfluxError, match=r"sgflux_adapter\.json: not JSON"):
        load_bundle(folder)
    halves = {name: value.bfloat16() for name, value in model.trainable_state().items()}
    with pytest.raises(SgfluxError, match="float32"):
        save_bundle(tmp_path / "halves", **{**bundle, "state": halves})
