"""``sgflux cache``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgflux.commands.command import Command, Files
from sgflux.errors import SgfluxError
from sgflux.settings.model import FLUX_SCHNELL
from sgflux.terminal.quiet import hide_loading_bars


@dataclass(frozen=True, kw_only=True)
class CacheFlags:
    """Flags of ``sgflux cache``; where a training run has the same, they must have its values."""

    jsonl: Files
    """Files whose pictures and texts are encoded."""
    latent_cache_dir: Path
    """Where the encoded pictures and texts are kept; give training the same folder."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    height: int | None = None
    """Height of the training images in pixels; None: the model's own size, at most 512."""
    width: int | None = None
    """Width of the training images in pixels; None: the model's own size, at most 512."""
    crop: Literal["auto", "none", "center", "union"] = "auto"
    """How a photo gets the shape of --height and --width, as in training (see 'sgflux train
    --help')."""
    aspect_buckets: bool = False
    """Give every picture the size of the nearest ratio among several of about the area height x
    width; for a training run with the same flag."""
    prompts: tuple[Literal["neutral", "relational", "empty"], ...] = ("neutral", "relational")
    """Kinds of text to encode: those that the run's prompt mix has, and 'relational' for a run with
    lambda_words."""
    negatives: tuple[
        Literal["role_swap", "inverse", "predicate", "hard_predicate", "object", "edge_drop"], ...
    ] = ()
    """For a run with a ranking loss: its kinds of corrupted graph, whose statements are many
    (role_swap and predicate unless the run says otherwise)."""
    val_examples: int = 64
    """Number of validation examples that the run measures; 0: all."""
    seed: int = 0
    """The run's seed: it decides which false graphs a validation compares with."""
    model_id: str = FLUX_SCHNELL
    """FLUX on the hub, a diffusers folder, or 'tiny', the model that comes with the package."""
    components: str | None = None
    """If model_id is a single .safetensors file: the folder or hub id that has all else."""
    autoencoder: Path | None = None
    """The autoencoder as a file of its own (ae.safetensors), if model_id is a single file."""
    text_encoder: Path | None = None
    """The first text encoder, CLIP, as a file of its own (clip_l.safetensors), if model_id is a
    single file."""
    text_encoder_2: Path | None = None
    """The second text encoder, T5, as a file of its own (t5xxl_fp16.safetensors), if model_id is a
    single file."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Precision of the text encoders."""
    max_sequence_length: int | None = None
    """Text tokens per prompt; None: what the tokenizer allows, at most 256."""
    num_shards: int = 1
    """Into how many parts the work is divided, each done by a command of its own (on any machine
    that sees the folder)."""
    shard: int = 0
    """Number of the part that this command does, from 0."""
    verify: bool = False
    """Read the whole cache first and set damaged shards aside; FILEs are then optional, and what
    they lack is encoded again."""

    def __post_init__(self) -> None:
        """Check the division of the work."""
        if not 0 <= self.shard < self.num_shards:
            raise SgfluxError(
                f"shard must lie between 0 and num_shards - 1, got shard {self.shard} and "
                f"num_shards {self.num_shards}"
            )


def run(command: Command, arguments: Sequence[str]) -> int:
    """Fill a cache with what a training run over these files would encode, or check it."""
    flags = command.parse(CacheFlags, arguments)
    if not flags.verify:
        command.expect_files(flags.jsonl)
    from sgflux.training.encoding.caching import fill_from_files, verify_cache
    from sgflux.training.processes.launcher import check_launcher
    from sgflux.training.processes.processes import Processes

    if not flags.jsonl:
        return min(verify_cache(flags.latent_cache_dir, rebuilds=False), 1)
    check_launcher(dtype=flags.dtype)
    processes = Processes.start(flags.device)
    # Several may fill one cache together, each with a part of its own.
    part = "" if flags.num_shards == 1 else f"part{flags.shard}of{flags.num_shards}"
    with processes.hold(flags.latent_cache_dir, command=command.prog, part=part):
        if flags.verify and processes.is_main:
            verify_cache(flags.latent_cache_dir, rebuilds=True)
        processes.wait()  # nobody reads a shard that is being set aside
        settings = {name: getattr(flags, name) for name in flags.__dataclass_fields__}
        kinds, negatives = settings.pop("prompts"), settings.pop("negatives")
        shard, num_shards = settings.pop("shard"), settings.pop("num_shards")
        del settings["jsonl"], settings["verify"]
        hide_loading_bars()
        for line in fill_from_files(
            flags.jsonl,
            kinds=kinds,
            negatives=negatives,
            settings=settings,
            shard=shard,
            num_shards=num_shards,
            processes=processes,
        ):
            if processes.is_main:
                print(line, flush=True)
    return 0


COMMAND = Command(
    words=("cache",),
    purpose="Encode pictures and texts once, before training",
    example="sgflux cache train.jsonl validation.jsonl --latent-cache-dir runs/cache",
    run=run,
)
