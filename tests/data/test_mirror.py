"""The mirror image of a row: every word that says a side, every box, and the picture itself.

If one of these failed, a mirrored picture would go with a graph that says left where the picture
shows right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import load_image
from sgflux.data.mirror import mirrored, mirrored_words
from tests.helpers.rows import example, write_picture


def sided() -> SceneExample:
    return example(
        "man, to the left of, horse",
        prompt="a photo of man to the left of horse",
        concepts=["man", "left of", "horse"],
        graph={
            "objects": ["horse", "man", "right hand"],
            "relationships": [[1, "to the left of", 0], [1, "on", 0]],
        },
        boxes=[[0, 0, 10, 20], [30.25, 5, 20, 20], [1, 1, 2, 2]],
        meta={
            "class_id": 11,
            "known_triples": [["dog", "right of", "man"]],
            "attributes": [[], ["tall"], ["left", "bright"]],
        },
    )


def test_sides_change_places_in_graph_prompt_concepts_names_and_boxes():
    other = mirrored(sided(), width=80)
    assert str(other.triple) == "man, right of, horse"
    assert other.prompt == "a photo of man to the right of horse"
    assert other.concepts == ("man", "right of", "horse")
    assert other.graph.objects == ("horse", "man", "left hand")
    assert other.graph.relationships == ((1, "right of", 0), (1, "on", 0))
    assert other.boxes == ((70, 0, 10, 20), (29.75, 5, 20, 20), (77, 1, 2, 2))
    assert other.meta["class_id"] == 18
    assert other.meta["predicate_raw"] == "to the right of"
    assert other.meta["relationships_raw"] == [[1, "to the right of", 0], [1, "on", 0]]
    assert other.meta["attributes"] == [[], ["tall"], ["right", "bright"]]
    assert other.meta["known_triples"] == [["dog", "left of", "man"]]
    assert other.is_mirrored


def test_the_mirror_image_of_the_mirror_image_is_the_example():
    back = mirrored(mirrored(sided(), width=80), width=80)
    assert not back.is_mirrored
    assert back.with_meta(mirrored=False) == sided().with_meta(mirrored=False)
    assert SceneExample.from_json(mirrored(sided(), width=80).to_json()) == mirrored(
        sided(), width=80
    )


def test_only_whole_words_change():
    assert mirrored_words("Left of the bright leftovers, RIGHT") == (
        "Right of the bright leftovers, LEFT"
    )


def test_the_picture_is_mirrored_when_it_is_read(tmp_path: Path):
    write_picture(tmp_path / "a.png", size=(6, 4))
    path = resolve_image(example(), tmp_path)
    upright = np.asarray(load_image(path))
    assert np.array_equal(np.asarray(load_image(path, mirrored=True)), upright[:, ::-1])
