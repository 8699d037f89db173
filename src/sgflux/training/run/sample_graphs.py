"""The sample graphs of a run: reading them, their judge, and what draws them in validations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from sgflux.bases.families import family_of
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import vocabulary_of
from sgflux.settings.training import TrainConfig
from sgflux.training.build import Preparation
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.processes.processes import Processes
from sgflux.training.samples.graphs import SampleGraph, read_sample_graphs
from sgflux.training.samples.observer import Observer
from sgflux.training.samples.sampler import Sampler, Watched, admit, trained_pipeline
from sgflux.training.samples.texts import EncodedTexts


def read_samples(
    config: TrainConfig, splits: Splits, *, say: Say
) -> tuple[Splits, list[SampleGraph]]:
    """Read the sample graphs; none, if there is no file of them.

    Returns:
        The data of the run, with the digest of the file if the adapter is chosen by it; the graphs.

    Raises:
        SgfluxError: naming the file and the line of the first graph that cannot be drawn.
    """
    path = config.samples.sample_graphs
    if path is None:
        return splits, []
    graphs = read_sample_graphs(
        path,
        examples=splits.train,
        known=vocabulary_of(config.data.vocabulary),
        encoder=config.encoder,
        say=say,
    )
    if config.selection == "obeyed":
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        splits = replace(splits, digests={**splits.digests, "file of sample graphs": digest})
    return splits, graphs


def watch(
    config: TrainConfig,
    graphs: Sequence[SampleGraph],
    observe: Callable[[], Observer] | None,
    *,
    processes: Processes,
) -> tuple[Watched, list[str]]:
    """Bring the sample graphs and their judge together.

    Args:
        config: Configuration of the run.
        graphs: Sample graphs.
        observe: Function that makes the judge; it is called in the main process alone.
        processes: Processes that share the drawing.

    Returns:
        The graphs with their judge, and what the main process found out about both, a line each.

    Raises:
        SgfluxError: in every process, if the judge is missing or refuses a graph.
    """
    watched = Watched(graphs)
    lines: list[str] = []
    problems: list[str] = []
    if processes.is_main:
        try:
            if config.judge is None:
                watched, lines = admit(graphs, None, size=config.pictures.size)
            elif observe is None:
                raise SgfluxError(
                    f"judge {config.judge!r} was asked for, and the run was given none: train with "
                    "sgflux train, or give train() the argument observe"
                )
            else:
                watched, lines = admit(graphs, observe(), size=config.pictures.size)
        except SgfluxError as error:
            problems.append(str(error))
    problems = processes.gather(problems)
    if problems:
        raise SgfluxError(problems[0])
    return watched, lines


def sampler_of(
    config: TrainConfig,
    prepared: Preparation,
    watched: Watched,
    texts: EncodedTexts,
    *,
    processes: Processes,
) -> Sampler:
    """What draws the sample graphs; the autoencoder stays loaded for it.

    Args:
        config: Configuration of the run.
        prepared: Model of the run.
        watched: Graphs, and who judges them.
        texts: Features of their texts.
        processes: Processes that share the drawing.

    Raises:
        SgfluxError: if the autoencoder or the noise levels cannot be loaded.
    """
    family, memory = family_of(config.model), config.memory
    device = memory.encoder_device or processes.device
    return Sampler(
        watched=watched,
        pipeline=partial(
            trained_pipeline,
            prepared.model,
            text_encoders=texts,
            autoencoder=family.load_autoencoder(config.model, dtype=prepared.dtype, device=device),
            scheduler=family.load_scheduler(config.model),
            model_id=config.model.name,
            quantize=memory.quantize,
        ),
        size=config.pictures.size,
        steps=config.run.sample_steps,
        seed=config.run.seed,
        batch_size=config.optimizer.batch_size,
        processes=processes,
    )
