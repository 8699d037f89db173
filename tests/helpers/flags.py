"""Settings of a training run as command-line flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def settings_as_flags(settings: Mapping[str, Any], *, prefix: str = "--") -> list[str]:
    """Settings as the flags that say the same; nested settings as ``--outer.inner``."""
    flags: list[str] = []
    for name, value in settings.items():
        flag = prefix + name.replace("_", "-")
        if name == "losses":  # their flags have no prefix
            flags += settings_as_flags(value, prefix=prefix)
        elif isinstance(value, Mapping):
            flags += settings_as_flags(value, prefix=f"{flag}.")
        elif isinstance(value, bool):
            head, dot, last = flag.removeprefix("--").rpartition(".")
            flags.append(flag if value else f"--{head}{dot}no-{last}")
        else:
            flags += [flag, str(value)]
    return flags
