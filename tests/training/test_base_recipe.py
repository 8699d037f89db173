"""The recipe of tiny-flux, at a toy size: what it writes, and that plain diffusers can use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from sgflux.data.world import OBJECT_NAMES, PREDICATES, sample_scene
from sgflux.training import base_recipe as recipe
from sgflux.training.base_recipe import (
    LAYOUT_ROWS,
    LIVE_CHANNELS,
    LIVE_DIMENSIONS,
    LinearCode,
    TrainBaseConfig,
    latest_checkpoint,
    learning_rate_factor,
    make_scenes,
    scene_layout,
    train_base,
)

pytestmark = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="the recipe needs torch >= 2.9"
)


def _config(folder: Path, **settings: object) -> TrainBaseConfig:
    toy = {
        "output_dir": folder,
        "scenes": 40,
        "vae_steps": 2,
        "vae_batch_size": 2,
        "steps": 4,
        "batch_size": 2,
        "save_every": 2,
        "compile": False,
        "threads": 1,
    }
    return TrainBaseConfig(**{**toy, **settings})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([sample_scene(rng, resolution=64).image for _ in range(200)])


def test_linear_code_is_normalised_and_keeps_the_picture(images: np.ndarray) -> None:
    code = LinearCode.fit(images)
    latents = code.encode(images)
    assert latents.shape == (200, 16, 16, 16)
    live, dead = latents[:, :LIVE_CHANNELS], latents[:, LIVE_CHANNELS:]
    assert not dead.any()
    channels = live.transpose(0, 1).flatten(1)
    assert torch.allclose(channels.mean(1), torch.zeros(LIVE_CHANNELS), atol=1e-3)
    assert abs(float(channels.var(1).mean()) - 1.0) < 1e-2
    correlations = torch.corrcoef(channels) - torch.eye(LIVE_CHANNELS)
    assert correlations.abs().max() < 1e-2

    patches = live.permute(0, 2, 3, 1) @ torch.linalg.pinv(code.basis) + code.offset
    tiles = patches.reshape(200, 16, 16, 4, 4, 3).transpose(2, 3).reshape(200, 64, 64, 3)
    error = (tiles - (torch.from_numpy(images).float() / 127.5 - 1)).square().mean()
    assert -10 * torch.log10(error / 4) > 21.0  # dB


def test_layout_marks_objects_and_roles() -> None:
    scene = sample_scene(np.random.default_rng(3), predicate="above", resolution=64)
    rows = scene_layout(scene).reshape(LAYOUT_ROWS, 8, 8)
    subject, predicate, object_ = scene.relationships[0]
    first = len(OBJECT_NAMES) + PREDICATES.index(predicate)
    as_subject, as_object = rows[first], rows[first + len(PREDICATES)]
    assert (as_subject == rows[OBJECT_NAMES.index(scene.objects[subject])]).all()
    assert (as_object == rows[OBJECT_NAMES.index(scene.objects[object_])]).all()
    assert as_subject.any(1).argmax() < as_object.any(1).argmax()  # above is above
    assert rows.any((1, 2)).sum() == 4  # two objects, one subject, one object


def test_learning_rate_warms_up_stays_and_falls() -> None:
    config = TrainBaseConfig(steps=1000, warmup_steps=100, decay_share=0.2)
    factors = [learning_rate_factor(step, config) for step in (0, 99, 500, 800, 900, 999)]
    assert factors == pytest.approx([0.01, 1.0, 1.0, 1.0, 0.5, 0.005])


def test_recipe_resumes_and_plain_diffusers_draws(tmp_path: Path) -> None:
    straight = train_base(_config(tmp_path / "straight"))
    assert latest_checkpoint(tmp_path / "straight") == tmp_path / "straight/step4.pt"

    # The same in two sittings: what is there already is not made again.
    stopped = _config(tmp_path / "stopped")
    stopped.output_dir.mkdir()
    for name in ("scenes.npz", "vae"):
        (stopped.output_dir / name).symlink_to(tmp_path / "straight" / name)
    halfway = stopped.output_dir / "step2.pt"
    _stop_after(stopped, halfway)
    assert train_base(stopped).is_dir()
    one, other = (
        torch.load(tmp_path / name / "step4.pt", weights_only=True)
        for name in ("straight", "stopped")
    )
    for key, value in one["average"].items():
        assert torch.equal(value, other["average"][key]), key

    pipeline = FluxPipeline.from_pretrained(straight)
    dead = slice(LIVE_DIMENSIONS, None)  # what the noise in unused channels must not reach
    assert not pipeline.transformer.x_embedder.weight[:, dead].any()
    assert not pipeline.transformer.proj_out.weight[dead].any()
    assert not pipeline.transformer.proj_out.bias[dead].any()
    assert not pipeline.vae.decoder.conv_in.weight[:, LIVE_CHANNELS:].any()
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "a photo of dog above box",
        height=64,
        width=64,
        num_inference_steps=1,
        guidance_scale=0.0,
        max_sequence_length=24,
        output_type="np",
    ).images
    assert drawn.shape == (1, 64, 64, 3)
    assert np.isfinite(drawn).all()


def _stop_after(config: TrainBaseConfig, checkpoint: Path) -> None:
    """Train until ``checkpoint`` is there, then stop as a user would."""

    save = recipe._save_checkpoint

    def save_and_stop(state: dict[str, object], folder: Path, step: int) -> None:
        save(state, folder, step)
        if folder / f"step{step}.pt" == checkpoint:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_base(config)


def test_scenes_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    images, captions, layouts = make_scenes(TrainBaseConfig(output_dir=first, scenes=6, seed=5))
    again = make_scenes(TrainBaseConfig(output_dir=second, scenes=6, seed=5))
    assert images.shape == (6, 64, 64, 3)
    assert captions.shape == (6, 4)
    assert layouts.shape == (6, LAYOUT_ROWS, 8)
    for one, other in zip((images, captions, layouts), again, strict=True):
        assert (one == other).all()
