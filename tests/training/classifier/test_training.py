"""Classifiers of relations: made by a command, measured, refused if they know nothing, and used.

If one of these failed, a ranker would be trained with a classifier that is no better than chance,
or was measured on its own training data.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.load import load_transformer, model_identity
from sgflux.errors import SgfluxError
from sgflux.models.relation_classifier import (
    ClassifierKind,
    load_classifier,
    read_card,
    save_classifier,
)
from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.settings.model_source import ModelSource
from sgflux.training.classifier.training import ClassifierConfig, train_classifier
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig, training_rows

KINDS: tuple[ClassifierKind, ...] = ("latent", "saliency")


@pytest.fixture(scope="module")
def make(flux: Path, scenes: Path) -> Any:
    def make(out_dir: Path, **changes: Any) -> ClassifierConfig:
        settings: dict[str, Any] = {
            "train_jsonl": scenes / "train.jsonl",
            "val_jsonl": scenes / "val.jsonl",
            "output_dir": out_dir,
            "model_id": str(flux),
            "device": "cpu",
            "dtype": "fp32",
            "height": 16,
            "width": 16,
            "max_steps": 2,
            "batch_size": 3,
            "channels": 8,
        }
        return ClassifierConfig.from_flat(**{**settings, **changes})

    return make


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory, make: Any) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    for kind in KINDS:
        train_classifier(make(folder / kind, kind=kind), say=lambda text: None)
    return folder


def believed(folder: Path, kind: str, where: Path) -> Path:
    """The same classifier with a card that says it is good."""
    model, card = load_classifier(folder / kind)
    good = {**card.held_out, "accuracy": 0.95, "ci95": [0.9, 1.0]}
    save_classifier(where, model, dataclasses.replace(card, held_out=good))
    return where


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_comes_with_its_figures(classifiers: Path, kind: str) -> None:
    card = json.loads((classifiers / kind / "classifier.json").read_text())
    figures = card["held_out"]
    assert set(figures) == {
        "accuracy", "ci95", "chance", "n", "pictures", "confusion", "calibration",
    }  # fmt: skip
    assert figures["n"] == figures["pictures"] == 4
    assert figures["confusion"]["labels"] == card["predicates"]
    assert sum(map(sum, figures["confusion"]["counts"])) == 4
    assert len(card["predicates"]) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_may_know_nothing_is_refused_as_a_loss(
    classifiers: Path, make_config: MakeConfig, tmp_path: Path, kind: str
) -> None:
    assert not read_card(classifiers / kind).is_better_than_chance
    losses = LossSettings.from_flat(lambda_rel_rank=1.0, ranker=kind, classifier=classifiers / kind)
    with pytest.raises(SgfluxError, match=r"refused as a loss.*not above chance"):
        train(make_config(tmp_path / "run", losses=losses))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compares", [False, True])
def test_one_that_is_good_ranks(
    classifiers: Path, make_config: MakeConfig, tmp_path: Path, kind: str, compares: bool
) -> None:
    folder = believed(classifiers, kind, tmp_path / "good")
    losses = LossSettings.from_flat(
        lambda_words=0.0,
        lambda_rel_rank=1.0,
        ranker=kind,
        classifier=folder,
        use_negative_graph=compares,
    )
    train(make_config(tmp_path / "run", losses=losses, max_steps=2, val_every=0, save_every=0))
    for row in training_rows(tmp_path / "run"):
        assert row["loss"] == pytest.approx(row["loss_gen"] + row["loss_rank"], rel=1e-5)
        assert row["loss_rank"] > 0
        # Without negative graphs in the network there is no e(g-) to show.
        assert ("error_negative" in row) == compares


def test_its_confusions_are_hard_negatives(
    classifiers: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = believed(classifiers, "latent", tmp_path / "good")
    losses = LossSettings.from_flat(
        lambda_rel_rank=1.0,
        classifier=folder,
        hard_negatives_from="classifier",
        negatives=NegativeMix(role_swap=0.0, predicate=0.0, hard_predicate=1.0),
    )
    train(make_config(tmp_path / "run", losses=losses, max_steps=1, val_every=0, save_every=0))
    (row,) = training_rows(tmp_path / "run")
    assert row["rank_pairs"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_another_base_is_refused_whichever_weight_differs(
    classifiers: Path, make_config: MakeConfig, flux: Path, tmp_path: Path, kind: str
) -> None:
    """Also a weight in a block's middle, which the old fingerprint of two layers does not see."""
    folder = believed(classifiers, kind, tmp_path / "good")
    part = "vae" if kind == "latent" else "transformer"
    other = Path(shutil.copytree(flux, tmp_path / "other"))
    (path,) = (other / part).glob("*.safetensors")
    weights = load_file(path)
    name = next(key for key, value in weights.items() if value.ndim >= 2 and "block" in key)
    save_file({**weights, name: weights[name] + 0.1}, path, metadata={"format": "pt"})
    losses = LossSettings.from_flat(lambda_rel_rank=1.0, ranker=kind, classifier=folder)
    with pytest.raises(SgfluxError, match=r"was made on another (autoencoder|transformer) than"):
        train(make_config(tmp_path / "run", losses=losses, model_id=str(other)))


def test_one_of_before_names_the_transformer_by_two_of_its_layers(
    classifiers: Path, make_config: MakeConfig, flux: Path, tmp_path: Path
) -> None:
    model, card = load_classifier(believed(classifiers, "saliency", tmp_path / "good"))
    old = model_identity(load_transformer(ModelSource(model_id=str(flux))))["fingerprint"]
    save_classifier(tmp_path / "old", model, dataclasses.replace(card, reads=old))
    losses = LossSettings.from_flat(
        lambda_words=0.0, lambda_rel_rank=1.0, ranker="saliency", classifier=tmp_path / "old"
    )
    train(make_config(tmp_path / "run", losses=losses, max_steps=1, val_every=0, save_every=0))


def test_a_classifier_of_another_kind_or_folder_is_named(
    classifiers: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = believed(classifiers, "latent", tmp_path / "good")
    losses = LossSettings.from_flat(lambda_rel_rank=1.0, ranker="saliency", classifier=folder)
    with pytest.raises(SgfluxError, match="is of kind 'latent', but ranker is 'saliency'"):
        train(make_config(tmp_path / "run", losses=losses))
    losses = LossSettings.from_flat(
        lambda_rel_rank=1.0, ranker="latent", classifier=tmp_path / "nothing"
    )
    with pytest.raises(SgfluxError, match="`sgflux train-classifier` writes one"):
        train(make_config(tmp_path / "run", losses=losses))


def test_bad_input_is_refused_before_anything_is_loaded(make: Any, tmp_path: Path) -> None:
    same = make(tmp_path / "out")
    same = dataclasses.replace(same, val_jsonl=same.train_jsonl)
    with pytest.raises(SgfluxError, match="shows a picture that is trained on"):
        train_classifier(same)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SgfluxError, match="is in use"):
        train_classifier(make(tmp_path / "full"))
    for name, value in (("max_steps", 0), ("channels", 12), ("lr", 0.0)):
        with pytest.raises(SgfluxError, match=f"{name} must be"):
            make(tmp_path / "x", **{name: value})
