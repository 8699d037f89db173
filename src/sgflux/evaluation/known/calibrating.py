"""``sgflux eval calibrate``: a judge is measured on pictures whose relations are known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import LOOKING, Means, make_judge
from sgflux.evaluation.judges.judge import Judge, predicate_of
from sgflux.evaluation.known.annotated import AnnotatedBoxes
from sgflux.evaluation.known.figures import POSITIONS, calibration_of
from sgflux.evaluation.known.file import write_calibration
from sgflux.evaluation.known.pictures import KnownSet
from sgflux.evaluation.known.questions import ask, questions_of
from sgflux.evaluation.known.reading import read_known
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.settings.judges import JudgeSettings


def calibrate_judge(
    judge: str,
    data: Sequence[Path],
    *,
    output: Path,
    settings: JudgeSettings,
    images_dir: Path | None,
    annotated_boxes: bool,
    predicates: Sequence[str],
    device: str,
    seed: int,
    command: Sequence[str],
    show_progress: bool,
) -> dict[str, Any]:
    """Measure a judge and write what comes out.

    Args:
        judge: Names of judges, as ``--judge`` takes them.
        data: Files of known pictures.
        output: Path of the calibration file.
        settings: Models that the judges ask.
        images_dir: Folder of the pictures; None: the folder of each file.
        annotated_boxes: Give the judge the annotated boxes in place of a detector's.
        predicates: Predicates that the overall figures of people's statements are over; none: the
            six positions.
        device: Device of the judges, as settings name it.
        seed: Random seed of the false statements.
        command: Command line for the record.
        show_progress: Show a bar on stderr.

    Returns:
        The content of the file.

    Raises:
        SgfluxError: on bad data, or a judge that covers none of it.
    """
    known = read_known(data, images_dir=images_dir)
    boxes = AnnotatedBoxes(known.pictures) if annotated_boxes else None
    if boxes is not None and LOOKING.isdisjoint(name.strip() for name in judge.split(",")):
        raise SgfluxError(f"boxes 'annotated' has no effect with judge {judge!r}; leave it out")
    asked = make_judge(judge, Means(settings=settings, device=device, boxes=boxes))
    if asked is None:
        raise SgfluxError(f"judge {judge!r} is nobody who could be measured")
    figures = measure(asked, known, predicates=predicates, seed=seed, show_progress=show_progress)
    return write_calibration(output, figures, data=data, seed=seed, command=shlex.join(command))


def measure(
    judge: Judge,
    known: KnownSet,
    *,
    predicates: Sequence[str] = (),
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Return the figures of a judge on known pictures.

    Raises:
        SgfluxError: if the judge covers none of the statements, or as the judge.
    """
    counted = [DEFAULT_VOCABULARY.normalize(name) for name in predicates] or POSITIONS
    questions = questions_of(known.pictures, judge, seed=seed)
    if not questions:
        there = sorted({predicate_of(s.triple) for p in known.pictures for s in p.statements})
        raise SgfluxError(
            f"the judge {judge.identity.name!r} covers none of the predicates of the data, {there}"
        )
    with progress_bar(len(known.pictures), "judge", show=show_progress) as advance:
        answers = ask(judge, known.pictures, questions, advance=advance)
    figures = calibration_of(judge, known.pictures, answers, predicates=counted)
    return {**figures, "left_out": known.left_out}
