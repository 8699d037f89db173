"""Sampling: the base is diffusers' own, a seed is a noise, and the graph has its say.

If one of these failed, the base's pictures would differ from diffusers', a seed would not fix the
noise, or a graph would have no effect.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from sgflux.bases.flux1.load import load_text_encoders
from sgflux.bases.flux1.schedule import FluxScheduler
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle import recommend_drawing
from sgflux.sampling import SampleConfig, SceneGraphFluxPipeline, sample
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.settings.model_source import ModelSource
from tests.helpers.adapters import noisy, with_identity, write_adapter
from tests.helpers.flux import MAX_SEQUENCE_LENGTH, make_flux_folder

RIDING = SceneGraph.parse("man, riding, horse")
RIDDEN = SceneGraph.parse("horse, riding, man")
BOTH = SceneGraph.parse("man, riding, horse; man, wearing, hat")
PROMPT = "a photo of man and horse"


def by_diffusers(
    model_id: Path, prompts: list[str], seeds: list[int], *, steps: int, output_type: str
) -> np.ndarray:
    plain = FluxPipeline.from_pretrained(model_id)
    plain.set_progress_bar_config(disable=True)
    images = plain(
        prompts,
        height=64,
        width=64,
        num_inference_steps=steps,
        max_sequence_length=MAX_SEQUENCE_LENGTH,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        output_type=output_type,
    ).images
    return images.numpy() if isinstance(images, torch.Tensor) else images


def test_the_base_is_bit_for_bit_diffusers_pipeline(
    model_id: Path, base: SceneGraphFluxPipeline, pipe: SceneGraphFluxPipeline
) -> None:
    prompts, seeds = [PROMPT, "a photo of cat near tree"], [3, 4]
    expected = by_diffusers(model_id, prompts, seeds, steps=3, output_type="latent")
    without = base(None, prompts, num_inference_steps=3, seed=seeds, output_type="latent")
    disabled = pipe(
        None, prompts, num_inference_steps=3, seed=seeds, use_adapter=False, output_type="latent"
    )
    assert np.array_equal(without.images.numpy(), expected)
    assert np.array_equal(disabled.images.numpy(), expected), "the adapter leaks into the base"


def test_the_base_decodes_as_diffusers_does(model_id: Path, base: SceneGraphFluxPipeline) -> None:
    expected = by_diffusers(model_id, [PROMPT], [7], steps=2, output_type="np")
    found = base(None, PROMPT, num_inference_steps=2, seed=7, output_type="np")
    assert np.allclose(found.images, expected, atol=1e-6)
    (picture,) = base(None, PROMPT, num_inference_steps=2, seed=7).images
    assert picture.size == (64, 64)
    assert np.abs(np.asarray(picture) / 255 - expected[0]).max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize("guidance_embeds", [False, True])
def test_a_shifting_scheduler_and_guidance_are_those_of_diffusers(
    tmp_path: Path, guidance_embeds: bool
) -> None:
    """FLUX.1-dev: sigmas shifted by the picture's size, a guidance of 3.5 told to the model."""
    folder = make_flux_folder(tmp_path / "dev", guidance_embeds=guidance_embeds)
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0).save_pretrained(
        folder / "scheduler"
    )
    expected = by_diffusers(folder, [PROMPT], [1], steps=3, output_type="latent")
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(folder))
    found = pipeline(None, PROMPT, num_inference_steps=3, seed=1, output_type="latent")
    assert np.array_equal(found.images.numpy(), expected)
    if not guidance_embeds:
        with pytest.raises(SgfluxError, match="guidance"):
            pipeline(None, PROMPT, seed=1, guidance=3.5)


