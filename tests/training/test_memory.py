"""Runs that save memory train what a plain run trains; what does not work together is refused.

If one of these failed, a setting that saves memory would change what is learned, or two that
exclude each other would be accepted.
"""

from __future__ import annotations

import gc
import importlib.util
import tomllib
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.family import Flux1
from sgflux.bases.flux1.load import load_transformer
from sgflux.errors import SgfluxError
from sgflux.sampling import SampleConfig, SceneGraphFluxPipeline, sample
from sgflux.settings.model_source import ModelSource
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.run.train import train
from tests.helpers.single_files import write_single_files
from tests.helpers.training import MakeConfig
from tests.helpers.training_adapter import write_training_adapter

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def trained(run: Path) -> dict[str, torch.Tensor]:
    """The adapter after the last step."""
    return AdapterWeights.load(run / "final_graph_lora_token.pt").trainable


def test_offloaded_blocks_train_and_draw_the_same(
    tmp_path: Path, make_config: MakeConfig, flux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recompute: dict[str, Any] = {"gradient_checkpointing": True}
    folder = tmp_path / "blocks"
    train(make_config(tmp_path / "plain", **recompute))
    capsys.readouterr()
    result = train(
        make_config(
            tmp_path / "away",
            **recompute,
            offload_blocks=True,
            offload_folder=folder,
            encoder_device="cpu",
        )
    )
    assert "offloaded:" in capsys.readouterr().out
    for name, weight in trained(tmp_path / "plain").items():
        torch.testing.assert_close(trained(tmp_path / "away")[name], weight, rtol=1e-5, atol=1e-7)
    drawn = []
    for settings in ({}, {"offload_blocks": True, "offload_folder": folder}):
        for adapter in (result.bundle, None):
            pipeline = SceneGraphFluxPipeline.from_pretrained(
                str(flux), adapter=adapter, **settings
            )
            graph = None if adapter is None else "man, riding, horse"
            drawn.append(
                pipeline(graph, prompt="a photo of man", seed=0, output_type="np", height=16,
                         width=16, num_inference_steps=2).images
            )  # fmt: skip
    for one, other in zip(drawn[:2], drawn[2:], strict=True):
        assert abs(one - other).max() < 1e-5
    del pipeline
    gc.collect()
    assert not list(folder.rglob("*.safetensors"))


def test_nf4_trains_and_draws(tmp_path: Path, make_config: MakeConfig, flux: Path) -> None:
    pytest.importorskip("bitsandbytes")
    train(make_config(tmp_path / "planned", quantize="nf4", dry_run=True))
    result = train(make_config(tmp_path / "run", quantize="nf4", dtype="bf16"))
    assert result.bundle is not None
    pictures = sample(
        SampleConfig.from_flat(
            graph=("man, riding, horse",),
            adapter=result.bundle,
            model_id=str(flux),
            quantize="nf4",
            num_images=1,
            height=16,
            width=16,
            steps=1,
            output_dir=tmp_path / "samples",
        )
    )
    assert len(pictures) == 2


@pytest.mark.parametrize(
    ("quantize", "library", "extra"),
    [("nf4", "bitsandbytes", "nf4"), ("int8", "torchao", "quantize")],
)
def test_a_dry_run_names_a_library_that_is_not_there(
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    quantize: str,
    library: str,
    extra: str,
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == library else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(SgfluxError, match=rf"needs {library}.*'\.\[{extra}\]'"):
        train(
            make_config(
                tmp_path / "run", quantize=quantize, gradient_checkpointing=True, dry_run=True
            )
        )
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    assert any(need.startswith(library) for need in extras[extra])


def test_the_encoders_are_gone_before_the_transformer_comes(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two phases: the peak is the larger one, not their sum."""
    alive: list[weakref.ref[torch.nn.Module]] = []

    def watched(load: Any, *names: str) -> Any:
        def loading(*arguments: Any, **settings: Any) -> Any:
            loaded = load(*arguments, **settings)
            alive.extend(weakref.ref(getattr(loaded, name)) for name in names)
            return loaded

        return loading

    for function, names in (
        ("load_text_encoders", ("text_encoder", "text_encoder_2")),
        ("load_autoencoder", ("vae",)),
    ):
        monkeypatch.setattr(
            Flux1, function, staticmethod(watched(getattr(Flux1, function), *names))
        )
    found: list[int] = []

    def load(*arguments: Any, **settings: Any) -> Any:
        found.append(sum(one() is not None for one in alive))
        return load_transformer(*arguments, **settings)

    monkeypatch.setattr(Flux1, "load_transformer", staticmethod(load))
    train(make_config(tmp_path / "run", max_steps=1, val_every=0, sample_steps=0))
    assert len(alive) == 3
    assert found == [0]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_adapter_and_the_anchor_go_together(
    tmp_path: Path, make_config: MakeConfig, flux: Path, recompute: bool
) -> None:
    lora = tmp_path / "lora.safetensors"
    write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
    losses = {"lambda_words": 0.0, "lambda_anchor": 1.0}
    settings: dict[str, Any] = {"training_adapter": str(lora), "losses": losses}
    train(make_config(tmp_path / "plain", **settings))
    train(make_config(tmp_path / "other", **settings, gradient_checkpointing=recompute))
    train(make_config(tmp_path / "without", losses=losses))
    one, other, without = (trained(tmp_path / name) for name in ("plain", "other", "without"))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-6)
    assert any((without[name] != weight).any() for name, weight in one.items())
    resumed = make_config(tmp_path / "plain", **settings, resume="auto", max_steps=4)
    write_training_adapter(
        lora, load_transformer(ModelSource(model_id=str(flux)), dtype=torch.float64)
    )
    lora.write_bytes(lora.read_bytes() + b"\0")
    with pytest.raises(SgfluxError, match="was trained with another training adapter"):
        train(resumed)


def test_a_training_adapter_and_the_base_in_words_go_together(
    tmp_path: Path, make_config: MakeConfig, flux: Path
) -> None:
    """Gradient checkpointing changes nothing, and the training adapter does."""
    lora = tmp_path / "lora.safetensors"
    write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
    settings: dict[str, Any] = {"losses": {"lambda_words": 1.0}, "sample_steps": 0}
    train(make_config(tmp_path / "a", **settings, training_adapter=str(lora)))
    more = {"training_adapter": str(lora), "gradient_checkpointing": True}
    train(make_config(tmp_path / "b", **settings, **more))
    train(make_config(tmp_path / "without", **settings))
    one, other, without = (trained(tmp_path / name) for name in ("a", "b", "without"))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-6)
    assert any((without[name] != weight).any() for name, weight in one.items())


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_training_adapter_that_does_not_fit_is_found_before_anything_is_encoded(
    tmp_path: Path,
    make_config: MakeConfig,
    flux: Path,
    monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,
) -> None:
    def encode(*_: Any, **__: Any) -> None:
        raise AssertionError("something was encoded")

    monkeypatch.setattr("sgflux.training.run.train.encode_data", encode)
    lora = tmp_path / "lora.safetensors"
    write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
    good = load_file(lora)
    name = next(name for name in good if name.endswith("to_q.lora_A.weight"))
    chroma = "lora_transformer_distilled_guidance_layer_in_proj.lora_down.weight"
    for changes, message in (
        ({name: torch.ones(3, 64)}, "the file belongs to a model of another width"),
        ({name: torch.full_like(good[name], torch.nan)}, "not finite"),
        ({chroma: torch.ones(3, 32)}, "it looks like a LoRA of Chroma"),
        ({"lora_te2_x.lora_up.weight": torch.ones(3, 3)}, "also changes the text encoders"),
        ({name.replace("lora_A.weight", "dora_scale"): torch.ones(1)}, "DoRA is no LoRA"),
    ):
        save_file({**good, **changes}, lora)
        with pytest.raises(SgfluxError, match=message):
            train(make_config(tmp_path / "run", training_adapter=str(lora), dry_run=dry_run))


def test_four_noise_levels_and_devs_shift_reach_the_batches(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgflux.training import steps

    drawn: list[torch.Tensor] = []

    def watched(*arguments: Any, **settings: Any) -> Any:
        batch = draw(*arguments, **settings)
        drawn.append(batch.sigma)
        return batch

    draw = steps.draw_batch
    monkeypatch.setattr("sgflux.training.steps.draw_batch", watched)
    short: dict[str, Any] = {"max_steps": 2, "val_every": 0, "sample_steps": 0}
    train(make_config(tmp_path / "schnell", sigma_scheme="schnell", **short))
    assert {value for sigma in drawn for value in sigma.tolist()} <= {0.25, 0.5, 0.75, 1.0}
    drawn.clear()
    train(make_config(tmp_path / "plain", **short))
    train(make_config(tmp_path / "shifted", sigma_shift="resolution", **short))
    half = len(drawn) // 2
    for plain, moved in zip(drawn[:half], drawn[half:], strict=True):
        assert (moved > plain).all()
    drawn.clear()
    dev = write_single_files(tmp_path / "dev", guidance_embeds=True)
    settings = {**dev.flags(), "height": 32, "width": 32, **short}
    train(make_config(tmp_path / "auto", **settings))
    train(make_config(tmp_path / "none", **settings, sigma_shift="none"))
    half = len(drawn) // 2
    for moved, plain in zip(drawn[:half], drawn[half:], strict=True):
        assert (moved > plain).all()


def test_every_part_in_a_file_of_its_own(tmp_path: Path, make_config: MakeConfig) -> None:
    """flux1-schnell, ae, clip_l and t5xxl as people have them, from a dry run to a picture."""
    files = write_single_files(tmp_path / "files")
    settings: dict[str, Any] = {
        **files.flags(),
        "height": 32,
        "width": 32,
        "latent_cache_dir": tmp_path / "cache",
    }
    train(make_config(tmp_path / "planned", **settings, dry_run=True))
    bundle = train(make_config(tmp_path / "run", **settings)).bundle
    assert bundle is not None
    assert (bundle / "sample.png").is_file()
    pipeline = SceneGraphFluxPipeline.from_pretrained(**files.flags(), adapter=bundle)
    drawn = pipeline("man, riding, horse", seed=0, num_inference_steps=1, height=32, width=32)
    assert drawn.images[0].size == (32, 32)
    for missing, part in (("autoencoder", "vae"), ("text_encoder", "text_encoder")):
        incomplete = {name: value for name, value in settings.items() if name != missing}
        for dry_run in (True, False):
            config = make_config(tmp_path / missing, **incomplete, dry_run=dry_run)
            with pytest.raises(SgfluxError, match=rf"tokenizers.* has no '?{part}/?"):
                train(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize": "nf4", "compile": True}, "compile does not work with quantize 'nf4'"),
        ({"offload_folder": Path("x")}, "offload_folder .* has no effect without offload_blocks"),
        ({"offload_blocks": True}, "saves memory only with gradient_checkpointing"),
        (
            {"offload_blocks": True, "gradient_checkpointing": True, "quantize": "int8"},
            "offload_blocks does not work with quantize",
        ),
        (
            {"offload_blocks": True, "gradient_checkpointing": True, "compile": True},
            "offload_blocks does not work with compile",
        ),
        (
            {
                "offload_blocks": True,
                "gradient_checkpointing": True,
                "losses": {"alpha_gen_rel": 1.0},
            },
            "offload_blocks does not work with saliency",
        ),
        ({"shard_base": True, "quantize": "nf4"}, "shard_base does not work with quantize 'nf4'"),
        (
            {"shard_base": True, "offload_blocks": True, "gradient_checkpointing": True},
            "shard_base does not work with offload_blocks",
        ),
        (
            {"aspect_buckets": True, "statement_power": 1.0},
            "aspect_buckets does not work with statement_power",
        ),
        (
            {"flow_scale": 2.0, "losses": {"alpha_gen_rel": 1.0, "gen_rel_from": "boxes"}},
            "flow_scale does not work with alpha_gen_rel",
        ),
        (
            {"object_share": 0.5, "losses": {"alpha_gen_rel": 1.0, "gen_rel_from": "boxes"}},
            "object_share does not work with alpha_gen_rel",
        ),
        (
            {"sigma_scheme": "schnell", "sigma_shift": "resolution"},
            "sigma_shift 'resolution' has no effect",
        ),
        ({"sigma_scheme": "schnell", "t_min": 0.3, "t_max": 0.4}, "none of them lies between"),
        ({"autoencoder": Path("ae.safetensors")}, "autoencoder .* has no effect with .* no single"),
        ({"model_id": "a.safetensors"}, "is a single file, the transformer alone; give components"),
        (
            {"model_id": "a.safetensors", "components": "b.safetensors"},
            "components .* is a file; give a diffusers folder",
        ),
        (
            {"model_id": "a.safetensors", "components": "b", "text_encoder": Path("clip.bin")},
            "text_encoder must be a .safetensors or .sft file",
        ),
    ],
)
def test_what_does_not_work_together_is_refused(
    tmp_path: Path, make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SgfluxError, match=message):
        make_config(tmp_path / "run", **changes)


def test_offloading_to_the_memory_that_is_computed_in_is_refused(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    """Before anything is encoded, so a dry run refuses it as well."""
    settings: dict[str, Any] = {"offload_blocks": True, "gradient_checkpointing": True}
    for dry in (True, False):
        with pytest.raises(SgfluxError, match="offload_blocks has no effect on the CPU"):
            train(make_config(tmp_path / "run", dry_run=dry, **settings))
    assert not (tmp_path / "run").exists()
