"""The two ways to say what to train: ``sgflux train`` and the original training script's flags."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from sgflux.config import (
    DEFAULT_EPOCHS,
    FLUX_SCHNELL,
    ConfigError,
    EncoderKind,
    GraphMode,
    LossConfig,
    TrainConfig,
    read_settings,
)
from sgflux.errors import SgfluxError


def parse_train_config(arguments: Sequence[str], *, prog: str = "sgflux train") -> TrainConfig:
    """Read the flags of ``sgflux train``; ``--config FILE`` comes first, flags override it.

    Args:
        arguments: the flags, without the program's name.
        prog: the program's name in ``--help``.

    Raises:
        ConfigError: on a bad value or a bad config file.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    files, flags = _take_config(list(arguments))
    from_files = [flag for file in files for flag in settings_as_flags(read_settings(file))]
    description = (
        TrainConfig.__doc__ or ""
    ) + "\n\n--config FILE reads settings from a .json or .toml file first."
    return tyro.cli(TrainConfig, prog=prog, description=description, args=[*from_files, *flags])


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


def _take_config(arguments: list[str]) -> tuple[list[str], list[str]]:
    files, flags = [], []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--config":
            if not arguments:
                raise ConfigError("--config needs a .json or .toml file after it")
            files.append(arguments.pop(0))
        elif argument.startswith("--config="):
            files.append(argument.removeprefix("--config="))
        else:
            flags.append(argument)
    return files, flags


@dataclass(frozen=True, kw_only=True)
class OriginalCommandLine:
    """Train a scene-graph LoRA for FLUX (the original command line; see also: sgflux train)."""

    train_jsonl: Path
    """Training examples, one JSON object a line."""
    val_jsonl: Path | None = None
    """Validation examples."""
    output_dir: Path
    """Folder of the run; must be new or empty."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    model_id: str = FLUX_SCHNELL
    """FLUX on the hub, a diffusers folder, or 'tiny', the model that comes with the package."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_download: bool = False
    """Fetch from the hub what is not on this machine yet."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a quarter slower."""
    quantize: Literal["none", "int8", "float8", "nf4"] = "none"
    """The base's frozen matrices in 8 bits (torchao) or 4 (bitsandbytes): less memory, slower."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Precision of the frozen weights and of the arithmetic."""
    graph_mode: GraphMode = "token"
    """How the graph enters."""
    graph_encoder: EncoderKind | None = None
    """None: 'cgip' if --cgip-ckpt is given, else 'native'."""
    cgip_ckpt: Path | None = None
    """SGDiff's sip_vg.pt."""
    vocab_path: Path | None = None
    """The vocab.json that it was trained with."""
    oov: Literal["error", "skip", "map"] = "error"
    """What to do about objects that the cgip encoder lacks: stop, leave them out, or --oov-map."""
    oov_map: Path | None = None
    """A JSON object {object: the cgip encoder's object that stands for it}."""
    block_start: int | None = None
    """First double block that the adapter changes; None: 7 of FLUX's 19."""
    block_end: int | None = None
    """One past the last such block; None: 13 of FLUX's 19."""
    lora_rank: int = 16
    """Rank of the LoRA matrices."""
    lora_alpha: float = 16.0
    """LoRA's scale is lora_alpha / lora_rank."""
    epochs: int = DEFAULT_EPOCHS
    """Passes over the data."""
    batch_size: int = 2
    """Examples in one forward pass of one process."""
    lr: float = 1e-4
    """Peak learning rate."""
    height: int = 512
    """Height of the training images in pixels."""
    width: int = 512
    """Width of the training images in pixels."""
    t_min: float = 0.0
    """Lowest sigma that is trained on."""
    t_max: float = 1.0
    """Highest sigma that is trained on."""
    latent_cache_dir: Path | None = None
    """Folder that keeps latents and text features between runs."""
    max_sequence_length: int | None = None
    """Text tokens per prompt."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    val_every: int = 250
    """Steps between two validations; 0: only after the last step."""
    save_every: int = 500
    """Steps between two checkpoints to resume from."""
    seed: int = 0
    """Of everything that is random."""
    dry_run: bool = False
    """Check everything, print the plan, and write nothing."""
    resume: str | None = None
    """A step{N}.pt to go on from, or 'auto'."""
    lambda_rel_rank: float = 0.0
    """Weight of the ranking loss: the true graph is to be preferred to a corrupted one."""
    rel_rank_margin: float | None = None
    """Use the ranking loss's margin form with this margin; None: its logistic form."""
    alpha_gen_rel: float = 0.0
    """How much more the error counts where the model attends to the predicate."""
    use_negative_graph: bool = False
    """Put corrupted graphs through the network; the ranking loss of this front always does."""

    def to_config(self) -> TrainConfig:
        """The same run as a :class:`TrainConfig`.

        Raises:
            ConfigError: if a flag has no effect, or as :class:`TrainConfig`.
        """
        losses = LossConfig(**{name: getattr(self, name) for name in _LOSSES})
        settings = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _LOSSES
        }
        return TrainConfig(**settings, losses=losses)


_LOSSES = ("lambda_rel_rank", "rel_rank_margin", "alpha_gen_rel", "use_negative_graph")


def parse_original(arguments: Sequence[str], *, prog: str | None = None) -> TrainConfig:
    """Read the original training script's flags.

    Raises:
        ConfigError: as :meth:`OriginalCommandLine.to_config`.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    return tyro.cli(OriginalCommandLine, prog=prog, args=list(arguments)).to_config()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the original command line; returns the exit status.

    0: trained; 2: bad input, with one line on standard error; 130 or 143: interrupted by SIGINT or
    SIGTERM, with everything saved that is needed to resume.
    """
    try:
        config = parse_original(sys.argv[1:] if arguments is None else arguments)
        # transformers warns at import about image processors that nothing here uses.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        # torch takes seconds that --help need not wait for.
        from sgflux.training.quiet import hide_loading_bars
        from sgflux.training.trainer import train

        hide_loading_bars()
        return train(config).exit_status
    except SgfluxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
