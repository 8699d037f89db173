"""``--config FILE``: the settings of a training from files, which flags override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sgflux.settings.checks import ConfigError
from sgflux.settings.files import find_config
from sgflux.settings.training import read_settings


def settings_of_files(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take every ``--config`` from the arguments of a command.

    Args:
        arguments: The flags, without the program's name.

    Returns:
        The settings of the files, of which a later one overrides an earlier one setting by setting;
        and the other arguments.

    Raises:
        ConfigError: if no file follows ``--config``, or as
            :func:`sgflux.settings.training.read_settings`.
    """
    settings: dict[str, Any] = {}
    others: list[str] = []
    rest = list(arguments)
    while rest:
        name, equals, file = rest.pop(0).partition("=")
        if name != "--config":
            others.append(f"{name}{equals}{file}")
            continue
        if not equals and not rest:
            raise ConfigError(
                "--config needs a .json or .toml file after it, or the name of a configuration"
            )
        settings = _overridden(
            settings, read_settings(find_config(file if equals else rest.pop(0)))
        )
    return settings, others


def _overridden(settings: dict[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of two files; what the second says holds, setting by setting."""
    merged = dict(settings)
    for name, value in by.items():
        group = isinstance(value, Mapping)
        merged[name] = _overridden(merged.get(name, {}), value) if group else value
    return merged
