"""A loss term of one's own: everything about it stands here, and a run trains with it.

If one of these failed, a new loss term would need a change in another room, or a term that is
switched on would have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.settings.checks import NotNegative, settings
from sgflux.settings.flat import Group
from sgflux.settings.losses import LayoutSettings, LossSettings, check_term
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.run.train import train
from sgflux.training.terms.table import TERMS, read_terms
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss
from tests.helpers.training import MakeConfig, training_rows

PLAIN = LossSettings.from_flat(lambda_words=0.0)
SHORT: dict[str, Any] = {
    "val_jsonl": None,
    "val_every": 250,
    "val_sigmas": 4,
    "max_steps": 2,
    "save_every": 0,
    "sample_steps": 0,
}


@settings
class StillnessSettings:
    """A small velocity."""

    lambda_stillness: NotNegative = 0.0
    """Weight of a small velocity."""

    def __post_init__(self) -> None:
        check_term(self)


@dataclass(frozen=True, kw_only=True)
class LossesWithStillness(LossSettings):
    """The settings of the losses with one more term, as settings/losses.py would have it."""

    stillness: Group[StillnessSettings] = field(default_factory=StillnessSettings)
    """A small velocity."""


class Stillness:
    """The mean square of the velocity under the true graph."""

    name = "stillness"
    figures: Mapping[str, str | None] = {"largest_velocity": None}

    def __init__(self, settings: StillnessSettings, sources: Sources) -> None:
        self.schedule = Schedule(settings.lambda_stillness)

    def needs(self) -> Needs:
        return Needs(captions=True)

    def ready(self, parts: Parts) -> TermLoss:
        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            velocity = step.branches.velocity[0]
            assert parts.captions(step.rows)["hidden"].shape[0] == len(velocity)
            return velocity.square().mean(), {"largest_velocity": velocity.abs().max()}

        return loss


def trained(folder: Path) -> dict[str, Tensor]:
    return dict(AdapterWeights.load(folder / "final_graph_lora_token.pt").trainable)


def test_a_term_of_ones_own_trains_and_is_logged(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class, its settings and one line are all that a new term takes."""
    train(make_config(tmp_path / "plain", losses=PLAIN, **SHORT))
    monkeypatch.setitem(TERMS, StillnessSettings, Stillness)
    losses = LossesWithStillness.from_flat(lambda_words=0.0, lambda_stillness=0.5)
    train(make_config(tmp_path / "still", losses=losses, **SHORT))
    for row in training_rows(tmp_path / "still"):
        expected = row["loss_gen"] + 0.5 * row["loss_stillness"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert row["largest_velocity"] ** 2 >= row["loss_stillness"] > 0
    plain, still = trained(tmp_path / "plain"), trained(tmp_path / "still")
    assert any(not torch.equal(plain[name], still[name]) for name in plain)


@pytest.mark.parametrize("kind", [kind for kind in TERMS if kind is not LayoutSettings])
def test_every_term_that_is_switched_on_changes_what_is_learned(
    make_config: MakeConfig, tmp_path: Path, kind: type
) -> None:
    """A weight that nothing reads would train plain flow matching in silence.

    The layout loss has weights of its own and needs boxes; test_layout.py asks the same of it.
    """
    train(make_config(tmp_path / "plain", losses=PLAIN, **SHORT))
    weight = fields(kind)[0].name
    losses = LossSettings.from_flat(**{"lambda_words": 0.0, weight: 1.0})
    train(make_config(tmp_path / "with", losses=losses, **SHORT))
    plain, changed = trained(tmp_path / "plain"), trained(tmp_path / "with")
    assert any(not torch.equal(plain[name], changed[name]) for name in plain)


def test_a_weight_without_a_term_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    """Also at weight 0: the line of the table is missing, whoever sets the weight first."""
    config = make_config(
        tmp_path / "run", losses=LossesWithStillness.from_flat(lambda_words=0.0), **SHORT
    )
    with pytest.raises(SgfluxError, match=r"StillnessSettings.* a line in the other"):
        train(config)


def test_a_term_that_does_not_give_its_figures_is_refused(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure that is named and never given would be logged as 0."""
    monkeypatch.setattr(Stillness, "figures", {"smallest_velocity": None})
    monkeypatch.setitem(TERMS, StillnessSettings, Stillness)
    losses = LossesWithStillness.from_flat(lambda_words=0.0, lambda_stillness=0.5)
    with pytest.raises(ValueError, match="'stillness' must give the figures"):
        train(make_config(tmp_path / "run", losses=losses, **SHORT))


def test_flow_matching_is_a_term_of_every_run() -> None:
    sources = Sources(examples=[], seed=0, vocabulary=None, say=print)  # type: ignore[arg-type]
    assert [term.name for term in read_terms(PLAIN, sources)] == ["gen"]
    weighted = LossSettings.from_flat(lambda_words=0.0, alpha_gen_rel=1.0, lambda_anchor=1.0)
    assert [term.name for term in read_terms(weighted, sources)] == ["gen_rel", "anchor"]
