"""Difference maps: where a picture depends on a word.

If one of these failed, a heat map would show where the model reacts to something else than the word
below it, or to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.difference_maps import (
    Told,
    _pairs_of,
    difference_maps,
    text_without,
    without_object,
)
from sgflux.settings.memory import MemorySettings
from sgflux.settings.sampling import SaliencyConfig

GRAPH = SceneGraph.parse("man, riding, horse; man, wearing, hat")
NEUTRAL = "a photo of man and horse and hat"


@pytest.fixture(scope="module")
def tiny() -> SceneGraphFluxPipeline:
    return SceneGraphFluxPipeline.from_pretrained("tiny", adapter="tiny")


@pytest.mark.parametrize(
    ("text", "name", "left"),
    [
        (NEUTRAL, "man", "a photo of horse and hat"),
        (NEUTRAL, "horse", "a photo of man and hat"),
        (NEUTRAL, "hat", "a photo of man and horse"),
        ("A Man on his horse", "man", "A on his horse"),
        ("a hatter at work", "hat", "a hatter at work"),
        ("dog", "dog", ""),
    ],
)
def test_a_text_loses_a_name_and_what_joins_it(text: str, name: str, left: str) -> None:
    assert text_without(text, name) == left


def test_a_graph_loses_an_object_with_its_statements() -> None:
    assert without_object(GRAPH, 1) == SceneGraph(
        objects=("man", "hat"), relationships=((0, "wearing", 1),)
    )
    assert without_object(GRAPH, 0) == SceneGraph(objects=("horse", "hat"), relationships=())


def test_what_the_model_is_told_with_a_graph() -> None:
    subject, predicate, object_ = _pairs_of(GRAPH, 0, None, use_graph=True)
    whole = Told(NEUTRAL, GRAPH)
    assert subject == (Told("a photo of horse and hat", without_object(GRAPH, 0)), whole)
    assert object_ == (Told("a photo of man and hat", without_object(GRAPH, 1)), whole)
    rest = SceneGraph(objects=GRAPH.objects, relationships=((0, "wearing", 2),))
    assert predicate == (Told(NEUTRAL, rest), whole)
    stated = "man riding horse in the rain"
    _, predicate, object_ = _pairs_of(GRAPH, 0, stated, use_graph=True)
    assert predicate == (Told("man and horse in the rain", rest), Told(stated, GRAPH))
    assert object_[0].prompt == "man riding in the rain"


def test_what_the_model_is_told_without_a_graph() -> None:
    subject, predicate, _ = _pairs_of(GRAPH, 0, None, use_graph=False)
    assert subject == (Told("a photo of horse and hat", None), Told(NEUTRAL, None))
    # The text does not state the relation, so that it is added.
    assert predicate == (Told(NEUTRAL, None), Told(f"{NEUTRAL}, man riding horse", None))
    subject, *_ = _pairs_of(GRAPH, 0, "a landscape", use_graph=False)
    assert subject == (Told("a landscape", None), Told("a landscape, man", None))
    subject, *_ = _pairs_of(GRAPH, 0, "", use_graph=False)
    assert subject == (Told("", None), Told("man", None))


def test_a_name_may_have_a_backslash() -> None:
    graph = SceneGraph.parse(r"AC\DC, on, box")
    text = r"a poster: AC\DC on box"
    (_, (less, _), _) = _pairs_of(graph, 0, text, use_graph=False)
    assert less.prompt == r"a poster: AC\DC and box"


def test_concept_attention_needs_all_blocks_on_the_device() -> None:
    given: dict[str, Any] = {"image": Path("a.png"), "graph": "dog, on, box"}
    memory = MemorySettings(offload_blocks=True)
    assert SaliencyConfig(**given, memory=memory).memory.offload_blocks
    with pytest.raises(SgfluxError, match="offload_blocks does not work with method 'attention'"):
        SaliencyConfig(**given, memory=memory, method="attention")


def test_twins_are_left_out_one_by_one() -> None:
    twins = SceneGraph.parse("dog, left of, dog#2; dog#2, left of, box")
    first, _, second = _pairs_of(twins, 0, None, use_graph=True)
    assert first[0].prompt == second[0].prompt == "a photo of dog and box"
    assert first[0].graph is not None
    assert first[0].graph.relationships == ((0, "left of", 1),)
    assert second[0].graph == SceneGraph(objects=("dog", "box"), relationships=())
    # A text of the user's names both by one word, which therefore stays.
    first, *_ = _pairs_of(twins, 0, "two dog friends", use_graph=True)
    assert first[0].prompt == "two dog friends"


@pytest.mark.parametrize("use_graph", [True, False])
def test_objects_are_seen_where_they_are(tiny: SceneGraphFluxPipeline, use_graph: bool) -> None:
    """The dog above the box depends on the upper half of the picture, and the box on the lower."""
    graph = SceneGraph.parse("dog, above, box")
    (picture,) = tiny(graph, seed=0).images
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1
    settings: dict[str, Any] = {"prompt": None, "use_graph": use_graph, "sigma": 0.5, "seed": 0}
    maps = difference_maps(tiny, pixels, graph, **settings)
    assert maps.shape == (1, 3, 8, 8)
    assert maps.dtype == torch.float32
    assert bool((maps > 0).any(dim=(2, 3)).all())
    dog, _, box = maps[0]
    upper = [float(part[:4].mean() / part.mean()) for part in (dog, box)]
    assert upper[0] > 1 > upper[1]
    if not use_graph:
        base = SceneGraphFluxPipeline.from_pretrained("tiny")
        plain = difference_maps(base, pixels, graph, **settings)
        off = difference_maps(tiny, pixels, graph, use_adapter=False, **settings)
        assert torch.equal(plain, off)
        for pipe, told in ((base, {}), (tiny, {"use_adapter": False})):
            with pytest.raises(SgfluxError, match="a graph needs an adapter"):
                difference_maps(pipe, pixels, graph, **{**settings, **told, "use_graph": True})
        assert not torch.equal(maps, off)
    told = difference_maps(tiny, pixels, graph, **{**settings, "prompt": "a photo of dog and box"})
    assert torch.equal(maps, told)
