"""Trackers of experiments beside TensorBoard, through accelerate's own classes.

A tracker gets the numbers that TensorBoard's file gets, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgflux.errors import SgfluxError, first_line

if TYPE_CHECKING:
    import numpy as np
    from accelerate.tracking import GeneralTracker  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Kind:
    """A kind of tracker.

    Attributes:
        package: Name of the package that must be installed, for pip and for Python.
        make: Function that makes accelerate's tracker from the names of a project and a run.
    """

    package: str
    make: Callable[[str, str], GeneralTracker]


def _wandb(project: str, run: str) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    return WandBTracker(project, name=run)


def _trackio(project: str, run: str) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(project, name=run)


def _mlflow(project: str, run: str) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(project, run_name=run)


TRACKERS = {
    "wandb": Kind("wandb", _wandb),
    "trackio": Kind("trackio", _trackio),
    "mlflow": Kind("mlflow", _mlflow),
}
"""Name on the command line -> the tracker. TensorBoard's file is written without a package."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that the package of each tracker is installed; nothing is imported.

    Raises:
        SgfluxError: naming the tracker and the line that installs it.
    """
    for name in names:
        if name in TRACKERS and find_spec(TRACKERS[name].package) is None:
            package = TRACKERS[name].package
            raise SgfluxError(
                f"log_with: {name!r} needs a package that is not installed: pip install {package}"
            )


def start_trackers(
    names: Sequence[str], *, project: str, run: str, settings: Mapping[str, Any]
) -> list[GeneralTracker]:
    """Start the trackers that are named, in the process that writes.

    Args:
        names: Names of trackers; 'tensorboard' is none of accelerate's here.
        project: Name of the project that the run belongs to.
        run: Name of the run.
        settings: Settings of the run, which the trackers keep.

    Raises:
        SgfluxError: naming the tracker that cannot be started, and what it says.
    """
    started = []
    for name in names:
        if name in TRACKERS:
            with naming_tracker(name):
                tracker = TRACKERS[name].make(project, run)
                tracker.start()
                tracker.store_init_configuration(dict(_flat(settings)))
            started.append(tracker)
    return started


@contextmanager
def naming_tracker(name: str) -> Iterator[None]:
    """Turn whatever a tracker raises into one line.

    Raises:
        SgfluxError: naming the tracker, in place of any error of the block.
    """
    try:
        yield
    except Exception as error:
        raise SgfluxError(
            f"log_with: {name} failed: {first_line(error) or type(error).__name__}; leave it out "
            "of --log-with to go on without it"
        ) from error


def show_pictures(
    tracker: GeneralTracker, pictures: Mapping[str, np.ndarray], *, sheet: Path, step: int
) -> None:
    """Give pictures to a tracker that takes some: wandb takes each, and mlflow takes the sheet.

    Args:
        tracker: Tracker, started.
        pictures: Name -> (H, W, 3) uint8.
        sheet: File with all of them.
        step: Step of the run.
    """
    if hasattr(tracker, "log_images"):
        tracker.log_images({f"samples/{n}": [one] for n, one in pictures.items()}, step=step)
    elif hasattr(tracker, "log_artifact"):
        tracker.log_artifact(str(sheet), "samples")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as numbers and texts; those of a group as "group.name"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            is_plain = isinstance(value, int | float | str) or value is None
            yield prefix + name, value if is_plain else str(value)
