"""Before a run loads or encodes anything: what it will need is there, whole and readable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from sgflux.bases.flux1.text import text_length
from sgflux.errors import SgfluxError
from sgflux.files.writing import expect_room, free_bytes, readable_size
from sgflux.preflight.data import check_names, check_pictures
from sgflux.preflight.model import check_libraries, check_model
from sgflux.settings.training import TrainConfig
from sgflux.training.encoding.splits import Splits, images_root
from sgflux.training.planning.plan import RunPlan
from sgflux.training.processes.processes import Processes

NOT_CHECKED = (
    "not checked: the values of the weights, whether everything fits into memory, and the "
    "training itself"
)
"""What a dry run leaves open."""

_ADAM = 2
"""Numbers that AdamW keeps of each trained one."""


def check_inputs(
    config: TrainConfig,
    splits: Splits,
    *,
    processes: Processes,
    needs_transformer: bool = True,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Look at the model's files, the pictures and the words of a run.

    The main process looks; the others learn what it found.

    Args:
        config: Configuration of the run.
        splits: Examples of the run.
        processes: The processes of the run.
        needs_transformer: Whether the transformer's files are needed, too.
        names: Names that are looked up; None: those of the run.

    Returns:
        What was looked at, a line each.

    Raises:
        SgfluxError: in every process, naming the file, what is wrong and the way out.
    """
    lines, problems = [], []
    if processes.is_main:
        try:
            lines = _looked_at(config, splits, needs_transformer=needs_transformer, names=names)
        except SgfluxError as error:
            problems.append(str(error))
    problems = processes.gather(problems)
    if problems:
        raise SgfluxError(problems[0])
    return lines


def _looked_at(
    config: TrainConfig, splits: Splits, *, needs_transformer: bool, names: Sequence[str] | None
) -> list[str]:
    check_libraries(quantize=config.memory.quantize)
    report = check_model(config.model, needs_transformer=needs_transformer)
    lines = [*report.lines]
    wanted = splits.names(config) if names is None else list(names)
    files = [path for path in (config.data.train_jsonl, config.data.val_jsonl) if path is not None]
    if report.tokenizer_2 is not None and wanted:
        lines.append(
            check_names(
                wanted,
                tokenizer=report.tokenizer_2,
                max_sequence_length=text_length(
                    config.conditions.max_sequence_length,
                    report.tokenizer_2.model_max_length,
                    model=config.model.name,
                ),
                files=files,
            )
        )
    for path, examples in zip(files, (splits.train, splits.val), strict=False):
        if examples:
            lines.append(
                check_pictures(
                    path,
                    examples,
                    images_dir=images_root(config, path),
                    crop=config.pictures.crop,
                    height=config.pictures.size[0],
                    width=config.pictures.size[1],
                    progress=sys.stderr.isatty(),
                )
            )
    return lines


def check_room(config: TrainConfig, plan: RunPlan, *, say: Callable[[str], None]) -> None:
    """Compare what the run will write with what its disk has free.

    Args:
        config: Configuration of the run.
        plan: Numbers of the run.
        say: Takes a warning, if the disk has no room for all checkpoints that are to be kept.

    Raises:
        SgfluxError: if there is no room for one checkpoint and the finished adapter.
    """
    weights = 4 * plan.trainable * (2 if config.optimizer.ema_decay else 1)
    validates = config.data.val_jsonl is not None
    # A checkpoint has the best weights so far, too.
    state = weights * (2 if validates else 1) + 4 * _ADAM * plan.trainable
    # The best, the last, and the bundle.
    finished = weights * (2 if validates else 1) + 4 * plan.trainable
    expect_room(config.run.output_dir, state + finished, "a checkpoint and the finished adapter")
    count = plan.max_steps // config.run.save_every if config.run.save_every else 0
    if config.run.keep_checkpoints:
        count = min(count, config.run.keep_checkpoints + 1)
    total, free = count * state + finished, free_bytes(config.run.output_dir)
    if free is not None and total > free:
        say(
            f"warning: {count} checkpoints and the adapter take {readable_size(total)}, and the "
            f"disk of {config.run.output_dir} has {readable_size(free)} free; --keep-checkpoints "
            "keeps fewer"
        )
