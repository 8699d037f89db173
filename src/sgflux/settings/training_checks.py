"""Which settings of a training run go together, where that takes more than a line to say."""

from __future__ import annotations

from typing import Any

from sgflux.settings import ConfigError

_SCHNELL = (1.0, 0.75, 0.5, 0.25)


def check_noise_levels(config: Any) -> None:
    """Check how sigma is drawn.

    Args:
        config: a ``TrainConfig``.

    Raises:
        ConfigError: if there is nothing to draw, or a setting has no effect.
    """
    low, high = config.t_min, config.t_max
    if not 0 <= low < high <= 1:
        raise ConfigError(
            f"t_min and t_max must satisfy 0 <= t_min < t_max <= 1, got {low} and {high}"
        )
    if config.sigma_scheme != "schnell":
        return
    if not any(low <= level <= high for level in _SCHNELL):
        raise ConfigError(
            f"sigma_scheme 'schnell' draws from {', '.join(f'{level:g}' for level in _SCHNELL)}, "
            f"and none of them lies between t_min ({low}) and t_max ({high})"
        )
    if config.sigma_shift == "resolution":
        raise ConfigError(
            "sigma_shift 'resolution' has no effect with sigma_scheme 'schnell', whose levels are "
            "fixed"
        )


def check_resume(config: Any) -> None:
    """Answer other trainers' words for the latest checkpoint with ours.

    Args:
        config: a ``TrainConfig``.

    Raises:
        ConfigError: if ``resume`` is such a word.
    """
    if config.resume is not None and config.resume.lower() in ("latest", "last", "true", "yes"):
        raise ConfigError(
            f"resume {config.resume!r}: give 'auto' for the output folder's latest checkpoint, or "
            "the path of a step{N}.pt"
        )
    if config.allow_other_base and config.resume is None and config.init_from is None:
        raise ConfigError("allow_other_base has no effect without resume or init_from")


def check_buckets(config: Any) -> None:
    """Check that nothing needs pictures of one size where there are aspect buckets.

    Args:
        config: a ``TrainConfig``.

    Raises:
        ConfigError: naming the setting that does not work with them, and the way out.
    """
    if not config.aspect_buckets:
        return
    for name, value, why in (
        (
            "crop 'none'",
            config.crop == "none",
            "each picture keeps its shape by a crop; use 'auto'",
        ),
        (
            f"ranker {config.losses.ranker!r}",
            config.losses.ranker != "flow",
            "a relation classifier is trained on pictures of one size; use 'flow'",
        ),
        ("compile", config.compile, "the blocks would be compiled again for every shape; drop one"),
    ):
        if value:
            raise ConfigError(f"aspect_buckets does not work with {name}: {why}")


def check_memory_savers(config: Any) -> None:
    """Check the settings that save memory against each other.

    Args:
        config: a ``TrainConfig``.

    Raises:
        ConfigError: naming a combination that does not work, and the way out.
    """
    kind = config.quantize
    if kind != "none" and config.compile:
        raise ConfigError(f"compile does not work with quantize {kind!r}; drop one")
    if kind in ("int8", "float8") and config.recompute_every != 1:
        # Measured: what torchao keeps for the backward pass is each matrix at full size.
        raise ConfigError(
            f"quantize {kind!r} saves memory only with gradient_checkpointing of every block: "
            "otherwise each matrix is kept at full size for the backward pass"
        )
    if not config.offload_blocks:
        if config.offload_folder is not None:
            raise ConfigError(
                f"offload_folder ({str(config.offload_folder)!r}) has no effect without "
                "offload_blocks"
            )
        return
    if config.recompute_every != 1:
        raise ConfigError(
            "offload_blocks saves memory only with gradient_checkpointing of every block: "
            "otherwise what was fetched is kept on the device for the backward pass"
        )
    for name, value, why in (
        ("quantize", kind != "none", "quantised matrices cannot be moved back and forth"),
        ("compile", config.compile, "a compiled block does not fetch its weights"),
        (
            "saliency (ranker, gen_rel_from)",
            config.losses.reads_saliency,
            "concepts look into blocks whose weights are away",
        ),
    ):
        if value:
            raise ConfigError(f"offload_blocks does not work with {name}: {why}; drop one")
