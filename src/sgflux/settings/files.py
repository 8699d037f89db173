"""Files of settings, as ``--config`` reads them: JSON or TOML, by path or by name."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgflux.settings.checks import ConfigError, typed_settings

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """Name -> file of the configurations that come with sgflux."""
    # A wheel has them inside of the package; in a checkout they lie beside src/.
    checkout = _PACKAGE.parents[1]
    folders = [_PACKAGE / "configs"]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "configs")
    files = [path for folder in folders for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in files}


def find_config(name: str) -> Path:
    """The file of a path, or of the name of a configuration that comes with sgflux.

    Raises:
        ConfigError: if there is neither.
    """
    path = Path(name)
    shipped = shipped_configs()
    if path.exists() or not shipped:
        return path
    # "flux_schnell", "flux_schnell.toml" and, outside of a checkout, "configs/flux_schnell.toml".
    known = path.parent in (Path(), Path("configs")) and path.suffix in ("", ".toml")
    if known and path.stem in shipped:
        return shipped[path.stem]
    if path.suffix:
        raise ConfigError(f"{name}: cannot be read: there is no such file")
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(shipped))}"
    raise ConfigError(
        f"{name}: is neither a file nor a configuration that comes with sgflux; {hint}"
    )


def read_settings_file(path: str | Path, cls: type) -> dict[str, Any]:
    """The settings in a JSON or TOML file, which need not be all that a dataclass has.

    Raises:
        ConfigError: if the file is neither, or holds a setting that is unknown or has a wrong
            value; the message names the file and the setting.
    """
    path = Path(path)
    try:
        return typed_settings(_content(path), cls)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be settings") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from error
    except ValueError as error:  # ConfigError, and what the two parsers raise
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _content(path: Path) -> Mapping[str, Any]:
    if path.suffix not in (".json", ".toml"):
        raise ConfigError("a config file must end in .json or .toml")
    # Some editors begin a file with a byte order mark, which neither format knows.
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix == ".toml":
        return tomllib.loads(text)
    content = json.loads(text, object_pairs_hook=_object_without_repetition)
    if not isinstance(content, Mapping):
        raise ConfigError(f"must hold one object of settings, got {content!r:.80}")
    return content


def _object_without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ConfigError(f"{name!r} is given twice")
        content[name] = value
    return content
