"""Ways to need less memory of the device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sgflux.settings.checks import ConfigError, expect_defaults, settings

QuantizedKind = Literal["int8", "float8", "nf4"]
Quantization = Literal["none", QuantizedKind]


@settings
class MemorySettings:
    """Ways to need less memory of the device."""

    encoder_device: str | None = None
    """Device of the text encoders and the autoencoder; 'cpu' leaves the accelerator's memory free.
    By default it is --device."""
    quantize: Quantization = "none"
    """Quantisation of the base's frozen matrices to 8 bits (torchao) or 4 bits (bitsandbytes),
    which saves memory and takes more time."""
    offload_blocks: bool = False
    """Keep the weights of all but the adapted blocks off the device until they are used."""
    offload_folder: Path | None = None
    """With --offload-blocks: keep the weights in files in this folder, which become as large as the
    model, instead of in the CPU's memory."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if not self.offload_blocks:
            expect_defaults(self, "without offload_blocks", "offload_folder")
        elif self.quantize != "none":
            raise ConfigError(
                f"offload_blocks does not work with quantize {self.quantize!r}: quantised matrices "
                "cannot be moved back and forth; drop one"
            )

    @property
    def comes_small(self) -> bool:
        """Whether the base is loaded on the CPU first, since it may not fit the device as it is."""
        return self.quantize != "none" or self.offload_blocks
