"""The errors behind the ranking accuracy belong to the items' graphs and the stated sigmas.

If one of these failed, the ranking accuracy would compare errors of other graphs, pictures or
noise levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgflux.data.images import fit_image, load_image
from sgflux.data.prompts import prompt_for
from sgflux.evaluation.arms import EvaluationItem, derived_seed, make_items
from sgflux.evaluation.ranking import ALTERNATIVES, measure_errors
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.errors import ranking_errors_of_each
from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example

SIGMAS = (0.125, 0.6)
EXAMPLES = [
    example("man, riding, horse", number=0),
    example("cat, above, box", number=1),
    example("dog, around/near, tree", number=2),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for one in EXAMPLES:
        path = folder / one.image_rel_path
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> SceneGraphFluxPipeline:
    folder = tmp_path_factory.mktemp("model")
    flux = make_flux_folder(folder / "flux")
    return SceneGraphFluxPipeline.from_pretrained(
        str(flux), adapter=write_adapter(folder / "final", flux)
    )


def error_by_hand(
    pipeline: SceneGraphFluxPipeline, item: EvaluationItem, graph: SceneGraph, k: int, images: Path
) -> float:
    assert pipeline.model is not None
    picture = fit_image(load_image(images / item.example.image_rel_path), 64, 64, crop="none")
    mean, _ = pipeline.autoencoder.posterior(picture[None])
    latents = pipeline.autoencoder.scale(mean.float())
    generator = torch.Generator().manual_seed(derived_seed(0, "ranking", item.row, k))
    text = pipeline.encode_text([prompt_for(item.example, "neutral")])
    ((error,),) = ranking_errors_of_each(
        pipeline.model,
        latents=latents,
        noise=torch.randn(latents.shape[1:], generator=generator)[None],
        sigma=torch.tensor([SIGMAS[k]]),
        text=text,
        alternatives=[[graph]],
    )
    return float(error)


def test_each_error_is_that_of_its_graph_and_sigma(
    pipeline: SceneGraphFluxPipeline, images: Path
) -> None:
    """With another sigma or negative the figure would be about something else."""
    items = make_items(EXAMPLES, range(3), seed=0)
    errors = measure_errors(
        pipeline,
        items,
        pictures=RealPictures(images),
        height=64,
        width=64,
        crop="none",
        sigmas=SIGMAS,
        guidance=None,
        seed=0,
        batch_size=2,
        advance=lambda count: None,
    )
    assert ALTERNATIVES == ("graph", "null_graph", "role_swap", "predicate")
    for row, item in enumerate(items):
        graphs = {"graph": item.graph, "null_graph": SceneGraph.null()}
        graphs["role_swap"] = item.swapped and item.swapped.graph
        graphs["predicate"] = item.replaced and item.replaced.graph
        for place, name in enumerate(ALTERNATIVES):
            for k in range(len(SIGMAS)):
                found = float(errors[place, row, k])
                if graphs[name] is None:
                    assert np.isnan(found), "an item without such a negative has no error of it"
                else:
                    by_hand = error_by_hand(pipeline, item, graphs[name], k, images)
                    assert found == pytest.approx(by_hand, rel=1e-4)
    assert items[2].swapped is None, "near is symmetric, and its stand-in must be discarded"
