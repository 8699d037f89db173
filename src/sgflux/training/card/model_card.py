"""The README.md of a finished adapter: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sgflux
from sgflux.bases.name import BaseName, public_name
from sgflux.files.templates import render
from sgflux.models.adapter import AdapterConfig
from sgflux.models.card_data import card_data, license_of
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.data import DataSettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.start import StartSettings
from sgflux.settings.validation import SelectBy
from sgflux.training.card.sample import WITH_GRAPH, WITHOUT_GRAPH, CardSample
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.planning.plan import RunPlan


def model_card(
    plan: RunPlan,
    adapter: AdapterConfig,
    weights: AdapterWeights,
    sample: CardSample | None = None,
    *,
    model: ModelSource,
    data: DataSettings,
    pictures: PictureSettings,
    conditions: ConditionSettings,
    start: StartSettings,
    lr: float,
    seed: int,
    notes: Sequence[str],
    selection: SelectBy,
) -> str:
    """The card, in Markdown.

    Args:
        plan: Plan of the run.
        adapter: Configuration of the adapter.
        weights: Weights in the bundle, with their metrics.
        sample: Picture by these weights, if one was drawn.
        model: Base model.
        data: Files of the run.
        pictures: Settings of the pictures.
        conditions: Texts and graphs that the pictures came with.
        start: Adapter that the run started from, and its training adapter.
        lr: Peak learning rate.
        seed: Random seed of the run.
        notes: Remarks of the loss's terms on the figures.
        selection: Way in which the weights were chosen.
    """
    base = BaseName.of(model.name, model.revision)
    return render(
        Path(sgflux.__file__).parent / "assets" / "cards" / "adapter.md.jinja",
        head=card_data(base).to_yaml(),
        base=base,
        licence=license_of(base),
        plan=plan,
        adapter=adapter,
        weights=weights,
        metrics=weights.metrics,
        data=data,
        size=pictures.size,
        conditions=conditions,
        texts=conditions.prompt_mix.weights(),
        init_from=start.init_from and public_name(start.init_from),
        training_adapter=start.training_adapter and public_name(start.training_adapter),
        lr=lr,
        seed=seed,
        sample=sample,
        pictures=[(WITH_GRAPH, "with the graph"), (WITHOUT_GRAPH, "without")],
        notes=notes,
        selection=selection,
    )
