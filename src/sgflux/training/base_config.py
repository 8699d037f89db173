"""What the recipe of tiny-flux takes, and its log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sgflux.writing import naming_disk_errors


@dataclass(frozen=True)
class TrainBaseConfig:
    """Train tiny-flux from nothing (hours on two CPU cores, minutes on a GPU)."""

    output_dir: Path = Path("runs/tiny-flux")
    """Working folder; the finished pipeline is written to its subfolder ``pipeline``."""
    start_from: Path | None = None
    """A pipeline of this recipe to go on from, instead of random weights."""
    scenes: int = 60_000
    """Pictures of the world to train on."""
    sharing_weight: float = 1.0
    """How much oftener scenes are drawn whose statements share an object."""
    vae_steps: int = 1_400
    """Steps of the autoencoder."""
    vae_batch_size: int = 16
    """Pictures a step of the autoencoder."""
    steps: int = 7_000
    """Steps of the transformer; may be changed when resuming (it only moves the final decay)."""
    batch_size: int = 64
    """Pictures a step of the transformer."""
    lr: float = 1e-3
    """AdamW's learning rate for embeddings, modulations and vectors."""
    muon_lr: float = 6e-3
    """Muon's learning rate for hidden matrices, with AdamW-matched update size."""
    warmup_steps: int = 200
    """Linear warm-up at the start of the transformer's training."""
    keep_text: bool = False
    """Leave ``start_from``'s text encoders as they are."""
    layout_weight: float = 3.0
    """Weight of the auxiliary layout term."""
    role_weight: float = 30.0
    """Weight of the auxiliary term that teaches T5 who is whose subject or object."""
    decay_share: float = 0.35
    """The last share of the steps, over which the learning rate falls to zero."""
    ema_decay: float = 0.999
    """Exponential moving average of the weights that are written out."""
    guidance: float = 3.0
    """Classifier-free guidance that is distilled into the weights."""
    distill_steps: int = 1_500
    """Steps of the distillation; 0 leaves it out."""
    distill_onto_start: bool = False
    """Begin the student at ``start_from``'s weights instead of its teacher's."""
    distill_early_share: float = 0.0
    """Share of the distillation's steps after which trajectories past their middle begin anew:
    layouts are settled before it."""
    distill_lr_share: float = 0.3
    """Learning rates of the distillation, as a share of the transformer's."""
    distill_ema_decay: float = 0.99
    """Exponential moving average of the student's weights."""
    save_every: int = 500
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of scenes, weights, noise and order."""
    device: str = "cpu"
    """Device of the training."""
    compile: bool = True
    """Compile the transformer's blocks (needs a C++ compiler on CPU)."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""


def log(config: TrainBaseConfig, message: str) -> None:
    """Print a line with the time and add it to the output folder's ``train.log``."""
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
    print(line, flush=True)
    path = config.output_dir / "train.log"
    with naming_disk_errors(path), path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
