"""The model's generator: every picture of a batch is drawn from its own graph, prompt and noise.

If one of these failed, pictures of a batch would be drawn from their neighbour's graph, prompt or
noise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgflux.evaluation.arms import Arm, PictureRequest, make_items, plan_pictures
from sgflux.evaluation.generators import ModelGenerator
from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example

ITEMS = make_items(
    [example("man, riding, horse", number=0), example("cat, above, box", number=1)],
    range(2),
    seed=0,
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> SceneGraphFluxPipeline:
    folder = tmp_path_factory.mktemp("model")
    flux = make_flux_folder(folder / "flux")
    adapter = write_adapter(folder / "final", flux)
    return SceneGraphFluxPipeline.from_pretrained(str(flux), adapter=adapter)


def requests(arm: Arm) -> list[PictureRequest]:
    return plan_pictures(ITEMS, arm, seeds_per_item=1, seed=0)


@pytest.mark.parametrize("arm", [Arm.BASE_NEUTRAL, Arm.GRAPH])
def test_a_batch_is_drawn_as_its_pictures_one_by_one(
    pipeline: SceneGraphFluxPipeline, arm: Arm
) -> None:
    """A batch that shares its first graph, prompt or noise would judge one item's picture twice."""
    generator = ModelGenerator(pipeline, steps=1)
    together = generator.draw(requests(arm))
    alone = np.concatenate([generator.draw([request]) for request in requests(arm)])
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert np.abs(alone[0].astype(int) - alone[1]).max() > 1


@pytest.mark.parametrize("what", ["graph", "prompt", "seed"])
def test_each_part_of_a_request_moves_its_own_picture_alone(
    pipeline: SceneGraphFluxPipeline, what: str
) -> None:
    generator = ModelGenerator(pipeline, steps=1)
    first, second = requests(Arm.GRAPH)
    other = {"graph": first.graph, "prompt": "a photo of cup and hat", "seed": second.seed + 1}
    changed = replace(second, **{what: other[what]})
    before, after = generator.draw([first, second]), generator.draw([first, changed])
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def test_every_arm_with_a_graph_is_drawn_at_one_scale(pipeline: SceneGraphFluxPipeline) -> None:
    """A scale of its own would let the true graph look better than a false one."""
    generator = ModelGenerator(pipeline, steps=1, graph_scale=1.5)
    scales = {
        arm: generator.record(requests(arm)[0])["graph_scale"]
        for arm in (Arm.GRAPH, Arm.NEGATIVE_GRAPH, Arm.SHUFFLED_GRAPH, Arm.CONTRADICTION)
    }
    assert set(scales.values()) == {1.5}
    (drawn,) = generator.draw(requests(Arm.GRAPH)[:1])
    first = requests(Arm.GRAPH)[0]
    (expected,) = pipeline.sample_batch(
        [first.graph], [first.prompt], [first.seed], steps=1, graph_scale=1.5
    )
    assert np.array_equal(drawn, expected)


def test_a_record_says_whether_the_adapter_drew(pipeline: SceneGraphFluxPipeline) -> None:
    """Equal records mean equal pictures, and the base is not the adapter without a graph."""
    generator = ModelGenerator(pipeline, steps=1)
    base, without = (
        generator.record(requests(arm)[0]) for arm in (Arm.BASE_NEUTRAL, Arm.NULL_GRAPH)
    )
    assert base["adapter"] is None
    assert without["adapter"] is not None
