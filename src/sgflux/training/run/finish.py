"""The end of a run: the last weights, and the best ones as the bundle that is used."""

from __future__ import annotations

from pathlib import Path

from sgflux.bases.name import BaseName
from sgflux.data.seen_rows import SEEN_FILE, seen_bytes
from sgflux.models.bundle import save_bundle
from sgflux.settings.training import TrainConfig
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.loop import TrainingRun
from sgflux.training.processes.processes import Processes
from sgflux.training.run.card_sample import draw_sample
from sgflux.training.run.model_card import model_card
from sgflux.training.samples.sampler import sheet_of

SAMPLES_SHEET = "sample_graphs.png"
"""The sample graphs' pictures in a bundle."""


def finish(
    config: TrainConfig,
    splits: Splits,
    prepared: Preparation,
    run: TrainingRun,
    *,
    folder: RunFolder,
    processes: Processes,
    say: Say,
) -> Path:
    """Write the last weights, and the best ones as the bundle to be used.

    Args:
        config: Configuration of the run.
        splits: Data of the run.
        prepared: Model of the run, which takes over the chosen weights.
        run: Run after its last step.
        folder: Folder of the run.
        processes: Processes that share the drawing of the model card's sample.
        say: Function that shows a line to the user.

    Returns:
        Folder of the bundle.

    Raises:
        SgfluxError: if a file cannot be written, or a part that draws cannot be loaded.
    """
    last = run.finished()
    chosen = last if run.best is None else run.best
    sample = None
    if processes.is_main:
        last.save(folder.last)
    # Processes that share the base must draw together.
    if config.run.sample_steps and (processes.is_main or config.processes.shard_base):
        say(f"drawing the model card's sample in {config.run.sample_steps} steps")
        sample = draw_sample(
            splits,
            prepared,
            chosen.weights,
            source=config.model,
            memory=config.memory,
            size=config.pictures.size,
            steps=config.run.sample_steps,
            seed=config.run.seed,
        )
    if processes.is_main:
        pictures = {} if sample is None else dict(sample.pictures)
        sheet = folder.root / sheet_of(chosen.step)
        if config.samples.sample_graphs is not None and sheet.is_file():
            pictures[SAMPLES_SHEET] = sheet.read_bytes()
        card = model_card(
            config,
            prepared.plan,
            prepared.adapter,
            chosen,
            sample,
            sheet=SAMPLES_SHEET if SAMPLES_SHEET in pictures else None,
            notes=[need.remark for need in splits.needs if need.remark],
        )
        save_bundle(
            folder.bundle,
            config=prepared.adapter,
            state={**chosen.weights, **prepared.model.frozen_parameters()},
            card=card,
            metrics={"step": chosen.step, **chosen.metrics},
            pictures=pictures,
            base=BaseName.of(config.model.name, config.model.revision),
            files={SEEN_FILE: seen_bytes(prepared.seen)},
        )
    processes.wait()
    say(f"finished: the adapter of step {chosen.step} is in {folder.bundle}")
    return folder.bundle
