"""The recipe of tiny-flux, at a toy size: what it writes, and that plain diffusers can use it.

If one of these failed, the recipe would write a folder that plain diffusers cannot load.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from sgflux.errors import SgfluxError
from sgflux.flow_matching import inference_sigmas
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, WorldScene, sample_scene
from sgflux.world.shapes import shapes_of
from sgflux.world.tiny_flux import distillation as base_distillation
from sgflux.world.tiny_flux import recipe as base_recipe
from sgflux.world.tiny_flux import training as base_training
from sgflux.world.tiny_flux.config import TrainBaseConfig
from sgflux.world.tiny_flux.distillation import Teacher, distil, start_states
from sgflux.world.tiny_flux.model import (
    LIVE_CHANNELS,
    LIVE_DIMENSIONS,
    SHIFT,
    CaptionedFlux,
    LinearCode,
)
from sgflux.world.tiny_flux.recipe import train_base
from sgflux.world.tiny_flux.scenes import (
    LAYOUT_ROWS,
    caption_roles,
    make_scenes,
    scene_captions,
    scene_layout,
    shares_an_object,
)
from sgflux.world.tiny_flux.training import CaptionTable, learning_rate_factor

pytestmark = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="the recipe needs torch >= 2.9"
)


def _config(folder: Path, **settings: object) -> TrainBaseConfig:
    toy = {
        "output_dir": folder,
        "scenes": 40,
        "device": "cpu",
        "vae_steps": 2,
        "vae_batch_size": 2,
        "max_steps": 4,
        "distill_steps": 4,
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


def test_roles_follow_the_words_of_a_caption() -> None:
    roles = caption_roles("a photo of man in front of box and box near cup")
    # tokens: a photo of man in front of box and box near cup
    subject_of, object_of = PREDICATES.index, lambda name: len(PREDICATES) + PREDICATES.index(name)
    expected = {
        (3, subject_of("in front of")),
        (7, object_of("in front of")),
        (9, subject_of("around/near")),
        (11, object_of("around/near")),
    }
    assert {tuple(place) for place in np.argwhere(roles)} == expected
    assert not caption_roles("a photo of man and box").any()


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
    factors = [
        learning_rate_factor(step, 1000, warmup=100, decay=0.2)
        for step in (0, 99, 500, 800, 900, 999)
    ]
    assert factors == pytest.approx([0.01, 1.0, 1.0, 1.0, 0.5, 0.005])


def test_recipe_resumes_and_plain_diffusers_draws(tmp_path: Path) -> None:
    straight = train_base(_config(tmp_path / "straight"))

    # The same in three sittings: what is there already is not made again.
    stopped = _config(tmp_path / "stopped")
    stopped.output_dir.mkdir()
    for name in ("scenes.npz", "vae"):
        (stopped.output_dir / name).symlink_to(tmp_path / "straight" / name)
    _stop_after_saving(stopped, base_training, "transformer.pt")
    _stop_after_saving(stopped, base_distillation, "distilled.pt")
    halfway = torch.load(stopped.output_dir / "distilled.pt", weights_only=True)
    assert halfway["step"] == 2
    assert train_base(stopped).is_dir()
    for checkpoint in ("transformer.pt", "distilled.pt"):
        one, other = (
            torch.load(tmp_path / name / checkpoint, weights_only=True)
            for name in ("straight", "stopped")
        )
        for key, value in one["average"].items():
            assert torch.equal(value, other["average"][key]), (checkpoint, key)
    before, after = (
        torch.load(tmp_path / "straight" / name, weights_only=True)["average"]
        for name in ("transformer.pt", "distilled.pt")
    )
    assert any(not torch.equal(before[f"transformer.{key}"], after[key]) for key in after)

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


@pytest.mark.parametrize(
    ("made", "changes", "named"),
    [
        ("scenes.npz", {"seed": 7}, "scenes.npz there were made with other settings (seed: 0"),
        ("scenes.npz", {"scenes": 90}, "(scenes: 40 in recipe.json, 90 now)"),
        ("vae", {"twins": 0.5}, "twins: 0.0 in recipe.json, 0.5 now"),
        ("scenes.npz", {"hold_out_shapes": ("star of 3",)}, "hold_out_shapes: () in recipe.json"),
        ("transformer.pt", {"lr": 0.5}, "(lr: 0.001 in recipe.json, 0.5 now)"),
        ("distilled.pt", {"guidance": 4.0}, "distilled.pt there were made with other settings"),
        ("distilled.pt", {"max_steps": 9}, "(max_steps: 4 in recipe.json, 9 now)"),
        ("vae", {"distill_steps": 9}, "(distill_steps: 4 in recipe.json, 9 now)"),
        ("vae", {"vae_steps": 9}, "vae there were made with other settings (vae_steps: 2"),
        ("transformer.pt", {"max_steps": 2}, "has 3 steps behind it, more than the 2"),
        ("distilled.pt", {"distill_steps": 2}, "has 3 steps behind it, more than the 2"),
    ],
)
def test_results_of_other_settings_are_refused(
    tmp_path: Path, made: str, changes: dict[str, Any], named: str
) -> None:
    before = _begun(tmp_path, made)
    with pytest.raises(SgfluxError, match=re.escape(named)):
        train_base(_config(tmp_path, **changes))
    assert (tmp_path / "recipe.json").read_text() == before


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        ("vae", {"threads": 0, "save_every": 9, "compile": True}),
        ("scenes.npz", {"lr": 0.5, "guidance": 4.0, "vae_steps": 9}),
        ("transformer.pt", {"max_steps": 9, "guidance": 4.0}),
        ("transformer.pt", {"max_steps": 3, "distill_steps": 0}),
        ("distilled.pt", {"distill_steps": 9, "vae_steps": 9}),
    ],
)
def test_settings_of_later_stages_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, changes: dict[str, Any]
) -> None:
    class ScenesMadeError(Exception):
        pass

    def make_no_scenes(config: TrainBaseConfig) -> None:
        raise ScenesMadeError

    _begun(tmp_path, made)
    monkeypatch.setattr(base_recipe, "make_scenes", make_no_scenes)
    with pytest.raises(ScenesMadeError):
        train_base(_config(tmp_path, **changes))
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert all(recipe[name] == str(value) for name, value in changes.items())


def _begun(folder: Path, made: str) -> str:
    """Make the result of one stage, and the recipe of a sgflux without twins; returns its text."""
    if made == "vae":
        (folder / made).mkdir()
    else:
        torch.save({"step": 3}, folder / made)
    recipe = {key: str(value) for key, value in vars(_config(folder)).items() if key != "twins"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return json.dumps(recipe)


def test_recipe_goes_on_from_a_pipeline(tmp_path: Path) -> None:
    first = train_base(_config(tmp_path / "first"))
    config = _config(tmp_path / "second", start_from=first, lr=0.0, muon_lr=0.0, vae_steps=1)
    second = train_base(config)
    one, other = (
        FluxPipeline.from_pretrained(folder).transformer.state_dict() for folder in (first, second)
    )
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
    assert torch.equal(LinearCode.load(first).basis, LinearCode.load(second).basis)
    with pytest.raises(SgfluxError, match="not made by this recipe"):
        train_base(_config(tmp_path / "third", start_from=tmp_path))


def test_text_stays_and_the_student_begins_where_it_is_told(tmp_path: Path) -> None:
    first = train_base(_config(tmp_path / "first"))
    config = _config(
        tmp_path / "second",
        start_from=first,
        max_steps=2,
        keep_text=True,
        distill_onto_start=True,
        distill_lr_share=0.0,
        vae_steps=1,
    )
    train_base(config)
    start = CaptionedFlux()
    start.load_pipeline(first)
    teacher, student = (
        torch.load(config.output_dir / name, weights_only=True)["average"]
        for name in ("transformer.pt", "distilled.pt")
    )
    moved = set()
    for key, value in start.state_dict().items():
        if not torch.equal(value, teacher[key]):
            moved.add(key.split(".")[0])
    assert moved == {"transformer", "layout_head", "role_head"}
    for key, value in start.transformer.state_dict().items():
        assert torch.equal(value, student[key]), key


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"keep_text": True}, "keep_text needs start_from"),
        ({"distill_onto_start": True}, "distill_onto_start needs start_from"),
        (
            {"distill_onto_start": True, "start_from": Path("x")},
            "distill_onto_start needs keep_text",
        ),
        ({"sharing_weight": 0.0}, "sharing_weight must be positive, got 0.0"),
        ({"distill_early_share": 1.5}, "distill_early_share must be between 0 and 1, got 1.5"),
        ({"scene_sizes": (0.5, 0.6)}, "up to 4 shares whose sum is 1, got"),
        ({"twins": 2.0}, "twins must be a share from 0 to 1, got 2.0"),
        ({"hold_out_shapes": ("star of 4",)}, "no scene of this world has the shape 'star of 4'"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, object], named: str) -> None:
    with pytest.raises(SgfluxError, match=named):
        train_base(_config(tmp_path / "base", **settings))
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(("share", "furthest"), [(0.0, 7), (1.0, 3)])
def test_trajectories_may_begin_anew_in_their_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, furthest: int
) -> None:
    monkeypatch.setattr(base_distillation, "BATCHES_A_WALK", 1)  # all move in every step
    monkeypatch.setattr(base_distillation, "WALK_SHARES", (1.0, 0.0))  # of eight steps
    reached = set()

    def keep(state: dict[str, Any], path: Path) -> None:
        reached.update(state["walks"][0]["positions"].tolist())

    monkeypatch.setattr(base_distillation, "save_checkpoint", keep)
    config = _config(tmp_path, distill_steps=9, save_every=1, distill_early_share=share)
    captions = np.array([["a photo of dog above box"] * 4])
    distil(config, CaptionedFlux(), captions)
    assert max(reached) == furthest


def test_scenes_that_share_an_object_are_drawn_oftener() -> None:
    apart, sharing = (
        "a photo of dog above box and cup on tree",
        "a photo of dog above box and box on tree",
    )
    captions = np.array([[apart] * 4, [sharing] * 4])
    table = CaptionTable.build(captions, CaptionedFlux(), sharing_weight=3.0)
    drawn = table.draw_scenes(4000, torch.Generator().manual_seed(0))
    assert float(drawn.float().mean()) == pytest.approx(0.75, abs=0.03)


def test_guidance_of_one_is_the_model_and_of_zero_ignores_the_caption() -> None:
    torch.manual_seed(0)
    model = CaptionedFlux().eval()
    states = start_states(2, torch.Generator().manual_seed(0))
    assert not states[..., LIVE_DIMENSIONS:].any()
    sigma = torch.tensor([1.0, 0.5])
    texts = model.tokenize(["a photo of dog above box", "a photo of box above dog"])
    told = Teacher(model, guidance=1.0, device="cpu").velocity(states, sigma, *texts)
    free = Teacher(model, guidance=0.0, device="cpu").velocity(states, sigma, *texts)
    twice = Teacher(model, guidance=2.0, device="cpu").velocity(states, sigma, *texts)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = model(states, sigma, *texts)[0].float()
    torch.testing.assert_close(told, plain, atol=1e-5, rtol=0)
    assert not torch.equal(free, told)
    torch.testing.assert_close(twice, told + (told - free))


def test_a_teacher_that_walks_one_step_and_two() -> None:
    torch.manual_seed(0)
    model = CaptionedFlux().eval()
    teacher = Teacher(model, guidance=3.0, device="cpu")
    texts = model.tokenize(["a photo of dog above box"])
    states = start_states(1, torch.Generator().manual_seed(1))
    levels = inference_sigmas(8, shift=SHIFT)[None, :3]
    one = teacher.walk(states, levels[:, :2], *texts)
    torch.testing.assert_close(one, teacher.velocity(states, levels[:, 0], *texts))
    middle = states + (levels[0, 1] - levels[0, 0]) * one
    after = middle + (levels[0, 2] - levels[0, 1]) * teacher.velocity(middle, levels[:, 1], *texts)
    both = teacher.walk(states, levels, *texts)
    torch.testing.assert_close(states + (levels[0, 2] - levels[0, 0]) * both, after)


def _stop_after_saving(config: TrainBaseConfig, module: ModuleType, checkpoint: str) -> None:
    """Train until a stage has written ``checkpoint`` once, then stop as a user would."""
    save = module.save_checkpoint

    def save_and_stop(state: dict[str, object], path: Path) -> None:
        save(state, path)
        if path.name == checkpoint:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_base(config)


def test_shapes_without_room_for_a_predicate_may_be_the_only_ones_of_a_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No scene of a base is drawn for one predicate, unlike the rows of a data set."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base_recipe, "make_scenes", stop)
    others = tuple(one.name for one in shapes_of(4, twins=False) if one.name != "star of 4")
    held_out = {"scene_sizes": (0.0, 0.0, 0.0, 1.0), "hold_out_shapes": others}
    with pytest.raises(KeyboardInterrupt):
        train_base(_config(tmp_path / "base", **held_out))
    monkeypatch.undo()
    config = TrainBaseConfig(output_dir=tmp_path, scenes=4, **held_out)
    assert len(make_scenes(config)[0]) == 4


def test_scenes_have_the_shapes_that_are_asked_for(tmp_path: Path) -> None:
    settings = {"scene_sizes": (0.0, 0.0, 0.2, 0.8), "twins": 0.5, "seed": 3, "scenes": 24}
    held_out = ("star of 4", "a, on, b; b, on, c; c, on, d; d, on, e")
    config = TrainBaseConfig(output_dir=tmp_path, hold_out_shapes=held_out, **settings)
    _, captions, _ = make_scenes(config)
    sizes = [int(caption_roles(str(row[0]), length=32).sum()) // 2 for row in captions]
    assert set(sizes) == {3, 4}
    with_twins = [row for row in captions if "another" in row[0]]
    assert 6 <= len(with_twins) <= 18
    for row in with_twins:
        assert "another" in row[1]
        assert not {"another", "first", "second"} & set(" ".join(row[2:]).split())
    for row in captions:
        words = re.findall("|".join(OBJECT_NAMES), str(row[0]))
        assert max(Counter(words).values()) < 4 or "another" in row[0], "no object is in all four"


def test_captions_tell_twins_apart() -> None:
    caption = "a photo of man near another dog and first dog on man and second dog above cup"
    roles = caption_roles(caption, length=32)
    words = caption.split()
    said = {
        (words[place], PREDICATES[role % 24], "object" if role >= 24 else "subject")
        for place, role in np.argwhere(roles)
    }
    assert said == {
        ("man", "around/near", "subject"),
        ("dog", "around/near", "object"),
        ("dog", "on", "subject"),
        ("man", "on", "object"),
        ("dog", "above", "subject"),
        ("cup", "above", "object"),
    }
    assert shares_an_object("a photo of dog on box and another dog above box")
    assert not shares_an_object("a photo of dog on box and another dog above cup")
    assert shares_an_object("a photo of dog on box and another dog above cup and second dog on man")


def test_new_words_take_no_embedding_from_others() -> None:
    """Weights of a tokenizer without "another" keep the embeddings of all of its words."""
    model = CaptionedFlux(text_length=32)
    before = model.t5.shared.weight.detach().clone()
    bundled = Path(str(resources.files("sgflux"))) / "assets/tiny-flux"
    model.load_pipeline(bundled)
    loaded = T5EncoderModel.from_pretrained(bundled, subfolder="text_encoder_2").shared.weight
    count = len(loaded)
    assert torch.equal(model.t5.shared.weight[:count], loaded)
    assert torch.equal(model.t5.shared.weight[count:], before[count:])
    assert torch.equal(model.t5.encoder.embed_tokens.weight, model.t5.shared.weight)
    known = PreTrainedTokenizerFast.from_pretrained(bundled, subfolder="tokenizer_2")
    words = ["dog", "horse", "near", "zebra", "##x"]
    assert model.tokenizer_2.convert_tokens_to_ids(words) == known.convert_tokens_to_ids(words)
    text = "a photo of dog in front of horse and another dog hanging from horse and second dog "
    text += "looking at cup and man playing with first dog"
    for ids, length in zip(model.tokenize([text]), (32, 32), strict=True):
        assert ids.shape == (1, length)
    with pytest.raises(SgfluxError, match="give a larger text_length"):
        CaptionedFlux().tokenize([text])


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


def test_captions_state_first_what_stands_nearer_to_the_top_left() -> None:
    scene = WorldScene(
        objects=("dog", "box", "cup", "hat"),
        relationships=((0, "left of", 1), (2, "on", 3)),
        boxes=((32, 40, 8, 8), (48, 40, 8, 8), (4, 4, 8, 8), (4, 12, 8, 8)),
        image=np.zeros((64, 64, 3), np.uint8),
    )
    *relational, first, second = scene_captions(scene, random.Random(0))
    assert set(relational) == {"a photo of cup on hat and dog left of box"}
    for neutral in (first, second):
        assert set(neutral.split()) == {*"a photo of and dog box cup hat".split()}


def test_captions_of_statements_that_share_an_object_come_in_any_order() -> None:
    scene = WorldScene(
        objects=("dog", "box", "cup"),
        relationships=((0, "left of", 1), (2, "on", 0)),
        boxes=((32, 40, 8, 8), (48, 40, 8, 8), (32, 20, 8, 8)),
        image=np.zeros((64, 64, 3), np.uint8),
    )
    ordered, reversed_ = (
        "a photo of cup on dog and dog left of box",
        "a photo of dog left of box and cup on dog",
    )
    drawn = [scene_captions(scene, random.Random(seed)) for seed in range(20)]
    assert {captions[0] for captions in drawn} == {ordered}
    assert {captions[1] for captions in drawn} == {ordered, reversed_}


def test_a_caption_comes_with_the_same_in_reading_order() -> None:
    captions = np.array(
        [["in order 1", "other 1", "neutral 1", "too 1"], ["in order 2", "other 2", "n 2", "too 2"]]
    )
    table = CaptionTable.build(captions, CaptionedFlux(), sharing_weight=1.0)
    scenes = torch.arange(200) % 2
    rows, told = table.draw(scenes, torch.Generator().manual_seed(0))
    seen = set()
    for scene, row, own in zip(scenes.tolist(), rows.tolist(), told.tolist(), strict=True):
        drawn = table.texts[row]
        seen.add(drawn)
        states_it = drawn in captions[scene, :2]
        assert table.texts[own] == (captions[scene, 0] if states_it else drawn)
    assert seen == {*captions.flat, ""}