def test_a_step_with_new_noise_is_that_of_diffusers_stochastic_scheduler() -> None:
    for settings in ({"shift": 3.0}, {"shift": 1.0}):
        theirs = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True, **settings)
        ours = FluxScheduler(FlowMatchEulerDiscreteScheduler(**settings))
        schedule = ours.schedule(4, image_tokens=16, device=torch.device("cpu"))
        theirs.set_timesteps(sigmas=np.linspace(1, 1 / 4, 4))
        latents = expected = torch.randn(2, 16, 8, 8)
        for number, timestep in enumerate(theirs.timesteps):
            velocity = torch.randn_like(latents)
            generators = [torch.Generator().manual_seed(number) for _ in range(2)]
            noise = randn_tensor(latents.shape, generator=generators[0])
            latents = schedule.step(number, latents, velocity, noise)
            expected = theirs.step(velocity, timestep, expected, generator=generators[1])[0]
            torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(SgfluxError, match=r"draw with sgflux's own stochastic_sampling"):
        FluxScheduler(theirs).schedule(4, image_tokens=16, device=torch.device("cpu"))


def test_new_noise_in_each_step_follows_from_the_seed(
    base: SceneGraphFluxPipeline, pipe: SceneGraphFluxPipeline
) -> None:
    """It depends on neither the batch nor the arm, and one step has none."""

    def drawn(pipeline: SceneGraphFluxPipeline, seeds: list[int], **settings: Any) -> torch.Tensor:
        images = pipeline(
            None, [PROMPT] * len(seeds), seed=seeds, output_type="latent", **settings
        ).images
        assert isinstance(images, torch.Tensor)
        return images

    own: dict[str, Any] = {"num_inference_steps": 3, "stochastic_sampling": True}
    together = drawn(base, [1, 2], **own)
    for row, seed in enumerate((1, 2)):
        assert torch.allclose(together[row], drawn(base, [seed], **own)[0], atol=1e-4)
    assert torch.equal(together, drawn(pipe, [1, 2], use_adapter=False, **own))
    plain = drawn(base, [1, 2], num_inference_steps=3)
    assert torch.equal(plain, drawn(base, [1, 2], num_inference_steps=3, stochastic_sampling=False))
    assert not torch.allclose(together, plain, atol=1e-2)
    once: dict[str, Any] = {"num_inference_steps": 1}
    torch.testing.assert_close(
        drawn(base, [1], stochastic_sampling=True, **once), drawn(base, [1], **once)
    )
    generator = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    again = base(None, [PROMPT] * 2, generator=generator, output_type="latent", **own).images
    assert torch.equal(torch.as_tensor(again), together)


def test_what_an_adapter_recommends_is_drawn_unless_the_caller_says_otherwise(
    model_id: Path, adapter: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(adapter, tmp_path / "recommends"))
    recommend_drawing(own, RecommendedDrawing(steps=2, stochastic_sampling=True))
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(model_id), adapter=own)

    def drawn(**settings: Any) -> Any:
        return pipeline(RIDING, PROMPT, seed=1, output_type="np", **settings).images

    assert np.array_equal(drawn(), drawn(num_inference_steps=2, stochastic_sampling=True))
    assert not np.array_equal(drawn(), drawn(stochastic_sampling=False))
    record: dict[str, Any] = {"graph": RIDING, "prompt": PROMPT, "seed": 1, "steps": None}
    assert pipeline.record(**record)["stochastic_sampling"] is True
    assert "stochastic_sampling" not in pipeline.record(**record, stochastic_sampling=False)


def test_a_generator_draws_the_noise_as_in_diffusers(base: SceneGraphFluxPipeline) -> None:
    by_seed = base(None, PROMPT, num_inference_steps=1, seed=5, output_type="latent")
    generator = torch.Generator("cpu").manual_seed(5)
    drawn = base(None, PROMPT, num_inference_steps=1, generator=generator, output_type="latent")
    assert torch.equal(by_seed.images, drawn.images)
    assert (by_seed.seeds, drawn.seeds) == ((5,), None)


def test_the_graph_its_direction_and_the_lora_change_the_picture(
    pipe: SceneGraphFluxPipeline,
) -> None:
    pictures = pipe.sample_batch(
        [RIDING, RIDDEN, None, RIDING], [PROMPT] * 4, [1, 1, 1, 1], steps=2
    )
    base = pipe.sample_batch(None, [PROMPT], [1], steps=2, use_adapter=False)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (4, 64, 64, 3)
    riding, ridden, null, again = pictures
    assert np.array_equal(riding, again)
    for other in (ridden, null):
        assert not np.array_equal(riding, other)
    assert not np.array_equal(null, base[0]), "LoRA is on without a graph, too"


