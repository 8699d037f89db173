"""Inputs of a command that are not there, named before torch is imported, which takes seconds.

The rooms below check everything themselves; here the same functions are called first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError, located
from sgflux.files.reading import naming_unreadable
from sgflux.settings.flat import Flag, flag_of, hints_of
from sgflux.settings.model_source import ModelSource
from sgflux.settings.start import StartSettings
from sgflux.settings.trained_adapter import TrainedAdapter


def check_inputs(settings: Any) -> None:
    """Check that every input that settings name is there, and that no output file is a folder.

    Args:
        settings: A dataclass of settings; those of its groups are checked as well.

    Raises:
        SgfluxError: naming the first that is not so.
    """
    for path, flag in _paths(settings):
        if flag.is_input:
            _expect_there(path)
        elif path.is_dir():
            raise SgfluxError(f"{path}: is a folder; give the path of a file to write")


def _paths(settings: Any) -> Iterator[tuple[Path, Flag]]:
    hints = hints_of(type(settings))
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            yield from _paths(value)
            continue
        flag = flag_of(hints[entry.name])
        if (flag.is_input or flag.is_output) and value is not None:
            for path in value if isinstance(value, tuple) else (value,):
                yield path, flag


def check_base(source: ModelSource) -> None:
    """Check that a base model is on this machine, or can be fetched.

    Raises:
        SgfluxError: naming the file, folder or hub id.
    """
    from sgflux.bases.hub import model_folder

    if source.is_file:
        _expect_there(Path(source.name).expanduser())
    model_folder(source.rest, **source.hub, parts=())


def check_adapter(adapter: str | Path, *, allow_download: bool = False) -> Path:
    """Check that a trained adapter is on this machine, or can be fetched; returns its folder.

    Raises:
        SgfluxError: naming the folder or hub id.
    """
    from sgflux.models.bundle_folder import find_bundle, read_drawing

    folder = find_bundle(adapter, allow_download=allow_download)
    read_drawing(folder)
    return folder


def check_given(source: ModelSource, trained: TrainedAdapter) -> None:
    """Check a trained adapter and the base model, unless the adapter is to name it.

    Raises:
        SgfluxError: as :func:`check_adapter` and :func:`check_base`.
    """
    if trained.adapter is not None:
        check_adapter(trained.adapter, allow_download=source.allow_download)
    if source.model_id is not None or trained.adapter is None:
        check_base(source)


def check_start(start: StartSettings, *, output_dir: Path, allow_download: bool) -> None:
    """Check that what a training run starts or goes on from is on this machine.

    A run that goes on from a checkpoint no longer needs the adapter that it started from.

    Args:
        start: Settings of the start.
        output_dir: Folder of the run, for its checkpoints.
        allow_download: Whether an adapter may be fetched from the hub.

    Raises:
        SgfluxError: naming the setting and the file, folder or hub id.
    """
    if start.resume not in (None, "auto") and not Path(start.resume).is_file():
        raise SgfluxError(f"resume: {start.resume!r} is no file; give a step{{N}}.pt or 'auto'")
    if start.training_adapter is not None:
        from sgflux.models.bundle_folder import find_training_adapter

        find_training_adapter(start.training_adapter, allow_download=allow_download)
    if start.init_from is not None and not _goes_on(start.resume, output_dir):
        path = Path(start.init_from).expanduser()
        with located("init_from"):
            if path.suffix == ".safetensors" or path.is_file():
                _expect_there(path)
            else:
                check_adapter(start.init_from, allow_download=allow_download)


def _goes_on(resume: str | None, output_dir: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    from sgflux.training.checkpoints.step_files import step_files

    return bool(step_files(output_dir)) if resume == "auto" else resume is not None


def _expect_there(path: Path) -> None:
    with naming_unreadable(path):
        path.stat()
