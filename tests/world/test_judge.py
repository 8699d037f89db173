"""The bundled judge: what it says of pictures whose truth is known.

If one of these failed, the bundled judge's accuracy would not be what its card states.
"""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.world.judge import (
    CLASSES,
    NONE_INDEX,
    WorldJudge,
    read_judge,
    to_judge_images,
)
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, render_relationships, sample_scene

ASSETS = resources.files("sgflux") / "assets"


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return read_judge()[0]


@pytest.fixture(scope="module")
def renders() -> list:
    """480 fresh single-triple scenes, 20 of every predicate."""
    return [
        sample_scene(np.random.default_rng((31337, i)), predicate=PREDICATES[i % 24])
        for i in range(480)
    ]


def pairs_of(scenes: list) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [[OBJECT_NAMES.index(name) for name in scene.objects] for scene in scenes]
    pairs = torch.tensor(
        [
            [i[s.relationships[0][0]], i[s.relationships[0][2]]]
            for i, s in zip(ids, scenes, strict=True)
        ]
    )
    return pairs[:, :1], pairs[:, 1:]


def test_the_bundled_judge_reads_fresh_renders(judge: WorldJudge, renders: list) -> None:
    images = to_judge_images([scene.image for scene in renders])
    subjects, objects = pairs_of(renders)
    truth = torch.arange(480) % 24
    features = judge.encode(images)
    said = judge.relation_logits(features, subjects, objects)[:, 0].argmax(1)
    assert (said == truth).float().mean() >= 0.98

    # the other way round: the inverse, the same if symmetric, else none
    backward = []
    for name in PREDICATES:
        inverse = DEFAULT_VOCABULARY.inverse(name)
        answer = name if DEFAULT_VOCABULARY.is_symmetric(name) else inverse
        backward.append(NONE_INDEX if answer is None else PREDICATES.index(answer))
    said = judge.relation_logits(features, objects, subjects)[:, 0].argmax(1)
    assert (said == torch.tensor(backward)[truth]).float().mean() >= 0.97

    present = torch.zeros(480, len(OBJECT_NAMES), dtype=torch.bool)
    present[torch.arange(480), subjects[:, 0]] = True
    present[torch.arange(480), objects[:, 0]] = True
    assert ((features.presence_logits > 0) == present).float().mean() >= 0.99


def test_absent_and_unrelated_objects_are_none(judge: WorldJudge) -> None:
    rng = np.random.default_rng(77)
    statement = [("man", "pulling", "car"), ("bird", "in", "house")]
    images = to_judge_images([render_relationships(rng, statement).image for _ in range(20)])
    asked = [("man", "bird"), ("car", "house"), ("man", "hat"), ("flower", "cup")]
    ids = torch.tensor([[OBJECT_NAMES.index(n) for n in pair] for pair in asked])
    subjects, objects = (ids[:, i].expand(20, -1) for i in (0, 1))
    said = judge.relation_logits(judge.encode(images), subjects, objects).argmax(2)
    assert (said == NONE_INDEX).float().mean() >= 0.95


def test_many_queries_at_once_equal_one_at_a_time(judge: WorldJudge, renders: list) -> None:
    images = to_judge_images([scene.image for scene in renders[:4]])
    subjects, objects = pairs_of(renders[:4])
    features = judge.encode(images)
    together = judge.relation_logits(
        features, torch.cat([subjects, objects], 1), torch.cat([objects, subjects], 1)
    )
    alone = judge.relation_logits(features, subjects, objects)
    torch.testing.assert_close(together[:, :1], alone, atol=1e-4, rtol=1e-4)
    assert alone.shape == (4, 1, len(CLASSES))


def test_its_accuracy_is_written_beside_it() -> None:
    card = json.loads((ASSETS / "world_judge.json").read_text())
    assert card["accuracy"] >= 0.98
    assert card["presence_accuracy"] >= 0.99
    assert card["n"]["single"] >= 4800
    assert set(card["per_predicate"]) == set(CLASSES)
    assert np.array(card["confusion"]).shape == (25, 25)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    for name in ("world_judge.safetensors", "world_judge.json"):
        shutil.copy(str(ASSETS / name), tmp_path / name)
    weights = tmp_path / "world_judge.safetensors"
    assert read_judge(weights)[0].config == read_judge()[0].config
    payload = bytearray(weights.read_bytes())
    payload[-1] ^= 1
    weights.write_bytes(payload)
    with pytest.raises(ValueError, match="not the ones"):
        read_judge(weights)
    shutil.copy(str(ASSETS / "world_judge.safetensors"), weights)
    card = json.loads((tmp_path / "world_judge.json").read_text())
    card["config"]["looks"] += 1
    (tmp_path / "world_judge.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="wrong weights"):
        read_judge(weights)
    with pytest.raises(ValueError, match="no such file"):
        read_judge(tmp_path / "missing.safetensors")


def test_pictures_of_another_shape_are_refused(judge: WorldJudge) -> None:
    with pytest.raises(ValueError, match="64, 64"):
        judge.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="uint8"):
        to_judge_images(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="multiple of 64"):
        to_judge_images(np.zeros((1, 80, 80, 3), np.uint8))
    assert to_judge_images(np.zeros((2, 128, 128, 3), np.uint8)).shape == (2, 3, 64, 64)
