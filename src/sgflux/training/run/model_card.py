"""The README.md of a finished adapter: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sgflux
from sgflux.bases.name import BaseName, public_name
from sgflux.files.templates import render
from sgflux.models.adapter import AdapterConfig
from sgflux.models.card_data import card_data, license_of
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.planning.plan import RunPlan
from sgflux.training.run.card_sample import WITH_GRAPH, WITHOUT_GRAPH, CardSample


def model_card(
    config: TrainConfig,
    plan: RunPlan,
    adapter: AdapterConfig,
    weights: AdapterWeights,
    sample: CardSample | None = None,
    *,
    sheet: str | None = None,
    notes: Sequence[str],
) -> str:
    """The card, in Markdown.

    Args:
        config: Configuration of the run.
        plan: Plan of the run.
        adapter: Configuration of the adapter.
        weights: Weights in the bundle, with their metrics.
        sample: Picture by these weights, if one was drawn.
        sheet: Name of the file with the sample graphs' pictures by these weights, if there is one.
        notes: Remarks of the loss's terms on the figures.
    """
    base, start = BaseName.of(config.model.name, config.model.revision), config.start
    return render(
        Path(sgflux.__file__).parent / "assets" / "cards" / "adapter.md.jinja",
        head=card_data(base).to_yaml(),
        base=base,
        licence=license_of(base),
        plan=plan,
        adapter=adapter,
        weights=weights,
        metrics=weights.metrics,
        config=config,
        texts=config.conditions.prompt_mix.weights(),
        init_from=start.init_from and public_name(start.init_from),
        training_adapter=start.training_adapter and public_name(start.training_adapter),
        sample=sample,
        sheet=sheet,
        judge=config.judge,
        pictures=[(WITH_GRAPH, "with the graph"), (WITHOUT_GRAPH, "without")],
        notes=notes,
        selection=config.selection,
    )
