"""Whole runs with the further losses: what they log, save, and how they go on.

If one of these failed, a ranking loss would be logged and not trained, or a resumed run would end
with other weights.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from sgflux.bases.flux1.load import load_scheduler
from sgflux.errors import SgfluxError
from sgflux.flow_matching import inference_sigmas
from sgflux.models.bundle import load_bundle
from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.training.build import sampling_sigmas_of
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, shallow_dict
from sgflux.training.run.train import TrainResult, train
from tests.helpers.training import MakeConfig, equal, training_rows

FLOW = LossSettings.from_flat(
    lambda_rel_rank=0.1,
    negatives=NegativeMix(role_swap=1.0, predicate=0.0, hard_predicate=1.0),
    negatives_per_example=2,
    hard_negatives_every=2,
)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> TrainResult:
    return train(make_config(tmp_path_factory.mktemp("ranked") / "run", losses=FLOW))


def test_a_ranking_run_shows_both_errors(ranked: TrainResult) -> None:
    """A ranking that improves because both errors got worse has to be seen."""
    for row in training_rows(ranked.output_dir):
        parts = row["loss_gen"] + 0.1 * row["loss_rank"] + 20.0 * row["loss_words"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
        gap = row["error_negative"] - row["error_positive"]
        assert row["error_gap"] == pytest.approx(gap, abs=1e-6)
        assert 0 <= row["train_ranking_accuracy"] <= 1
        assert 0 <= row["rank_active"] <= 1
        assert row["rank_pairs"] > 0


def test_what_the_model_confuses_is_measured_again_and_saved(ranked: TrainResult) -> None:
    states = [TrainingState.load(ranked.output_dir / f"step{n}.pt") for n in (2, 4)]
    confusions = [state.confusion for state in states]
    assert [confusion and confusion["step"] for confusion in confusions] == [0, 2]
    assert confusions[1] is not None
    for true, row in confusions[1]["weights"].items():
        assert true not in row
        assert all(0 < rate < 1 for rate in row.values())


def test_confusions_are_measured_on_things_that_training_never_brings_together(
    make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    content = (scenes / "val.jsonl").read_text()
    for name, other in (("horse", "zebra"), ("man", "tiger")):
        content = content.replace(name, other)
    (tmp_path / "val.jsonl").write_text(content)
    files = {"val_jsonl": tmp_path / "val.jsonl", "images_dir": scenes}
    assert train(make_config(tmp_path / "run", losses=FLOW, **files)).step == 4


def test_a_resumed_ranking_run_equals_an_uninterrupted_one(
    ranked: TrainResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    def interrupt(model: object, step: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    stopped = train(make_config(tmp_path / "run", losses=FLOW), validate=interrupt)
    assert stopped.step == 2
    train(make_config(tmp_path / "run", losses=FLOW, resume="auto"))
    a, b = (
        shallow_dict(TrainingState.load(folder / "step4.pt"))
        for folder in (ranked.output_dir, stopped.output_dir)
    )
    a["config"] = b["config"] = None
    assert [name for name in a if not equal(a[name], b[name])] == []


def test_saliency_weights_and_the_anchor_warm_in(make_config: MakeConfig, tmp_path: Path) -> None:
    losses = LossSettings.from_flat(
        lambda_words=0, alpha_gen_rel=2.0, lambda_anchor=0.5, anchor_start=2
    )
    train(make_config(tmp_path / "run", losses=losses, max_steps=3))
    rows = training_rows(tmp_path / "run")
    assert [row["loss_anchor"] > 0 for row in rows] == [False, False, True]
    for row in rows:
        assert row["loss_gen_rel"] != row["loss_gen"]
        expected = row["loss_gen_rel"] + 0.5 * row["loss_anchor"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_boxes_are_asked_for_where_there_are_none(make_config: MakeConfig, tmp_path: Path) -> None:
    losses = LossSettings.from_flat(alpha_gen_rel=2.0, gen_rel_from="boxes")
    with pytest.raises(SgfluxError, match=r"has no boxes.*use 'saliency'"):
        train(make_config(tmp_path / "run", losses=losses))


def test_a_frozen_encoder_stays_as_it_was_drawn(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", freeze_graph_encoder=True, max_steps=2))
    weights = AdapterWeights.load(tmp_path / "run" / "final_graph_lora_token.pt").trainable
    assert not [name for name in weights if name.startswith("encoder.")]
    _, state = load_bundle(tmp_path / "run" / "final")
    assert [name for name in state if name.startswith("encoder.")], "the bundle is complete"


def test_the_adapter_says_whether_triples_are_numbered(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    for numbered in (True, False):
        folder = tmp_path / str(numbered)
        train(make_config(folder, number_triples=numbered, max_steps=1))
        adapter, state = load_bundle(folder / "final")
        assert adapter.encoder["number_triples"] is numbered
        assert ("encoder.rank_in.weight" in state) is numbered


def test_settings_of_losses_without_effect_are_refused() -> None:
    with pytest.raises(SgfluxError, match=r"hard_negatives_every .* has no effect"):
        LossSettings.from_flat(lambda_rel_rank=1.0, hard_negatives_every=10)
    with pytest.raises(SgfluxError, match="needs classifier, the folder"):
        LossSettings.from_flat(lambda_rel_rank=1.0, ranker="latent")
    with pytest.raises(SgfluxError, match="at least one of the weights must be > 0"):
        NegativeMix(role_swap=0.0, predicate=0.0)


def test_the_anchor_is_at_the_models_own_four_levels(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", losses=LossSettings.from_flat(lambda_anchor=1.0))
    shift = load_scheduler(config.model).scheduler.config["shift"]
    levels = sampling_sigmas_of(config.model, image_tokens=64)
    torch.testing.assert_close(levels, inference_sigmas(4, shift=shift)[:-1])


def test_the_base_in_words_teaches_and_its_texts_are_encoded(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    losses = LossSettings.from_flat(lambda_words=2.0, words_start=1)
    config = make_config(tmp_path / "run", losses=losses, max_steps=3)
    assert config.conditions.prompt_mix.kinds() == ("neutral",)
    train(config)
    rows = training_rows(tmp_path / "run")
    assert [row["loss_words"] > 0 for row in rows] == [False, True, True]
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_gen"] + 2.0 * row["loss_words"], rel=1e-5)
    with pytest.raises(SgfluxError, match="lambda_words is 0"):
        LossSettings.from_flat(lambda_words=0, words_start=1)
