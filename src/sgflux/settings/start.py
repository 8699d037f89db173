"""What a training run starts or goes on from."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import ConfigError, typed_fields


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """What a training run starts or goes on from."""

    init_from: str | None = None
    """Start from an adapter: a bundle's folder or hub id[@revision], or anybody's LoRA of FLUX
    (.safetensors); sizes follow it, while data, rates and everything else are this run's own."""
    resume: str | None = None
    """A step{N}.pt to go on from, or 'auto' for the output folder's latest, if there is one."""
    allow_other_base: bool = False
    """With --resume or --init-from: take an adapter that was trained on another base; log and
    bundle then name both (docs/resume.md)."""
    training_adapter: str | None = None
    """A frozen LoRA that is active in training and absent in sampling, against the blur that plain
    training brings to a few-step model: a .safetensors file, a folder, or a hub id[@revision]. The
    teacher of lambda_words has it, too."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        if self.resume is not None and self.resume.lower() in ("latest", "last", "true", "yes"):
            raise ConfigError(
                f"resume {self.resume!r}: give 'auto' for the output folder's latest checkpoint, "
                "or the path of a step{N}.pt"
            )
        if self.allow_other_base and self.resume is None and self.init_from is None:
            raise ConfigError("allow_other_base has no effect without resume or init_from")
