"""L_words: distillation from the base model prompted with the relation in text.

Shapes: B examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sgflux.models.errors import flow_matching_loss
from sgflux.settings.losses import WordsSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.objective import FlowMatchingObjective
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss


class Words:
    """Mean distance from the velocity of the base that reads the graph as text.

    An example without its graph is held to the base's velocity under its own text. With a scale
    other than 1 the target is, on average over the steps, the base's velocity under its own text,
    plus scale times the difference that the words make to it: a model that learned it needs no
    graph scale of its own when it draws. Only every second example with a graph gets that target,
    with twice the excess (scale - 1), because each costs a further forward pass of the base.
    """

    name = "words"
    figures: Mapping[str, str | None] = {}

    def __init__(self, settings: WordsSettings, sources: Sources) -> None:  # noqa: ARG002
        """Read the settings."""
        self._scale = settings.words_scale
        self.schedule = Schedule(
            settings.lambda_words, settings.words_start, settings.words_warm_in
        )

    def needs(self) -> Needs:
        """The texts, and a forward pass of the base in each step."""
        return Needs(
            captions=True,
            teacher_passes=1 if self._scale == 1 else 1.5,
            remark="The loss with the graph can be the higher one, and is no sign of worse "
            "pictures: this adapter also learned from the base itself, prompted with the relation "
            f"in text (weight {self.schedule.weight:g}). That teacher's velocity is guided and "
            "made for few steps; the data's, against which the flow-matching loss is taken, is "
            "neither.",
        )

    def ready(self, parts: Parts) -> TermLoss:
        """Take the texts."""

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            velocity = step.branches.velocity[0]
            count: float = len(step.batch.graphs)
            told = told_in_words(step.batch, parts.captions(step.rows))
            own = step.batch
            if own.layouts is not None:
                # The teacher does not know the boxes, so it teaches the examples that are read
                # without.
                taught = [place for place, layout in enumerate(own.layouts) if layout is None]
                chosen = taught or step.objective.asked_at_least
                if not chosen:
                    return velocity.new_zeros((), dtype=torch.float32), {}
                velocity = velocity[torch.tensor(chosen, device=velocity.device)]
                told, own = told.select(chosen), own.select(chosen)
                count = count if taught else math.inf
            errors = flow_matching_loss(velocity, self._target(step.objective, own, told))
            return errors.sum() / count, {}

        return loss

    def _target(self, objective: FlowMatchingObjective, own: Batch, told: Batch) -> Tensor:
        """The base's velocity of the examples, told in words and scaled: (B, S, c') float32.

        Args:
            objective: Runs the base.
            own: Examples with their own texts.
            told: The same examples with texts that state their graphs.
        """
        target = objective.base_velocity(told).float()
        stated = [place for place, graph in enumerate(own.graphs) if not graph.is_null]
        chosen = stated[::2] or objective.asked_at_least
        if self._scale == 1 or not chosen:
            return target
        plain = objective.base_velocity(own.select(chosen)).float()
        if not stated:
            return target
        scale = 1 + (self._scale - 1) * len(stated) / len(chosen)
        places = torch.tensor(chosen, device=target.device)
        return target.index_copy(0, places, torch.lerp(plain, target[places], scale))


def told_in_words(batch: Batch, text: Mapping[str, Tensor]) -> Batch:
    """The batch with other texts; an example without its graph keeps its own.

    Args:
        batch: B examples.
        text: Features of B texts by name, (B, ...) each.
    """
    has_graph = torch.tensor([not graph.is_null for graph in batch.graphs])

    def told(own: Tensor, stated: Tensor) -> Tensor:
        where = has_graph.to(own.device).view(-1, *(1 for _ in own.shape[1:]))
        return torch.where(where, stated.to(own), own)

    return replace(batch, text={name: told(own, text[name]) for name, own in batch.text.items()})
