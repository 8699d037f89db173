"""Where adapters are: a bundle's folder and its description, and the file of a training adapter.

Nothing here needs torch, so that a command names an adapter that is not there at once.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sgflux.bases.hub import expect_not_here, repository_folder
from sgflux.bases.name import BaseName
from sgflux.errors import SgfluxError, located
from sgflux.files.leftovers import outdated
from sgflux.files.reading import read_json_object
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.settings.model_source import FILE_ENDINGS

CONFIG_FILE = "sgflux_adapter.json"
LORA_FILE = "pytorch_lora_weights.safetensors"
BUNDLE_FORMAT = 1

BUNDLED_ADAPTER = "tiny"
"""Name of the adapter that comes with the package."""
_BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "tiny-adapter"

_LOGGER = logging.getLogger(__name__)


def find_bundle(adapter: str | os.PathLike[str], *, allow_download: bool) -> Path:
    """The folder of a bundle.

    Args:
        adapter: a folder, ``user/name`` on the hub, with ``@revision`` behind it or without, or
            :data:`BUNDLED_ADAPTER`.
        allow_download: fetch it from the hub if it is not on this machine.

    Raises:
        SgfluxError: if it is on the hub and cannot be had, is missing from the package, or has the
            name of the package's and is in a folder here, too; a folder is looked into later.
    """
    name = os.fspath(adapter)
    if name == BUNDLED_ADAPTER:
        expect_not_here(name, CONFIG_FILE, what=f"the adapter {name!r}")
        if not (_BUNDLED_FOLDER / CONFIG_FILE).is_file():
            raise SgfluxError(
                f"the bundled adapter is missing from this installation: {_BUNDLED_FOLDER}; "
                "install the package again, or give the folder of another adapter"
            )
        return _BUNDLED_FOLDER
    if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "~", "/")):
        return Path(name)
    repo_id, _, revision = name.partition("@")
    return repository_folder(
        repo_id,
        revision=revision or None,
        allow_download=allow_download,
        what=f"there is no folder {name!r}, and as an adapter on the hub it",
    )


def is_bundled(adapter: str | os.PathLike[str]) -> bool:
    """Whether an adapter's name means the one of the package, and none in a folder here as well."""
    name = os.fspath(adapter)
    return name == BUNDLED_ADAPTER and not (Path(name) / CONFIG_FILE).is_file()


def standing_folder(directory: str | os.PathLike[str]) -> Path:
    """The bundle's folder, or the older one of a replacement that was cut short."""
    directory = Path(directory)
    old = outdated(directory)
    if old is not None:
        _LOGGER.warning(
            "%s is missing, since its replacement was cut short; the older one, %s, is used",
            *(directory, old),
        )
    return directory if old is None else old


def expect_place(directory: Path) -> None:
    """Check that a bundle can be written: a folder that is new, empty, or an older bundle.

    Raises:
        SgfluxError: if the folder holds something else.
    """
    is_free = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
    if not is_free and not (directory / CONFIG_FILE).is_file():
        raise SgfluxError(f"{directory} exists and is no adapter bundle; choose another folder")


def read_description(path: Path) -> dict[str, Any]:
    """The content of a bundle's :data:`CONFIG_FILE`, of which only the format is checked.

    Raises:
        SgfluxError: if there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise SgfluxError(f"{path.parent} is no adapter bundle: {CONFIG_FILE} is not there")
    description = read_json_object(path)
    if (found := description.get("format")) != BUNDLE_FORMAT:
        raise SgfluxError(
            f"{path}: has the format {found!r}, and this sgflux reads {BUNDLE_FORMAT}; use the "
            "sgflux that wrote it, or copy the folder again"
        )
    return description


def read_drawing(directory: str | os.PathLike[str]) -> RecommendedDrawing:
    """How the adapter of a bundle recommends that it is drawn.

    Raises:
        SgfluxError: if the folder is no bundle, or naming file and key of a damaged recommendation.
    """
    path = standing_folder(directory) / CONFIG_FILE
    entry = read_description(path).get("drawing", {})
    with located(path):
        return RecommendedDrawing.from_json(entry)


def read_base(directory: str | os.PathLike[str]) -> BaseName | None:
    """Where the base of a bundle's adapter is to be found; None: the bundle does not say it.

    Raises:
        SgfluxError: if the folder is no bundle, or its entry is damaged.
    """
    path = standing_folder(directory) / CONFIG_FILE
    entry = read_description(path).get("base_model")
    with located(path):
        return None if entry is None else BaseName.from_json(entry)


def find_training_adapter(source: str, *, allow_download: bool) -> Path:
    """The file of a training adapter.

    Args:
        source: a ``.safetensors`` file, a folder, or an id on the hub, with ``@revision`` behind
            it or without. Folder and repository have ``pytorch_lora_weights.safetensors``, or
            one ``.safetensors`` file of another name.
        allow_download: fetch it from the hub if it is not on this machine.

    Raises:
        SgfluxError: if it cannot be found.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _only_file(path, source)
    is_path = path.suffix in FILE_ENDINGS or path.is_absolute() or source.startswith((".", "~"))
    if path.is_file():
        return path
    if is_path:
        raise SgfluxError(
            f"training_adapter {source!r}: there is no file {str(path)!r}; give a .safetensors "
            f"file, a folder with {LORA_FILE}, or an id on the hub"
        )
    repo_id, _, revision = source.partition("@")
    folder = repository_folder(
        repo_id,
        revision=revision or None,
        allow_download=allow_download,
        what=f"training_adapter {source!r}",
        patterns=[f"*{ending}" for ending in FILE_ENDINGS],
    )
    return _only_file(folder, source)


def _only_file(folder: Path, source: str) -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix in FILE_ENDINGS)
    own = folder / LORA_FILE
    if own in files or len(files) == 1:
        return own if own in files else files[0]
    names = ", ".join(file.name for file in files) or "none"
    raise SgfluxError(
        f"training_adapter {source!r}: expected {LORA_FILE} or one .safetensors file, found "
        f"{names}; give the file itself"
    )