def test_a_picture_does_not_depend_on_its_batch(pipe: SceneGraphFluxPipeline) -> None:
    graphs = [RIDING, None, BOTH]
    prompts = [PROMPT, "a photo of cat", "a photo of man and horse and hat"]
    together = pipe(graphs, prompts, seed=[1, 2, 3], num_inference_steps=2, output_type="latent")
    for index, seed in enumerate((1, 2, 3)):
        alone = pipe(
            graphs[index],
            prompts[index],
            seed=seed,
            num_inference_steps=2,
            output_type="latent",
        )
        assert torch.allclose(together.images[index], alone.images[0], atol=1e-4)


def test_graph_scale_goes_from_no_graph_to_the_graph_and_beyond(
    pipe: SceneGraphFluxPipeline,
) -> None:
    """v_null + w (v_graph - v_null), after one step: latents are linear in w."""

    def latents(graph: SceneGraph | None, scale: float = 1.0) -> torch.Tensor:
        images = pipe(
            graph,
            PROMPT,
            seed=1,
            num_inference_steps=1,
            graph_scale=scale,
            output_type="latent",
        ).images
        assert isinstance(images, torch.Tensor)
        return images

    null, graph = latents(None), latents(RIDING)
    assert torch.allclose(latents(RIDING, 0.0), null, atol=1e-5)
    assert torch.allclose(latents(RIDING, 2.5), null + 2.5 * (graph - null), atol=1e-4)


def test_inputs_are_paired(pipe: SceneGraphFluxPipeline) -> None:
    one_text = pipe("man, riding, horse", num_inference_steps=1, seed=0)
    assert one_text.prompts == (PROMPT,), "no prompt means the neutral one"
    two_graphs = pipe([RIDING, RIDDEN], PROMPT, num_inference_steps=1, seed=4)
    assert two_graphs.prompts == (PROMPT, PROMPT)
    assert two_graphs.seeds == (4, 5)
    assert len(pipe(RIDING, ["a", "b"], num_inference_steps=1).images) == 2


def test_nothing_is_remembered_between_calls(pipe: SceneGraphFluxPipeline) -> None:
    first = pipe(RIDING, seed=1, num_inference_steps=2, output_type="latent").images
    pipe(None, PROMPT, seed=2, num_inference_steps=3, use_adapter=False)
    pipe(BOTH, seed=3, num_inference_steps=1, graph_scale=2.0)
    again = pipe(RIDING, seed=1, num_inference_steps=2, output_type="latent").images
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither a graph nor a prompt"),
        ({"graph": [RIDING, RIDDEN], "prompt": ["a", "b", "c"]}, "do not go together"),
        ({"graph": RIDING, "use_adapter": False}, "no effect without the adapter"),
        ({"prompt": "a", "graph_scale": 2.0}, "graph_scale"),
        ({"prompt": "a", "num_inference_steps": 0}, "steps"),
        ({"prompt": "a", "height": 60}, "multiples of 8"),
        ({"prompt": "a", "seed": [1, 2]}, "2 seeds for 1"),
        ({"prompt": "a", "seed": 1, "generator": torch.Generator()}, "not both"),
        ({"prompt": "a", "generator": [torch.Generator()] * 2}, "2 generators"),
        ({"graph": "man, rideing, horse"}, "unknown predicate 'rideing'; nearest known: 'riding'"),
        ({"graph": SceneGraph.parse("man, rideing, horse")}, "unknown predicate 'rideing'"),
        ({"graph": '[["man", "rideing", "horse"]]'}, "unknown predicate 'rideing'"),
        ({"graph": ["man", "riding", "horse"]}, "graph 'man': statement 1"),
        ({"graph": 3}, "got int"),
        ({"graph": {"objects": ["man"]}}, "missing"),
        ({"graph": RIDING, "graph_scale": float("nan")}, "graph_scale must be a finite number"),
        ({"graph": RIDING, "graph_scale": float("inf")}, "graph_scale must be a finite number"),
        ({"prompt": "a", "seed": 2**64}, "between -2^63 and 2^64 - 1"),
        ({"prompt": ["a", "b"], "seed": 2**64 - 1}, "seed of picture 2 from 1844"),
        ({"prompt": "a", "seed": 1.5}, "seeds must be whole numbers"),
        ({"prompt": "a", "seed": ["x"]}, "seeds must be whole numbers"),
        ({"prompt": "a", "num_inference_steps": 1.5}, "whole number"),
    ],
)
def test_impossible_calls_are_refused(
    pipe: SceneGraphFluxPipeline, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SgfluxError, match=re.escape(message)):
        pipe(**arguments)  # type: ignore[arg-type]


