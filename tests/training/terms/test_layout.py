"""Boxes in training: what is read of them, the predictor's loss, and runs with both.

If one of these failed, an adapter would only draw with boxes, the teacher would teach it to ignore
them, the predictor would disturb all else that is trained, or a resumed run would differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.data.boxes import Box, Layout
from sgflux.data.examples import read_examples, write_examples
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle import load_bundle
from sgflux.settings.checks import ConfigError
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.settings.losses import LossSettings
from sgflux.training.batches.batch import BoxReading
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, shallow_dict
from sgflux.training.checkpoints.initial import InitialAdapter, adopted, sizes_of
from sgflux.training.run.train import train
from tests.helpers.scenes import write_scenes
from tests.helpers.training import MakeConfig, equal, training_rows

GRAPH = SceneGraph.parse("man, riding, horse")
LAYOUT: Layout = (Box(0.1, 0.1, 0.2, 0.2), None)
ALL: dict[str, Any] = {"read_boxes": True, "box_positions": True, "sample_steps": 1}
PREDICTS = LossSettings.from_flat(lambda_layout=1.0, lambda_words=0.0)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings that name data whose rows have boxes."""
    folder = write_scenes(tmp_path_factory.mktemp("boxed") / "data")
    rows = read_examples(folder / "train.jsonl")
    boxes = (Box(2, 4, 8, 16), Box(16, 10, 12, 20))
    write_examples(folder / "train.jsonl", [replace(row, boxes=boxes) for row in rows])
    return {"train_jsonl": folder / "train.jsonl", "val_jsonl": folder / "val.jsonl"}


def drawn(reading: BoxReading, graphs: list[SceneGraph]) -> tuple[Layout | None, ...]:
    generator = torch.Generator().manual_seed(0)
    return reading.draw([0] * len(graphs), graphs, generator)


def test_a_share_of_the_examples_is_read_without_boxes() -> None:
    found = drawn(BoxReading([LAYOUT], dropout=0.25, jitter=0.0), [GRAPH] * 400)
    assert 260 < sum(layout is not None for layout in found) < 340
    for layout in found:
        if layout is not None:
            assert layout[1] is None
            assert layout[0] == pytest.approx(LAYOUT[0])
    null = drawn(BoxReading([LAYOUT], dropout=0.0, jitter=0.0), [SceneGraph.null()])
    assert null == (None,)
    assert drawn(BoxReading([(None, None)], dropout=0.0, jitter=0.0), [GRAPH]) == (None,)


def test_boxes_are_read_with_noise_of_the_size_that_is_asked_for() -> None:
    found = drawn(BoxReading([LAYOUT], dropout=0.0, jitter=0.03), [GRAPH] * 400)
    boxes = [layout[0] for layout in found if layout is not None and layout[0] is not None]
    centers = torch.tensor([box.center for box in boxes])
    widths = torch.tensor([box.width for box in boxes])
    torch.testing.assert_close(centers.mean(dim=0), torch.tensor([0.2, 0.2]), atol=0.01, rtol=0)
    assert centers.std(dim=0).mean() == pytest.approx(0.03, rel=0.15)
    assert (widths / 0.2).log().std() == pytest.approx(0.03, rel=0.15)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return dict(AdapterWeights.load(folder / "final_graph_lora_token.pt").trainable)


def test_a_run_trains_the_predictor_and_resumes_exactly(
    make_config: MakeConfig, boxed: dict[str, Any], tmp_path: Path
) -> None:
    losses = LossSettings.from_flat(lambda_layout=1.0, layout_graphs=3, lambda_rel_rank=0.1)
    ranked = {"losses": losses, **ALL, **boxed}
    config = make_config(tmp_path / "whole", **ranked)
    whole = train(config)
    rows = training_rows(whole.output_dir)
    assert all(row["loss_layout"] > 0 and 0 <= row["layout_iou"] <= 1 for row in rows)
    # Each row has two boxes; three further rows are drawn beside those of the step's pictures.
    assert {row["layout_boxes"] for row in rows} == {2 * (config.optimizer.batch_size + 3)}
    assert whole.bundle is not None
    config, state = load_bundle(whole.bundle)
    assert {"read_boxes", "box_positions", "predict_layout"} <= config.encoder.keys()
    assert any(name.startswith("encoder.layout.") for name in state)
    assert "predicted from the graph" in (whole.bundle / "README.md").read_text()

    again = make_config(tmp_path / "again", **ranked)
    again.run.output_dir.mkdir()
    (whole.output_dir / "step2.pt").rename(tmp_path / "step2.pt")
    train(make_config(tmp_path / "again", resume=str(tmp_path / "step2.pt"), **ranked))
    one, other = (
        shallow_dict(TrainingState.load(folder / "step4.pt"))
        for folder in (whole.output_dir, again.run.output_dir)
    )
    one["config"] = other["config"] = None
    assert [name for name in one if not equal(one[name], other[name])] == []


