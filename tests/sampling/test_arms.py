"""One noise in several ways, and what a caller sees of each step.

If one of these failed, two pictures side by side would differ in more than the graph, a command to
copy would draw another picture, or a callback written for diffusers would see something else here.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image

from sgflux.cli import main
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import roles_swapped
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle import recommend_drawing
from sgflux.sampling import (
    Arm,
    SceneGraphFluxPipeline,
    draw_arms,
    picture_saliency,
    sample_command,
)
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from tests.helpers.flux import MAX_SEQUENCE_LENGTH

PROMPT = "a photo of man and horse"


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_swapped_roles_leave_symmetric_statements() -> None:
    graph = SceneGraph.parse("man, riding, horse; man, around/near, tree")
    swapped = roles_swapped(graph)
    assert swapped is not None
    assert swapped.objects == graph.objects
    assert swapped.relationships == ((1, "riding", 0), (0, "around/near", 2))
    assert roles_swapped(SceneGraph.parse("man, near, tree")) is None
    assert roles_swapped(SceneGraph.null()) is None
    # Two dogs that change places are the same picture.
    assert roles_swapped(SceneGraph.parse("dog, left of, cat; cat, left of, dog#2")) is None
    assert roles_swapped(SceneGraph.parse("dog, left of, cat; cat, above, dog#2")) is not None


def test_the_arms_are_those_of_separate_calls(pipe: SceneGraphFluxPipeline) -> None:
    drawn = {
        one.arm: one
        for one in draw_arms(
            pipe, "man, riding, horse", seed=3, num_inference_steps=2, graph_scale=2.0
        )
    }
    assert list(drawn) == [Arm.BASE, Arm.NO_GRAPH, Arm.GRAPH, Arm.SWAPPED]
    own: dict[str, Any] = {"num_inference_steps": 2, "seed": 3}
    expected = {
        Arm.BASE: pipe(None, PROMPT, use_adapter=False, **own),
        Arm.NO_GRAPH: pipe(None, PROMPT, **own),
        Arm.GRAPH: pipe("man, riding, horse", PROMPT, graph_scale=2.0, **own),
        Arm.SWAPPED: pipe("horse, riding, man", PROMPT, graph_scale=2.0, **own),
    }
    for arm, output in expected.items():
        assert np.array_equal(pixels(drawn[arm].image), pixels(output.images[0])), arm
        record = drawn[arm].record
        assert (record["seed"], record["prompt"]) == (3, PROMPT)
    assert len({pixels(one.image).tobytes() for one in drawn.values()}) == 4


def test_only_arms_that_mean_something_are_drawn(
    base: SceneGraphFluxPipeline, pipe: SceneGraphFluxPipeline
) -> None:
    def arms(pipeline: SceneGraphFluxPipeline, graph: str) -> list[Arm]:
        return [one.arm for one in draw_arms(pipeline, graph, seed=0, num_inference_steps=1)]

    assert arms(base, "man, riding, horse") == [Arm.BASE]
    assert arms(pipe, "(man)") == [Arm.BASE, Arm.NO_GRAPH]
    assert arms(pipe, "man, near, tree") == [Arm.BASE, Arm.NO_GRAPH, Arm.GRAPH]
    with pytest.raises(SgfluxError, match="symmetric"):
        list(draw_arms(pipe, "man, near, tree", seed=0, arms=[Arm.SWAPPED]))
    with pytest.raises(SgfluxError, match="unknown predicate 'ridding'"):
        list(draw_arms(pipe, "man, ridding, horse", seed=0))


@pytest.mark.parametrize("arm", [Arm.BASE, Arm.NO_GRAPH, Arm.GRAPH, Arm.SWAPPED])
@pytest.mark.parametrize("is_stochastic", [False, True])
def test_the_command_draws_the_same_picture(
    arm: Arm, is_stochastic: bool, pipe: SceneGraphFluxPipeline, adapter: Path, tmp_path: Path
) -> None:
    (one,) = draw_arms(
        pipe,
        "man, riding, horse",
        'a "photo" of $man',
        seed=5,
        arms=[arm],
        num_inference_steps=2,
        graph_scale=1.5,
        stochastic_sampling=is_stochastic,
    )
    words = shlex.split(sample_command(one.record, adapter=str(adapter)))
    assert words[0] == "sgflux"
    assert main([*words[1:], "--output-dir", str(tmp_path)]) == 0
    picture, info = read_picture(tmp_path / "000-seed5.png")
    assert np.array_equal(picture, pixels(one.image))
    assert info == one.record


def test_the_command_says_what_the_adapter_does_not_recommend(
    model_id: Path, adapter: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(adapter, tmp_path / "recommends"))
    recommended = RecommendedDrawing(steps=3, graph_scale=1.5, stochastic_sampling=True)
    recommend_drawing(own, recommended)
    pipe = SceneGraphFluxPipeline.from_pretrained(str(model_id), adapter=own)
    given: dict[str, Any] = {"graph_scale": 1.0, "stochastic_sampling": False}
    for number, settings in enumerate((given, {})):
        arms = [Arm.GRAPH]
        (one,) = draw_arms(pipe, "man, riding, horse", PROMPT, seed=5, arms=arms, **settings)
        assert one.record["steps"] == 3
        assert one.record.get("stochastic_sampling", False) is not bool(settings)
        words = shlex.split(sample_command(one.record, adapter=str(own)))
        assert main([*words[1:], "--output-dir", str(tmp_path / str(number))]) == 0
        picture, info = read_picture(tmp_path / str(number) / "000-seed5.png")
        assert np.array_equal(picture, pixels(one.image))
        assert info == one.record


def test_a_graph_without_a_text_form_is_in_the_command_as_json() -> None:
    graph = SceneGraph(objects=("man; old", "horse"), relationships=((0, "kicking", 1),))
    record = {
        **{"model": "tiny", "use_adapter": True, "graph": graph.to_json(), "prompt": ""},
        **{"steps": 8, "seed": 1, "graph_scale": 1.0, "guidance": None, "quantize": "none"},
        **{"height": 64, "width": 64, "dtype": "float32"},
    }
    words = shlex.split(sample_command(record, adapter="runs/a b/final"))
    assert SceneGraph.from_json(json.loads(words[words.index("--graph") + 1])) == graph
    assert "--open-vocabulary" in words
    assert words[words.index("--adapter") + 1] == "runs/a b/final"


def test_the_command_names_all_that_the_base_and_its_memory_need() -> None:
    record = {
        **{"model": "/m/flux.safetensors", "use_adapter": True, "graph": None, "prompt": "a dog"},
        **{"steps": 4, "seed": 1, "guidance": None, "quantize": "int8", "text_tokens": 128},
        **{"height": 64, "width": 64, "dtype": "bfloat16"},
    }
    source = ModelSource(
        model_id="/m/flux.safetensors", components="/m/rest", autoencoder=Path("/m/ae.safetensors")
    )
    memory = MemorySettings(quantize="int8", encoder_device="cpu")
    told: dict[str, Any] = {"adapter": "final", "source": source, "memory": memory}
    words = shlex.split(sample_command(record, allow_other_base=True, **told))
    assert "--components /m/rest --autoencoder /m/ae.safetensors" in " ".join(words)
    assert "--adapter final --allow-other-base" in " ".join(words)
    assert "--quantize int8" in " ".join(words)
    assert "--encoder-device cpu" in " ".join(words)
    assert "--max-sequence-length" not in words
    base = {**record, "use_adapter": False}
    words = shlex.split(sample_command(base, allow_other_base=True, **told))
    assert "--adapter" not in words
    assert "--allow-other-base" not in words
    assert words[words.index("--max-sequence-length") + 1] == "128"
    hub = ModelSource(model_id="user/flux", revision="v1", allow_download=True)
    words = shlex.split(sample_command(base, adapter=None, source=hub))
    assert "--revision v1 --allow-download" in " ".join(words)
    assert "--max-sequence-length" not in words  # which is the base's own


def test_in_bf16_the_base_is_that_without_an_adapter_to_the_bit(
    model_id: Path, adapter: Path
) -> None:
    """diffusers rounds the timestep to bf16, and an adapter is trained without that."""
    settings: dict[str, Any] = {"seed": 5, "num_inference_steps": 3, "stochastic_sampling": True}
    with_adapter = SceneGraphFluxPipeline.from_pretrained(
        str(model_id), adapter=adapter, dtype=torch.bfloat16
    )
    length = with_adapter.text_encoders.max_sequence_length
    alone = SceneGraphFluxPipeline.from_pretrained(
        str(model_id), dtype=torch.bfloat16, max_sequence_length=length
    )
    expected = alone(None, PROMPT, **settings).images[0]
    base = with_adapter(None, PROMPT, use_adapter=False, **settings).images[0]
    adapted = with_adapter(None, PROMPT, **settings).images[0]
    assert np.array_equal(pixels(base), pixels(expected))
    assert not np.array_equal(pixels(adapted), pixels(expected))


def test_a_record_says_how_many_tokens_the_text_has(model_id: Path) -> None:
    found = {}
    for length in (16, 24):
        pipe = SceneGraphFluxPipeline.from_pretrained(str(model_id), max_sequence_length=length)
        found[length] = pipe.record(graph=None, prompt=PROMPT, seed=5, steps=2)
    assert found[16]["text_tokens"] == 16
    assert {**found[24], "text_tokens": 16} == found[16]


# --- callbacks ------------------------------------------------------------------------------------


def test_a_callback_sees_what_diffusers_shows_it(
    model_id: Path, base: SceneGraphFluxPipeline
) -> None:
    """Number, timestep and packed latents of each step are those of the plain pipeline."""

    def recorded(seen: list[Any]) -> Any:
        def callback(_: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
            seen.append((step, float(timestep), given["latents"].clone()))
            return given

        return callback

    expected: list[Any] = []
    plain = FluxPipeline.from_pretrained(model_id)
    plain.set_progress_bar_config(disable=True)
    plain(
        [PROMPT],
        height=64,
        width=64,
        num_inference_steps=3,
        max_sequence_length=MAX_SEQUENCE_LENGTH,
        generator=torch.Generator("cpu").manual_seed(4),
        output_type="latent",
        callback_on_step_end=recorded(expected),
    )
    found: list[Any] = []
    call: dict[str, Any] = {"num_inference_steps": 3, "seed": 4, "output_type": "latent"}
    with_callback = base(None, PROMPT, callback_on_step_end=recorded(found), **call)
    assert [one[0] for one in found] == [0, 1, 2]
    for own, other in zip(found, expected, strict=True):
        assert own[1] == pytest.approx(other[1], rel=1e-6)
        assert torch.equal(own[2], other[2])
    assert torch.equal(with_callback.images, base(None, PROMPT, **call).images)


def test_latents_that_a_callback_returns_are_gone_on_with(base: SceneGraphFluxPipeline) -> None:
    def last_is_zero(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(given["latents"])} if step == 1 else {}

    call: dict[str, Any] = {"num_inference_steps": 2, "seed": 4, "output_type": "latent"}
    assert not base(None, PROMPT, callback_on_step_end=last_is_zero, **call).images.any()


def test_a_preview_becomes_the_picture(pipe: SceneGraphFluxPipeline) -> None:
    """The first step foresees what one step would draw, and the last one what is drawn."""
    previews = []

    def preview(pipeline: Any, _: int, __: Any, given: dict[str, Any]) -> None:
        previews.extend(pipeline.decode(given["denoised"]))

    (drawn,) = pipe(
        "man, riding, horse",
        num_inference_steps=3,
        seed=2,
        callback_on_step_end=preview,
        callback_on_step_end_tensor_inputs=["denoised"],
    ).images
    assert len(previews) == 3
    (in_one_step,) = pipe("man, riding, horse", num_inference_steps=1, seed=2).images
    for foreseen, expected in ((previews[0], in_one_step), (previews[-1], drawn)):
        assert np.abs(pixels(foreseen).astype(int) - pixels(expected)).max() <= 1
    assert not np.array_equal(pixels(in_one_step), pixels(drawn))


def test_an_error_of_a_callback_ends_the_drawing(pipe: SceneGraphFluxPipeline) -> None:
    class StoppedError(Exception):
        """The user's own."""

    steps = []

    def stop(_: Any, step: int, *__: Any) -> None:
        steps.append(step)
        raise StoppedError

    with pytest.raises(StoppedError):
        next(draw_arms(pipe, "man, riding, horse", seed=0, callback_on_step_end=stop))
    assert steps == [0]


def test_tensors_that_there_are_not_and_latents_of_another_size_are_refused(
    base: SceneGraphFluxPipeline,
) -> None:
    with pytest.raises(SgfluxError, match="prompt_embeds"):
        base(None, PROMPT, seed=0, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    latents = base(None, PROMPT, seed=0, num_inference_steps=1, output_type="latent").images
    with pytest.raises(SgfluxError, match="128 x 64"):
        base.decode(latents, height=128, width=64)


def test_heat_maps_have_the_pictures_size_and_differ_by_part(pipe: SceneGraphFluxPipeline) -> None:
    graph = SceneGraph.parse("man, riding, horse; man, wearing, hat")
    (picture,) = pipe(graph, num_inference_steps=1, seed=0).images
    maps = picture_saliency(pipe, picture, graph)
    assert [len(own) for own in maps] == [3, 3]
    shapes = {heat.shape for own in maps for heat in own}
    assert shapes == {(64, 64, 3)}
    assert len({heat.tobytes() for own in maps for heat in own}) == 5
    assert np.array_equal(maps[0][0], maps[1][0])  # both statements are about the man
    with pytest.raises(SgfluxError, match="nothing to look for"):
        picture_saliency(pipe, picture, SceneGraph.null())