def test_graphs_in_any_form_and_seeds_of_any_kind(pipe: SceneGraphFluxPipeline) -> None:
    settings = {"num_inference_steps": 1, "output_type": "latent"}
    expected = pipe(RIDING, seed=7, **settings)
    forms = (
        RIDING.to_json(),
        '{"objects": ["man", "horse"], "relationships": [[0, "ride", 1]]}',
        '[["man", "is riding a", "horse"]]',
    )
    for form in forms:
        for seed in (np.int64(7), np.array(7), np.array([7]), [np.uint32(7)]):
            found = pipe(form, seed=seed, **settings)
            assert torch.equal(found.images, expected.images), (form, seed)
            assert found.seeds == (7,)
            assert type(found.seeds[0]) is int, "NumPy's numbers do not go into JSON"
    largest = pipe(RIDING, seed=2**64 - 1, **settings)
    assert largest.seeds == (2**64 - 1,)
    generator = torch.Generator().manual_seed(2**64 - 1)
    assert torch.equal(largest.images, pipe(RIDING, generator=generator, **settings).images)


def test_any_word_is_drawn_where_that_is_asked_for(pipe: SceneGraphFluxPipeline) -> None:
    kicking = DEFAULT_VOCABULARY.with_predicate("kicking", kind="action")
    settings = {"num_inference_steps": 1, "output_type": "latent", "seed": 1}
    first = pipe("man, kicking, ball", open_vocabulary=True, **settings)
    second = pipe("man, is kicking a, ball", vocabulary=kicking, **settings)
    assert torch.equal(first.images, second.images)


def test_lists_of_different_length_are_refused(pipe: SceneGraphFluxPipeline) -> None:
    with pytest.raises(SgfluxError, match="2 graphs, 1 prompts and 1 seeds"):
        pipe.sample_batch([RIDING, RIDDEN], [PROMPT], [1])


def test_an_adapter_needs_its_own_base_and_a_graph_an_adapter(
    tmp_path: Path, adapter: Path, base: SceneGraphFluxPipeline
) -> None:
    other = make_flux_folder(tmp_path / "other", seed=5, num_layers=6)
    with pytest.raises(SgfluxError, match="another base"):
        SceneGraphFluxPipeline.from_pretrained(str(other), adapter=adapter)
    with pytest.raises(SgfluxError, match="no effect without the adapter"):
        base(RIDING, seed=1)
    with pytest.raises(SgfluxError, match="no adapter was loaded"):
        base(None, PROMPT, use_adapter=True)


def test_the_fingerprint_is_that_of_the_weights(
    tmp_path: Path, model_id: Path, adapter: Path, pipe: SceneGraphFluxPipeline
) -> None:
    copy = write_adapter(tmp_path / "copy", model_id)
    other = write_adapter(tmp_path / "other", model_id, seed=1)
    load = SceneGraphFluxPipeline.from_pretrained
    assert load(str(model_id), adapter=copy).adapter_fingerprint == pipe.adapter_fingerprint
    assert load(str(model_id), adapter=other).adapter_fingerprint != pipe.adapter_fingerprint


def test_bf16_draws_nearly_the_same(model_id: Path, adapter: Path) -> None:
    load = SceneGraphFluxPipeline.from_pretrained
    full = load(str(model_id), adapter=adapter)
    half = load(str(model_id), adapter=adapter, dtype=torch.bfloat16)
    images = [
        one.sample_batch([RIDING], [PROMPT], [1], steps=2).astype(float) for one in (full, half)
    ]
    assert np.abs(images[0] - images[1]).mean() < 6
    assert half.model is not None
    text = load_text_encoders(ModelSource(model_id=str(model_id)), dtype=torch.bfloat16)
    assert text.encode([PROMPT])["hidden"].dtype == torch.bfloat16