def test_the_predictor_changes_nothing_else(
    make_config: MakeConfig, boxed: dict[str, Any], tmp_path: Path
) -> None:
    """Its loss is taken on weights of its own; with clipping, the norm of all gradients counts.

    A run in which the loss never begins has the predictor's first weights.
    """
    settings = {**ALL, **boxed, "max_grad_norm": 0.0, "sample_steps": 0, "max_steps": 2}
    found, never, plain = (
        weights_of(train(make_config(tmp_path / name, losses=losses, **settings)).output_dir)
        for name, losses in (
            ("with", PREDICTS),
            ("never", LossSettings.from_flat(lambda_words=0.0, lambda_layout=1.0, layout_start=9)),
            ("without", LossSettings.from_flat(lambda_words=0.0)),
        )
    )
    assert {name for name in found if name not in plain} == {
        name for name in found if name.startswith("encoder.layout.")
    }
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    moved = [name for name in found if not torch.equal(found[name], never[name])]
    assert moved
    assert all(name.startswith("encoder.layout.") for name in moved)


def test_a_run_weighs_its_objects(
    make_config: MakeConfig, boxed: dict[str, Any], tmp_path: Path
) -> None:
    """The error of the first step has the same noise, and other weights."""
    settings = {**boxed, "flow_scale": 2.0, "sample_steps": 0, "max_steps": 1, "log_every": 1}
    errors = []
    for share in (0.0, 0.5):
        config = make_config(tmp_path / str(share), object_share=share, **settings)
        (row,) = training_rows(train(config).output_dir)
        errors.append(row["loss_gen"])
    assert errors[0] != pytest.approx(errors[1], rel=1e-3)


def test_the_teacher_in_words_teaches_what_is_read_without_boxes(
    make_config: MakeConfig, boxed: dict[str, Any], tmp_path: Path
) -> None:
    """The teacher does not know the boxes; its lesson would be that they mean nothing."""
    settings = {**boxed, "read_boxes": True, "sample_steps": 0, "max_steps": 1}
    losses = {}
    for dropout in (0.0, 1.0):
        config = make_config(
            tmp_path / str(dropout),
            boxes_dropout=dropout,
            null_graph_probability=0.0,
            **settings,
        )
        (row,) = training_rows(train(config).output_dir)
        losses[dropout] = row["loss_words"]
    assert losses[0.0] == 0
    assert losses[1.0] > 0


@pytest.mark.parametrize("setting", [{"losses": PREDICTS}, {}])
def test_data_without_boxes_are_refused(
    make_config: MakeConfig, tmp_path: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(SgfluxError, match="boxes, and no row"):
        train(make_config(tmp_path / "run", read_boxes=True, **setting))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"losses": PREDICTS}, "that nothing would read"),
        ({"box_positions": True, "graph_mode": "temb"}, "has none; drop one"),
        ({"boxes_dropout": 0.1}, "no effect without read_boxes or box_positions"),
        ({"read_boxes": True, "boxes_dropout": 1.1}, "lie between 0 and 1"),
        ({"read_boxes": True, "boxes_jitter": -0.1}, "be at least 0"),
    ],
)
def test_settings_of_boxes_without_effect_are_refused(
    make_config: MakeConfig, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(tmp_path / "run", **settings)


def test_a_run_reads_boxes_as_the_adapter_from_which_it_starts(
    make_config: MakeConfig, boxed: dict[str, Any], tmp_path: Path
) -> None:
    """Places have no weights: a run would else drop them in silence."""
    settings = {**boxed, "box_positions": True, "sample_steps": 0, "max_steps": 1}
    bundle = train(make_config(tmp_path / "run", **settings)).bundle
    assert bundle is not None
    config, state = load_bundle(bundle)
    initial = InitialAdapter(name="first", config=config, state=state)
    run = make_config(tmp_path / "next", lora_rank=2)
    sizes = sizes_of(run.adapter, GraphEncoderSettings(), run.conditions)
    changed, _ = adopted(initial, sizes, kind="native")
    assert changed["box_positions"] is True
