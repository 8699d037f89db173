"""What a training run starts or goes on from."""

from __future__ import annotations

from sgflux.settings.checks import ConfigError, settings


@settings
class StartSettings:
    """What a training run starts or goes on from."""

    init_from: str | None = None
    """Adapter whose weights the training starts from: a bundle's folder or hub id[@revision], or
    any LoRA of FLUX (.safetensors). Sizes and the ways in which boxes are read follow the adapter;
    data, rates and everything else are those of this run."""
    resume: str | None = None
    """Checkpoint from which an interrupted run goes on: the path of a step{N}.pt, or 'auto' for the
    latest one in --output-dir, if there is one."""
    allow_other_base: bool = False
    """With --resume or --init-from: accept an adapter that was trained on another base. The log and
    the bundle then name both bases (docs/resume.md)."""
    training_adapter: str | None = None
    """Frozen LoRA that is active in training and absent in sampling: a .safetensors file, a folder,
    or a hub id[@revision]. It prevents the blur that plain training brings to a few-step model. The
    teacher of --lambda-words uses it as well."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        if self.resume is not None and self.resume.lower() in ("latest", "last", "true", "yes"):
            raise ConfigError(
                f"resume {self.resume!r}: give 'auto' for the output folder's latest checkpoint, "
                "or the path of a step{N}.pt"
            )
        if self.allow_other_base and self.resume is None and self.init_from is None:
            raise ConfigError("allow_other_base has no effect without resume or init_from")