def test_peft_casts_no_input_while_autocast_does(
    model_id: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture has the bits that it has with both casts, and afterwards peft casts again."""
    half = SceneGraphFluxPipeline.from_pretrained(
        str(model_id), adapter=adapter, dtype=torch.bfloat16
    )
    assert half.model is not None
    layers = half.model.lora_layers().values()
    with half.mixed_precision():
        assert not any(layer.cast_input_dtype_enabled for layer in layers)
    assert all(layer.cast_input_dtype_enabled for layer in layers)
    picture = half(RIDING, PROMPT, seed=1, output_type="latent").images
    monkeypatch.setattr(
        "sgflux.sampling.integration.disable_input_dtype_casting",
        lambda _: contextlib.nullcontext(),
    )
    assert torch.equal(half(RIDING, PROMPT, seed=1, output_type="latent").images, picture)


def test_the_command_writes_pictures_that_say_how_they_were_made(
    tmp_path: Path, model_id: Path, adapter: Path, pipe: SceneGraphFluxPipeline
) -> None:
    config = SampleConfig.from_flat(
        graph=("man, ride, horse",),
        adapter=adapter,
        model_id=str(model_id),
        output_dir=tmp_path / "out",
        num_images=3,
        batch_size=2,
        seed=10,
        steps=2,
        compare=True,
        device="cpu",
    )
    *paths, sheet = sample(config)
    assert len(paths) == 9
    assert sheet.name == "contact_sheet.png"
    picture, info = read_picture(tmp_path / "out" / "000-seed11.png")
    assert info["graph"] == RIDING.to_json(), "an alias becomes the canonical predicate"
    assert (info["prompt"], info["seed"], info["steps"]) == (PROMPT, 11, 2)
    assert info["adapter"] == pipe.adapter_fingerprint
    again = pipe.sample_batch([RIDING], [PROMPT], [11], steps=2)[0]
    assert np.abs(picture.astype(int) - again).max() <= 1
    _, base_info = read_picture(tmp_path / "out" / "002-seed11.png")
    assert base_info["adapter"] is None
    assert base_info["seed"] == 11, "the same noise in every row"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to draw"),
        ({"graph": ("a, on, b",)}, "needs an adapter"),
        ({"prompt": "a", "compare": True}, "compare"),
        ({"prompt": "a", "num_images": 0}, "num_images"),
        ({"prompt": "a", "graph_scale": 2.0}, "graph_scale"),
        ({"graph": ("a, on, b",), "adapter": Path("x"), "graph_scale": float("nan")}, "finite"),
        ({"prompt": "a", "seed": 2**64 - 1}, "seed of picture 4"),
        ({"prompt": "a", "vocabulary": Path("words.json")}, "vocabulary .* has no effect"),
        ({"graph_file": Path("graphs.json")}, "needs an adapter"),
    ],
)
def test_commands_without_effect_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SgfluxError, match=message):
        SampleConfig.from_flat(**settings)  # type: ignore[arg-type]


def test_offloading_to_the_cpu_is_refused_before_the_base_is_read(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match="offload_blocks has no effect on the CPU"):
        SceneGraphFluxPipeline.from_pretrained(tmp_path / "no base", offload_blocks=True)


def test_an_unknown_predicate_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    config = SampleConfig.from_flat(
        graph=("man, kicking, ball",), adapter=tmp_path, model_id="no-such-model"
    )
    with pytest.raises(SgfluxError, match="kicking"):
        sample(config)


def test_graphs_come_from_a_file_and_long_rows_are_wrapped(
    tmp_path: Path, model_id: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = [
        {"objects": ["man", "horse"], "relationships": [[0, "mounting", 1], [0, "ride", 1]]},
        "man, wears, hat",
    ]
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    (tmp_path / "words.json").write_text('{"aliases": {"mounting": "riding"}}')
    *paths, sheet = sample(
        SampleConfig.from_flat(
            graph=("cup, above, table",),
            graph_file=tmp_path / "graphs.json",
            vocabulary=tmp_path / "words.json",
            adapter=adapter,
            model_id=str(model_id),
            output_dir=tmp_path / "out",
            num_images=14,
            batch_size=14,
            steps=1,
            device="cpu",
        )
    )
    assert len(paths) == 3 * 14
    assert read_picture(tmp_path / "out" / "001-seed0.png")[1]["graph"] == RIDING.to_json()
    assert "graph 1: 1 repeated statement" in capsys.readouterr().out
    with Image.open(sheet) as image:
        # Rows of 12 and 2 pictures, three times.
        assert image.width < 13 * 210
        assert image.height > 6 * 192


# --- the adapter's own base ---------------------------------------------------------------------


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "text_encoder_2", "vae"])
def test_a_base_that_only_looks_like_the_adapters_is_refused_and_named(
    tmp_path: Path, model_id: Path, adapter: Path, part: str
) -> None:
    own = SceneGraphFluxPipeline.from_pretrained(str(model_id)).base_identity
    assert own is not None
    bundle = with_identity(adapter, tmp_path / "bundle", own)
    plain = SceneGraphFluxPipeline.from_pretrained(str(model_id), adapter=bundle)
    assert plain.base_check is not None
    assert plain.base_check.status == "same"

    other = noisy(model_id, tmp_path / "noisy", part)
    with pytest.raises(SgfluxError, match=rf"{part} differs: adapter \w{{12}}, here \w{{12}}\. If"):
        SceneGraphFluxPipeline.from_pretrained(str(other), adapter=bundle)
    pipeline = SceneGraphFluxPipeline.from_pretrained(
        str(other), adapter=bundle, allow_other_base=True
    )
    settings: dict[str, Any] = {"graph": RIDING, "prompt": PROMPT, "seed": 1, "steps": 1}
    record = pipeline.record(**settings)
    assert record["base_check"]["status"] == "other"
    assert record["base_check"]["difference"] == [part]
    assert record["base"] != plain.record(**settings)["base"]
    # Without the adapter nothing is at odds, and the picture is still tied to its base.
    record = pipeline.record(**{**settings, "graph": None}, use_adapter=False)
    assert record["base_check"] is None
    assert record["base"] == identity_json(pipeline)


def test_sizes_must_fit_even_where_another_base_is_allowed(
    tmp_path: Path, model_id: Path, adapter: Path
) -> None:
    other = make_flux_folder(tmp_path / "other", seed=5, num_layers=6)
    with pytest.raises(SgfluxError, match="num_layers is 8 for the adapter and 6 for this"):
        SceneGraphFluxPipeline.from_pretrained(str(other), adapter=adapter, allow_other_base=True)


def test_an_adapter_of_before_loads_with_one_warning(
    model_id: Path, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(model_id), adapter=adapter)
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{adapter}: base not verified: the adapter was saved without its base's identity"
    ]
    assert pipeline.base_check is not None
    assert pipeline.base_check.status == "unverified"


def test_the_base_is_the_same_however_it_is_loaded(model_id: Path, tmp_path: Path) -> None:
    plain = SceneGraphFluxPipeline.from_pretrained(str(model_id))
    offloaded = SceneGraphFluxPipeline.from_pretrained(
        str(model_id), dtype=torch.bfloat16, offload_blocks=True, offload_folder=tmp_path
    )
    assert identity_json(offloaded) == identity_json(plain)


def identity_json(pipeline: SceneGraphFluxPipeline) -> dict[str, str]:
    assert pipeline.base_identity is not None
    return pipeline.base_identity.to_json()


def test_a_word_that_cannot_be_read_stops_before_the_first_picture(
    model_id: Path, adapter: Path, tmp_path: Path
) -> None:
    config = SampleConfig.from_flat(
        graph=("man, riding, horse", "man, " + "riding " * 40 + ", horse"),
        adapter=adapter,
        model_id=str(model_id),
        open_vocabulary=True,
        steps=1,
        output_dir=tmp_path / "out",
    )
    with pytest.raises(SgfluxError, match="tokens, the text encoder reads at most 32"):
        sample(config)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.png"))
