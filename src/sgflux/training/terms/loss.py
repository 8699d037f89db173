"""The loss of a forward pass: all terms see one shared answer of the model, and are summed.

Shapes: B examples, F figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sgflux.graphs.scene_graph import Triple
from sgflux.models.block_range import check_concept_blocks, default_concept_blocks
from sgflux.training.batches.batch import Batch
from sgflux.training.objective import Concepts, FlowMatchingObjective
from sgflux.training.terms.ranking.ranking import Ranking
from sgflux.training.terms.term import Parts, Step, Term


class TrainingLoss:
    """The weighted sum of the terms.

    Attributes:
        names: Names of the F figures that a pass gives beside its loss.
        shown: Figures that the printed log shows, and what it calls them.
        ranking: The ranking term, which measures confusions and keeps them; None without it.
    """

    def __init__(
        self, terms: Sequence[Term], parts: Parts, *, objective: FlowMatchingObjective
    ) -> None:
        """Make the terms ready.

        Args:
            terms: The terms of the run.
            parts: Everything that they are made of.
            objective: Runs the network.

        Raises:
            SgfluxError: if a part does not fit a term.
        """
        self._objective = objective
        self._parts = parts
        self._terms = [(term, term.ready(parts)) for term in terms]
        self.ranking = next((term for term in terms if isinstance(term, Ranking)), None)
        needs = [term.needs() for term in terms]
        self.shown = {name: label for need in needs for name, label in need.shown.items()}
        drawing = [
            (term.schedule, need.contrasts)
            for term, need in zip(terms, needs, strict=True)
            if need.contrasts is not None
        ]
        if len(drawing) > 1:
            raise ValueError("only one term of a run may draw negatives")
        self._contrasts = drawing[0] if drawing else None
        # One statement's maps serve all terms, so the larger set of words looks on.
        words = [need.concepts for need in needs if need.concepts is not None]
        self._map_readers = [own.read for own in words]
        self._concepts = max(words, key=lambda own: len(own.predicates), default=None)
        self._blocks: tuple[int, ...] = ()
        if self._concepts is not None:
            self._blocks = self._concepts.blocks or default_concept_blocks(parts.num_layers)
            check_concept_blocks(self._blocks, num_layers=parts.num_layers)
        self._counted_by = {
            name: counter for term in terms for name, counter in term.figures.items() if counter
        }
        self.names = tuple(name for term in terms for name in (f"loss_{term.name}", *term.figures))
        if self.names == ("loss_gen",):
            self.names = ()  # it is the loss itself

    def __call__(
        self, batch: Batch, rows: Sequence[int], *, step: int, draws: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The loss of a pass, a scalar with gradient, and its figures, (F,) float32 without.

        Args:
            batch: B examples.
            rows: Rows of the examples.
            step: Number of optimizer steps done.
            draws: Numbers that random draws follow from beside the seed: the number of the pass, 0.
        """
        shared = self._forward(batch, rows, step=step, draws=draws)
        total = torch.zeros((), device=batch.latents.device)
        figures: dict[str, Tensor] = {}
        for term, loss in self._terms:
            if weight := term.schedule.at(step):
                value, further = loss(shared)
                if further.keys() != term.figures.keys():
                    raise ValueError(
                        f"the term {term.name!r} must give the figures {sorted(term.figures)} that "
                        f"it names, got {sorted(further)}"
                    )
                total = total + weight * value
                figures |= {f"loss_{term.name}": value, **further}
        nothing = torch.zeros_like(total)
        found = [figures.get(name, nothing).detach().float() for name in self.names]
        return total, torch.stack(found) if found else total.new_zeros(0)

    def row(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Figures averaged over passes as they are logged: sums become means.

        A mean that counts nothing is left out.
        """
        found = {}
        for name, value in figures.items():
            counter = self._counted_by.get(name)
            if counter is None:
                found[name] = value
            elif figures[counter]:
                found[name] = value / figures[counter]
        return found

    def _forward(
        self, batch: Batch, rows: Sequence[int], *, step: int, draws: Sequence[int]
    ) -> Step:
        """The one forward pass that all terms of a step share."""
        contrasts = None
        if self._contrasts is not None:
            schedule, draw = self._contrasts
            contrasts = draw(batch, rows, draws) if schedule.at(step) else None
        statements: list[Triple] = []
        words: list[list[str]] = []
        concepts = None
        if self._concepts is not None and any(reader.at(step) for reader in self._map_readers):
            if contrasts is not None and self._concepts.of_contrast:
                statements = [one.true for one in contrasts.asked[0]]
            else:
                statements = [self._parts.examples[row].triple for row in rows]
            words = [self._concepts.of(statement) for statement in statements]
            concepts = self._looking_on(words, device=batch.latents.device)
        return Step(
            number=step,
            draws=draws,
            rows=rows,
            batch=batch,
            objective=self._objective,
            branches=self._objective.branches(
                batch, [] if contrasts is None else contrasts.graphs, concepts=concepts
            ),
            contrasts=contrasts,
            statements=statements,
            concepts=words,
        )

    def _looking_on(self, words: Sequence[Sequence[str]], *, device: torch.device) -> Concepts:
        """The features of B lists of words."""
        text = self._parts.concept_text
        assert text is not None, "it was encoded for a run with concepts"
        features = self._parts.names.lookup([word for own in words for word in own])
        return Concepts(
            states=features.unflatten(0, (len(words), -1)).to(device),
            text={
                name: tensor.to(device).expand(len(words), *tensor.shape[1:])
                for name, tensor in text.items()
            },
            blocks=self._blocks,
        )
