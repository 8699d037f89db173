"""Where objects are drawn: given, predicted from graph and seed, or left open.

If one of these failed, boxes would be read where the user asked for none, predicted ones would not
follow from the seed, or a test picture's true boxes would reach an arm that nobody gave them to.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sgflux.caveats import caveats
from sgflux.data.boxes import Box, Layout
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, make_items, plan_pictures
from sgflux.evaluation.generators import ModelGenerator
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SampleConfig, SceneGraphFluxPipeline, sample
from sgflux.sampling.boxes import layouts_for
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example

RIDING, ABOVE = SceneGraph.parse("man, riding, horse"), SceneGraph.parse("cat, above, box")
PROMPT = "a photo of man and horse"
GIVEN = {"man": [0.1, 0.1, 0.3, 0.3], "horse": [0.5, 0.5, 0.5, 0.5]}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "model")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, flux: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    reads = {"read_boxes": True, "box_positions": True}
    kinds = {"plain": {}, "reads": reads, "predicts": {**reads, "predict_layout": True}}
    return {
        name: write_adapter(folder / name, flux, **settings) for name, settings in kinds.items()
    }


@pytest.fixture(scope="module")
def pipelines(flux: Path, adapters: dict[str, Path]) -> dict[str, SceneGraphFluxPipeline]:
    loaded = {
        name: SceneGraphFluxPipeline.from_pretrained(str(flux), adapter=adapter)
        for name, adapter in adapters.items()
    }
    model = loaded["predicts"].model
    assert model is not None
    assert model.layout is not None
    with torch.no_grad():  # the test adapters' weights would lead to boxes at the picture's edge
        for weight in model.layout.parameters():
            weight.mul_(0.1)
    return loaded


def draw(pipeline: SceneGraphFluxPipeline, boxes: object, *, seed: int = 0) -> np.ndarray:
    return pipeline.sample_batch([RIDING], [PROMPT], [seed], steps=1, boxes=boxes)  # type: ignore


def test_boxes_are_predicted_by_default_where_there_is_a_predictor(
    pipelines: dict[str, SceneGraphFluxPipeline],
) -> None:
    predicts, reads = pipelines["predicts"], pipelines["reads"]
    assert np.array_equal(draw(predicts, None), draw(predicts, "predicted"))
    assert not np.array_equal(draw(predicts, None), draw(predicts, "none"))
    assert np.array_equal(draw(reads, None), draw(reads, "none"))
    records = {
        name: pipeline.record(graph=RIDING, prompt=PROMPT, seed=0, steps=1).get("boxes")
        for name, pipeline in pipelines.items()
    }
    assert records == {"plain": None, "reads": "none", "predicts": "predicted"}


def test_given_boxes_are_read(pipelines: dict[str, SceneGraphFluxPipeline]) -> None:
    reads = pipelines["reads"]
    swapped = {"man": GIVEN["horse"], "horse": GIVEN["man"]}
    pictures = [draw(reads, boxes) for boxes in (GIVEN, swapped, "none")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(pictures[one], pictures[other])
    record = reads.record(graph=RIDING, prompt=PROMPT, seed=0, steps=1, boxes=GIVEN)
    assert record["boxes"] == list(GIVEN.values())


def test_predicted_boxes_follow_from_the_seed_whatever_else_is_drawn(
    pipelines: dict[str, SceneGraphFluxPipeline],
) -> None:
    model = pipelines["predicts"].model
    graphs = [ABOVE, None, SceneGraph.null(), RIDING]
    together = layouts_for(model, graphs, [5, 5, 5, 7], None)
    assert together[1:3] == [None, None]
    (alone,) = layouts_for(model, [RIDING], [7], "predicted")
    (other,) = layouts_for(model, [RIDING], [8], "predicted")
    assert alone is not None
    assert together[3] is not None
    for box, own in zip(alone, together[3], strict=True):
        assert box == pytest.approx(own, abs=1e-5)
    assert alone != other


def test_a_generator_of_ones_own_has_the_boxes_of_its_seed(
    pipelines: dict[str, SceneGraphFluxPipeline],
) -> None:
    pipeline = pipelines["predicts"]
    by_seed = pipeline(RIDING, PROMPT, num_inference_steps=1, seed=3, output_type="np")
    generator = [torch.Generator().manual_seed(3)]
    own = pipeline(RIDING, PROMPT, num_inference_steps=1, generator=generator, output_type="np")
    assert np.array_equal(by_seed.images, own.images)


def test_boxes_without_effect_are_refused(pipelines: dict[str, SceneGraphFluxPipeline]) -> None:
    with pytest.raises(SgfluxError, match="reads no boxes"):
        draw(pipelines["plain"], GIVEN)
    for name in ("plain", "reads"):
        with pytest.raises(SgfluxError, match="predicts no boxes"):
            draw(pipelines[name], "predicted")
    with pytest.raises(SgfluxError, match="without an adapter and a graph"):
        pipelines["reads"].sample_batch([None], [PROMPT], [0], steps=1, boxes=GIVEN)
    with pytest.raises(SgfluxError, match="one layout for each of 1 pictures"):
        draw(pipelines["reads"], [None, None])


def test_true_boxes_reach_the_arms_with_the_true_graph_and_only_if_they_are_given(
    pipelines: dict[str, SceneGraphFluxPipeline],
) -> None:
    """A test picture's boxes reveal its relation; a control that had them would be none."""
    boxes = (Box(1, 2, 8, 8), Box(9, 9, 12, 12))
    rows = [
        replace(example(text, number=number), boxes=boxes)
        for number, text in enumerate(("man, riding, horse", "cat, above, box"))
    ]
    items = make_items(rows, range(2), seed=0)
    layout: Layout = (Box(0.1, 0.1, 0.2, 0.2), Box(0.4, 0.4, 0.5, 0.5))
    oracle = ModelGenerator(pipelines["predicts"], steps=1, oracle={0: layout, 1: layout})
    normal = ModelGenerator(pipelines["predicts"], steps=1)
    expected = [list(box) for box in layout if box is not None]
    for arm in Arm:
        (request, *_) = plan_pictures(items, arm, seeds_per_item=1, seed=0)
        found = oracle.record(request).get("boxes")
        without = normal.record(request).get("boxes")
        assert without == ("predicted" if arm.has_graph else None)
        assert found == (expected if arm in (Arm.GRAPH, Arm.CONTRADICTION) else without)
        assert np.array_equal(oracle.draw([request]), normal.draw([request])) == (found == without)


def test_true_boxes_are_a_caveat_of_the_results() -> None:
    results = {"data": {}, "settings": {"boxes": "oracle"}}
    assert "upper bound" in " ".join(caveats(results))
    assert caveats({"data": {}, "settings": {"boxes": "predicted"}}) == []


def test_sample_draws_with_boxes(flux: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    def config(name: str, **settings: object) -> SampleConfig:
        return SampleConfig.from_flat(
            model_id=str(flux),
            adapter=adapters["reads"],
            graph=("man, riding, horse",),
            output_dir=tmp_path / name,
            num_images=1,
            steps=1,
            device="cpu",
            dtype="fp32",
            **settings,
        )

    boxes = '{"man": [0.1, 0.1, 0.3, 0.3]}'
    left_open, *_ = sample(config("open"))
    given, *_ = sample(config("given", boxes=boxes, compare=True))
    assert left_open.read_bytes() != given.read_bytes()
    with pytest.raises(SgfluxError, match="no effect without a graph"):
        SampleConfig.from_flat(model_id=str(flux), prompt="a photo", boxes="none")
