"""Where a model is found, on this machine or on the hub, and what the hub's errors mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sgflux.errors import SgfluxError, first_line
from sgflux.files.writing import disk_error, write_error
from sgflux.settings.model_source import FILE_ENDINGS


def why_not_loaded(
    error: BaseException, model_id: str, *, allow_download: bool, revision: str | None = None
) -> str:
    """What went wrong with the hub, or a folder, and what to do about it, in one line."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if (full := disk_error(error)) is not None:
        return str(write_error(full.filename or constants.HF_HUB_CACHE, full))
    text = " ".join(map(str, chain))
    if any(isinstance(one, GatedRepoError) for one in chain) or "gated repo" in text:
        return (
            f"its licence must be accepted first, at https://huggingface.co/{model_id}; then log "
            "in with `hf auth login`"
        )
    if any(isinstance(one, RevisionNotFoundError) for one in chain):
        return f"the repository has no revision {revision!r}; give one of its branches or commits"
    if any(isinstance(one, RepositoryNotFoundError) for one in chain):
        return (
            "the hub has no such repository, or a private one; check its name, and log in with "
            "`hf auth login` if it is private"
        )
    if not allow_download and any(isinstance(one, LocalEntryNotFoundError) for one in chain):
        what = "it" if revision is None else f"its revision {revision!r}"
        return (
            f"{what} is not, or not wholly, in the hub's cache on this machine; allow downloads "
            f"(--allow-download), or fetch it with `hf download {model_id}"
            + (f" --revision {revision}`" if revision is not None else "`")
        )
    reason = first_line(error)
    if allow_download:
        return reason
    return (
        f"{reason}; only this machine was searched. To fetch it from the hub, allow downloads "
        "(--allow-download)"
    )


def repository_folder(
    repo_id: str,
    *,
    revision: str | None,
    allow_download: bool,
    what: str,
    patterns: list[str] | None = None,
) -> Path:
    """The folder of a repository on the hub, fetched from there if that is allowed.

    Args:
        repo_id: Name of the repository.
        revision: Branch, tag or commit; None: the main branch.
        allow_download: Whether what is not on this machine is fetched.
        what: Beginning of the message of an error.
        patterns: Names of the files that are needed; None: all.

    Raises:
        SgfluxError: if it is not on this machine and cannot be fetched.
    """
    try:
        found = snapshot_download(
            repo_id,
            revision=revision,
            local_files_only=not allow_download,
            allow_patterns=patterns,
        )
    except (OSError, ValueError) as error:
        why = why_not_loaded(error, repo_id, allow_download=allow_download, revision=revision)
        raise SgfluxError(f"{what} cannot be loaded: {why}") from error
    return Path(found)


BUNDLED_MODEL = "tiny"
"""The model id of the small FLUX inside the package."""

_BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "tiny-flux"


def expect_not_here(name: str, file: str, *, what: str) -> None:
    """Refuse the name of what comes with the package if a folder of that name has such a thing.

    Args:
        name: The name, which is that of a folder here as well.
        file: Name of the file by which such a folder is known.
        what: Beginning of the error message, like "the model 'tiny'".

    Raises:
        SgfluxError: naming the folder and the way out.
    """
    if (Path(name) / file).is_file():
        raise SgfluxError(
            f"{what} is the one that comes with sgflux, and there is another one in the folder of "
            f"that name; give '{Path(name).absolute()}' for the folder, or rename it"
        )


def resolve_model_id(model_id: str | os.PathLike[str]) -> str:
    """``tiny`` as the package's folder; any other model id as it is, after a look at the disk.

    Raises:
        SgfluxError: if it is a path and there is no diffusers pipeline folder, or if it is ``tiny``
            and there is one in the folder of that name.
    """
    model_id = os.fspath(model_id)
    if model_id == BUNDLED_MODEL:
        expect_not_here(model_id, "model_index.json", what=f"the model {model_id!r}")
        if not (_BUNDLED_FOLDER / "model_index.json").is_file():
            raise SgfluxError(
                f"the bundled model is missing from this installation: {_BUNDLED_FOLDER}; "
                "install the package again"
            )
        return str(_BUNDLED_FOLDER)
    path = Path(model_id).expanduser()
    parts = model_id.split("/")
    is_path = path.is_dir() or path.is_absolute() or len(parts) > 2 or parts[0] in (".", "..", "~")
    if path.is_file() or model_id.endswith((*FILE_ENDINGS, ".ckpt", ".pt")):
        raise SgfluxError(
            f"model id {model_id!r} is a file with one part alone; give the diffusers folder or "
            "hub id that has the others (components)"
        )
    if not is_path:
        return model_id
    if not (path / "model_index.json").is_file():
        problem = "has no model_index.json" if path.is_dir() else "does not exist"
        raise SgfluxError(
            f"model folder {model_id!r} {problem}; expected a diffusers FluxPipeline folder, an id "
            f"on the hub, or {BUNDLED_MODEL!r}"
        )
    return str(path)


def model_folder(
    model_id: str, *, revision: str | None, allow_download: bool, parts: Sequence[str]
) -> Path:
    """The folder that a model's parts are loaded from, fetched from the hub if that is allowed.

    Args:
        model_id: a folder or hub id.
        revision: Revision of the hub's repository.
        allow_download: fetch from the hub what is not on this machine.
        parts: subfolders that are needed.

    Raises:
        SgfluxError: if it is not on this machine.
    """
    folder = resolve_model_id(model_id)
    if Path(folder).is_dir():
        if revision is not None:
            raise SgfluxError(f"revision ({revision}) has no effect: {model_id!r} is a folder")
        return Path(folder)
    return repository_folder(
        folder,
        revision=revision,
        allow_download=allow_download,
        what=f"model {model_id!r}",
        patterns=["model_index.json", *(f"{part}/*" for part in parts)],
    )
