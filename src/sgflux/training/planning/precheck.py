"""Before a run loads or encodes anything: what it will need is there, whole and readable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sgflux.bases.families import family_of
from sgflux.bases.memory.offload import check_gain
from sgflux.bases.memory.quantization import check_libraries
from sgflux.errors import SgfluxError
from sgflux.files.writing import expect_room, free_bytes, readable_size
from sgflux.preflight.data import check_names, check_pictures
from sgflux.settings.data import DataSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.run import RunSettings
from sgflux.training.encoding.splits import Splits
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
    splits: Splits,
    names: Sequence[str],
    *,
    data: DataSettings,
    model: ModelSource,
    pictures: PictureSettings,
    max_sequence_length: int | None,
    processes: Processes,
    memory: MemorySettings | None = None,
    needs_transformer: bool = True,
    sample_names: Sequence[str] = (),
    sample_file: Path | None = None,
) -> list[str]:
    """Look at the model's files, the pictures and the words of a run.

    The main process looks; the others learn what it found.

    Args:
        splits: Data of the run.
        names: Names and statements that are looked up.
        data: Files of the run.
        model: Base model.
        pictures: Settings of the pictures.
        max_sequence_length: Text tokens of a prompt; None: as many as the tokenizer allows.
        processes: Processes of the run.
        memory: Ways to need less memory; None: there are none.
        needs_transformer: Whether the transformer's files are needed, too.
        sample_names: Names and statements of the graphs that are drawn during the training.
        sample_file: File of these graphs, for the message.

    Returns:
        What was looked at, a line each.

    Raises:
        SgfluxError: in every process, naming the file, what is wrong and the way out.
    """
    lines: list[str] = []
    problems: list[str] = []
    if processes.is_main:
        try:
            if memory is not None:
                check_libraries(quantize=memory.quantize)
                if memory.offload_blocks:
                    check_gain(processes.device, memory.offload_folder)
            report = family_of(model).check(model, needs_transformer=needs_transformer)
            lines += report.lines
            if report.unreadable is not None and names:
                unreadable = report.unreadable(names, max_sequence_length)
                lines.append(check_names(list(names), unreadable=unreadable, files=data.files))
            if report.unreadable is not None and sample_names and sample_file is not None:
                unreadable = report.unreadable(sample_names, max_sequence_length)
                line = check_names(sample_names, unreadable=unreadable, files=[sample_file])
                lines.append(f"{sample_file}: {line}")
            for path, examples in zip(data.files, (splits.train, splits.val), strict=False):
                if examples:
                    lines.append(
                        check_pictures(
                            path,
                            examples,
                            images_dir=data.images_root(path),
                            crop=pictures.crop,
                            height=pictures.size[0],
                            width=pictures.size[1],
                            progress=sys.stderr.isatty(),
                        )
                    )
        except SgfluxError as error:
            problems.append(str(error))
    problems = processes.gather(problems)
    if problems:
        raise SgfluxError(problems[0])
    return lines


def check_room(
    run: RunSettings,
    plan: RunPlan,
    *,
    averages: bool,
    validates: bool,
    say: Callable[[str], None],
) -> None:
    """Compare what the run will write with what its disk has free.

    Args:
        run: Folder of the run, and how often it writes.
        plan: Numbers of the run.
        averages: Whether a moving average of the weights is kept.
        validates: Whether the best adapter is kept.
        say: Function that shows a warning, if the disk has no room for all checkpoints that are to
            be kept.

    Raises:
        SgfluxError: if there is no room for one checkpoint and the finished adapter.
    """
    weights = 4 * plan.trainable * (2 if averages else 1)
    # A checkpoint has the best weights so far, too.
    state = weights * (2 if validates else 1) + 4 * _ADAM * plan.trainable
    # The best, the last, and the bundle.
    finished = weights * (2 if validates else 1) + 4 * plan.trainable
    folder = run.output_dir
    expect_room(folder, state + finished, "a checkpoint and the finished adapter")
    count = plan.max_steps // run.save_every if run.save_every else 0
    if run.keep_checkpoints:
        count = min(count, run.keep_checkpoints + 1)
    total, free = count * state + finished, free_bytes(folder)
    if free is not None and total > free:
        say(
            f"warning: {count} checkpoints and the adapter take {readable_size(total)}, and the "
            f"disk of {folder} has {readable_size(free)} free; --keep-checkpoints keeps fewer"
        )
