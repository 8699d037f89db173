"""The validation grid: fixed, the same for every graph, and honest about ties and gaps.

If one of these failed, the best adapter would be chosen by noise that changes between
validations, or by figures of other weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.examples import SceneExample, read_examples, write_examples
from sgflux.graphs.negatives import NegativeKind
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.data import DataSettings
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.training.batches.batch import Batch, LatentScale
from sgflux.training.encoding.splits import read_splits
from sgflux.training.processes.processes import Processes
from sgflux.training.terms.ranking.hard_negatives import measured_mistakes
from sgflux.training.validation import (
    Validator,
    choose_items,
    summarize,
)
from tests.helpers.arrays import prepare_training_arrays
from tests.helpers.scenes import SCENES, example, write_scenes
from tests.helpers.statements import equivalent

PREDICATES = [predicate for _, predicate, _ in SCENES]


def arrays(tmp_path: Path) -> TrainingArrays:
    folder = write_scenes(tmp_path / "data")
    return prepare_training_arrays(
        read_examples(folder / "val.jsonl"),
        images_dir=folder,
        height=8,
        width=8,
        encode_images=lambda images: (
            images.mean(1, keepdim=True).repeat(1, 16, 1, 1),
            images[:, :1] * 0,
        ),
        encode_text=lambda prompts: {
            "hidden": torch.tensor([[[float(len(p))]] for p in prompts]),
            "pooled": torch.zeros(len(prompts), 1),
        },
        encoder_identity="a",
        text_identity="b",
        max_sequence_length=1,
    )


def validator(data: TrainingArrays, *, batch_size: int) -> Validator:
    return Validator(
        data,
        choose_items(data.examples, count=0, predicates=PREDICATES, seed=0),
        sigmas=(0.25, 0.75),
        latent_scale=LatentScale(shift=0.1, scale=0.9),
        prompt_kind="neutral",
        seed=0,
        batch_size=batch_size,
    )


def test_negatives_are_the_same_each_time_and_never_the_truth() -> None:
    examples = [example(i, split="val") for i in range(12)]
    items = choose_items(examples, count=0, predicates=PREDICATES, seed=1)
    assert items == choose_items(examples, count=0, predicates=PREDICATES, seed=1)
    kinds = set()
    for item in items:
        assert item.negative is not None
        assert not equivalent(item.graph, item.negative.graph)
        kinds.add(item.negative.kind)
        for _, predicate, _ in item.negative.graph.relationships:
            assert predicate in PREDICATES
    assert kinds == {NegativeKind.ROLE_SWAP, NegativeKind.PREDICATE}


def test_fewer_examples_are_spread_over_the_file() -> None:
    examples = [example(i, split="val") for i in range(12)]
    items = choose_items(examples, count=4, predicates=PREDICATES, seed=1)
    assert [item.row for item in items] == [0, 3, 6, 9]


def test_what_rows_that_are_not_chosen_say_of_a_picture_is_no_mistake(tmp_path: Path) -> None:
    walk, folder = validator(arrays(tmp_path), batch_size=1), tmp_path / "data"
    chosen, other = (example(i, split="val") for i in (0, 1))
    told = SceneExample.from_json(
        {
            **other.to_json(),
            "concepts": ["man", "holding", "horse"],
            "triple": {"subject": "man", "predicate": "holding", "object": "horse"},
            "meta": {"image_rel_path": chosen.image_rel_path},
        }
    )
    write_examples(folder / "val.jsonl", [chosen, told])
    data = DataSettings(train_jsonl=folder / "train.jsonl", val_jsonl=folder / "val.jsonl")
    splits = read_splits(
        data, encoder=GraphEncoderSettings(), val_examples=1, seed=0, say=lambda text: None
    )
    assert [one.picture for one in splits.val] == [chosen.picture]
    walk.items = list(splits.items)
    tried = measured_mistakes(
        walk,
        lambda batch, alternatives: [torch.zeros(len(batch.graphs)) for _ in alternatives],
        predicates=["holding", "riding", "wearing"],
        processes=Processes(index=0, count=1, device=torch.device("cpu")),
    )
    assert tried == [("riding", "wearing", 0.5)]


def test_every_graph_is_judged_on_the_same_latents_noise_and_sigma(tmp_path: Path) -> None:
    data = arrays(tmp_path)
    seen: list[Batch] = []

    def error_of(batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        seen.append(batch)
        noise = batch.noise.flatten(1).sum(1) + batch.latents.flatten(1).sum(1)
        return [noise + len(graphs[0].relationships) for graphs in alternatives]

    every = list(range(4))
    walk = validator(data, batch_size=4).errors
    errors = walk(error_of, every, device=torch.device("cpu"), should_stop=lambda: False)
    assert errors is not None
    assert errors.shape == (3, 4, 2)
    assert [batch.sigma[0].item() for batch in seen] == [0.25, 0.75]
    assert not torch.equal(seen[0].noise, seen[1].noise)
    torch.testing.assert_close(errors[0] - errors[1], torch.ones(4, 2))  # only the graph differs
    # The grid does not depend on how it is cut into batches, or shared between processes.
    cut = validator(data, batch_size=1).errors(
        error_of, [3, 1], device=torch.device("cpu"), should_stop=lambda: False
    )
    assert cut is not None
    torch.testing.assert_close(cut, errors[:, [3, 1]])


def test_an_item_without_a_negative_has_no_error_of_one(tmp_path: Path) -> None:
    """Its stand-in is the true graph; kept, it would count as a tie."""
    walk = validator(arrays(tmp_path), batch_size=4)
    walk.items[1] = replace(walk.items[1], negative=None)

    def error_of(batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        return [batch.sigma for _ in alternatives]

    device = torch.device("cpu")
    errors = walk.errors(error_of, [0, 1, 2], device=device, should_stop=lambda: False)
    assert errors is not None
    assert errors[2].isnan().any(dim=1).tolist() == [False, True, False]
    assert not errors[:2].isnan().any()
    alone = walk.errors(error_of, [1], device=device, should_stop=lambda: False)
    assert alone is not None
    assert alone[2].isnan().all()


def test_the_alternatives_are_the_graph_none_and_the_negative(tmp_path: Path) -> None:
    """Compared with the graph itself, ranking would be a tie whatever the model does."""
    walk = validator(arrays(tmp_path), batch_size=4)
    seen: list[Sequence[Sequence[SceneGraph]]] = []

    def error_of(batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        seen.append(alternatives)
        return [batch.sigma for _ in alternatives]

    walk.errors(error_of, [0, 1, 2, 3], device=torch.device("cpu"), should_stop=lambda: False)
    graphs, nulls, negatives = seen[0]
    assert list(graphs) == [item.graph for item in walk.items]
    assert all(graph.is_null for graph in nulls)
    assert list(negatives) == [item.negative and item.negative.graph for item in walk.items]
    assert list(negatives) != list(graphs)


def test_it_stops_when_asked_to(tmp_path: Path) -> None:
    def error_of(batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        raise AssertionError("nothing was to be judged")

    walk = validator(arrays(tmp_path), batch_size=4).errors
    device = torch.device("cpu")
    assert walk(error_of, [0, 1], device=device, should_stop=lambda: True) is None


def test_figures_are_the_ones_worked_out_by_hand() -> None:
    # Two items with a negative, one without; one sigma each in columns.
    positive = torch.tensor([[1.0, 3.0], [2.0, 2.0], [5.0, 5.0]])
    negative = torch.tensor([[2.0, 2.0], [2.0, 4.0], [math.nan, math.nan]])
    null = torch.full((3, 2), 4.0)
    result = summarize(
        torch.stack([positive, null, negative]),
        kinds=["role_swap", "predicate", None],
        sigmas=[0.25, 0.75],
    )
    assert result.loss == 3.0
    assert result.loss_null == 4.0
    assert result.loss_negative == 2.5
    assert result.negative_gap == 0.5
    assert result.ranking_accuracy == 0.625  # won, lost, tied, won
    assert result.ranking_n == 4
    assert result.ranking_by_kind == {"role_swap": 0.5, "predicate": 0.75}
    assert result.by_sigma[0] == {
        "sigma": 0.25,
        "loss": pytest.approx(8 / 3),
        "loss_null": 4.0,
        "loss_negative": 2.0,
        "ranking_accuracy": 0.75,
    }


def test_without_negatives_there_is_no_ranking() -> None:
    errors = torch.ones(3, 1, 1)
    errors[2] = math.nan
    result = summarize(errors, kinds=[None], sigmas=[0.5])
    assert result.ranking_accuracy is None
    assert result.loss_negative is None
    assert result.loss == 1.0
