"""What commands and runs can be told: frozen dataclasses, each checked when it is built.

Nothing here imports torch or any other heavy library, so that ``--help`` and an error about a flag
wait for none of them.
"""

from sgflux.settings.checks import (
    ConfigError,
    expect,
    expect_defaults,
    expect_least,
    from_flat,
    is_number,
    known_settings,
    typed,
    typed_fields,
    typed_settings,
)

__all__ = [
    "ConfigError",
    "expect",
    "expect_defaults",
    "expect_least",
    "from_flat",
    "is_number",
    "known_settings",
    "typed",
    "typed_fields",
    "typed_settings",
]
