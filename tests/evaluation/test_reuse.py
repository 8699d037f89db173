"""Pictures of an earlier evaluation are kept only where today's would be the same.

If one of these failed, pictures of other settings would be judged as those of today's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sgflux.data.pictures import read_picture, save_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, PictureRequest, make_items, plan_pictures
from sgflux.evaluation.drawing import draw_arm, judge_arm, pair_distances, picture_path
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.world.dataset import write_world
from sgflux.world.generators import WorldGenerator
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example

SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "base": {"transformer": "aaaa"},
    "adapter": "one",
    "graph": {"objects": ["man", "horse"], "relationships": [[0, "riding", 1]]},
    "prompt": "a photo of man and horse",
    "steps": 8,
    "graph_scale": 1.5,
    "guidance": None,
    "height": 64,
    "width": 64,
    "dtype": "fp32",
}


class Recorded:
    """A generator whose record is what the test says; its pictures are black."""

    name = "recorded"

    def __init__(self, **changes: Any) -> None:
        self._settings = {**SETTINGS, **changes}

    def draw(self, requests: Any) -> np.ndarray:
        return np.zeros((len(requests), 64, 64, 3), np.uint8)

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {**self._settings, "seed": request.seed}


@pytest.mark.parametrize("changed", [None, *(name for name in SETTINGS if name != "model")])
def test_a_picture_made_in_another_way_is_drawn_again(tmp_path: Path, changed: str | None) -> None:
    """Kept, it would lend its figure to an adapter, base or setting that never drew it.

    The name by which the model was called is no such thing: the base is compared by its weights.
    """
    items = make_items(
        [example("man, riding, horse"), example("cat, on, box", number=1)], [0, 1], seed=0
    )
    requests = plan_pictures(items, Arm.GRAPH, seeds_per_item=1, seed=0)
    where: dict[str, Any] = {"out_dir": tmp_path, "batch_size": 2, "advance": lambda count: None}
    assert draw_arm(Recorded(), requests, **where).drawn == 2
    changes = {} if changed is None else {changed: "another"}
    count = draw_arm(Recorded(**changes), requests, **where)
    assert (count.reused, count.replaced) == ((2, 0) if changed is None else (0, 2))


def planned() -> list[PictureRequest]:
    items = make_items(
        [example("man, riding, horse"), example("cat, on, box", number=1)], [0, 1], seed=0
    )
    return plan_pictures(items, Arm.GRAPH, seeds_per_item=1, seed=0)


def test_the_models_name_counts_where_its_weights_are_unknown(tmp_path: Path) -> None:
    where: dict[str, Any] = {"out_dir": tmp_path, "batch_size": 2, "advance": lambda count: None}
    draw_arm(Recorded(base=None), planned(), **where)
    assert draw_arm(Recorded(base=None), planned(), **where).reused == 2
    assert draw_arm(Recorded(base=None, model="b"), planned(), **where).replaced == 2


def overwrite(path: Path, **changes: Any) -> None:
    """Put what another evaluation would write in a picture's place."""
    pixels, info = read_picture(path)
    save_picture(path, changes.pop("pixels", pixels), {**info, **changes})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"adapter": "another"}, "adapter"),
        ({"base": {"transformer": "bbbb"}}, "base"),
        ({"seed": 7}, "seed"),
        ({"pixels": np.full((64, 64, 3), 255, np.uint8)}, "pixels_sha256"),
        ({"pixels_sha256": "0" * 64}, "pixels_sha256"),
    ],
)
def test_only_the_picture_that_was_asked_for_is_judged(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    """Another evaluation's picture, or other pixels under the right record, are an error."""
    generator, requests = Recorded(), planned()
    where: dict[str, Any] = {"out_dir": tmp_path, "batch_size": 2, "advance": lambda count: None}
    draw_arm(generator, requests, **where)
    judged = judge_arm(None, generator, requests, out_dir=tmp_path, batch_size=2)
    assert len(judged[0].pixels or "") == 64
    assert pair_distances([(judged[0], judged[1])], out_dir=tmp_path) == [0.0]
    path = tmp_path / picture_path(requests[1])
    overwrite(path, **changes)
    with pytest.raises(SgfluxError, match=f"000001-0.png is not the picture.*{named} differ"):
        judge_arm(None, generator, requests, out_dir=tmp_path, batch_size=2)
    if "pixels" in changes:
        with pytest.raises(SgfluxError, match=r"000001-0\.png has changed since it was judged"):
            pair_distances([(judged[0], judged[1])], out_dir=tmp_path)
    # The same command again draws it anew.
    assert draw_arm(generator, requests, **where).replaced == 1
    judge_arm(None, generator, requests, out_dir=tmp_path, batch_size=2)


def test_the_data_are_hashed_as_they_were_parsed(tmp_path: Path) -> None:
    """A file that is replaced during the run does not lend its digest to the figures."""
    write_world(tmp_path / "w", train_per_class=0, val_per_class=0, test_per_class=1, triples="1")
    path = tmp_path / "w/test.jsonl"
    parsed = path.read_bytes()

    def say(line: str) -> None:
        path.write_bytes(parsed + b"\n")

    config = EvalConfig.from_flat(
        data=path, output_dir=tmp_path / "out", generator="oracle", items=2, arms=("graph",)
    )
    results = evaluate(config, show_progress=False, say=say)
    assert path.read_bytes() != parsed
    assert results["data"]["sha256"] == hashlib.sha256(parsed).hexdigest()
    assert len(results["data"]["pictures_sha256"]) == 64
    lines = (tmp_path / "out/results.jsonl").read_text().split("\n")[:-1]
    for line in map(json.loads, lines):
        _, info = read_picture(tmp_path / "out" / line["path"])
        assert info["pixels_sha256"] == line["pixels_sha256"]


def test_pictures_of_another_base_are_drawn_again(tmp_path: Path) -> None:
    """A base with noise inside of its blocks alone reports pictures of its own."""
    write_world(tmp_path / "w", train_per_class=0, val_per_class=0, test_per_class=1, triples="1")
    base = make_flux_folder(tmp_path / "flux")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (path,) = (other / "transformer").glob("*.safetensors")
    weights = load_file(path)
    for name, value in weights.items():
        if "transformer_blocks" in name and value.ndim == 2:
            weights[name] = torch.randn_like(value)
    save_file(weights, path, metadata={"format": "pt"})

    def run(model: Path) -> dict[str, Any]:
        config = EvalConfig.from_flat(
            data=tmp_path / "w/test.jsonl",
            output_dir=tmp_path / "out",
            model_id=str(model),
            arms=("base_neutral",),
            judge="none",
            items=2,
            steps=1,
            device="cpu",
        )
        return evaluate(config, show_progress=False, say=lambda line: None)

    assert run(base)["timing"]["drawn"] == 2
    assert run(base)["timing"]["reused"] == 2
    swapped = run(other)
    assert (swapped["timing"]["reused"], swapped["timing"]["replaced"]) == (0, 2)


def test_a_second_evaluation_of_a_folder_is_refused_while_the_first_draws(tmp_path: Path) -> None:
    """Together they would judge each other's pictures."""
    sizes = {"train_per_class": 0, "val_per_class": 0, "test_per_class": 1}
    write_world(tmp_path / "world", **sizes)
    config = EvalConfig.from_flat(
        data=tmp_path / "world" / "test.jsonl",
        output_dir=tmp_path / "out",
        generator="oracle",
        arms=("graph",),
        items=2,
    )
    refused: list[str] = []

    def second() -> None:
        try:
            evaluate(config, show_progress=False, say=lambda line: None)
        except SgfluxError as error:
            refused.append(str(error))

    class Meanwhile:
        name = "oracle"

        def __init__(self) -> None:
            self._inner = WorldGenerator("oracle")

        def draw(self, requests: Any) -> np.ndarray:
            other = threading.Thread(target=second)
            other.start()
            other.join()
            return self._inner.draw(requests)

        def record(self, request: PictureRequest) -> dict[str, Any]:
            return self._inner.record(request)

    evaluate(config, generator=Meanwhile(), show_progress=False, say=lambda line: None)
    assert len(refused) == 1
    assert "is being written by" in refused[0]
