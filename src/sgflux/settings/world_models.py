"""Settings of ``sgflux world train-base`` and ``sgflux world measure-base``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgflux.settings.compute import Device
from sgflux.settings.shared import MaxSteps, OutputDir, OutputFile


@dataclass(frozen=True)
class TrainBaseConfig:
    """Train tiny-flux from nothing (hours on two CPU cores, minutes on a GPU)."""

    output_dir: OutputDir = Path("runs/tiny-flux")
    """Working folder; the finished pipeline is written to its subfolder 'pipeline'."""
    start_from: Path | None = None
    """A pipeline of this recipe to go on from, instead of random weights."""
    scenes: int = 60_000
    """Pictures of the world to train on."""
    sharing_weight: float = 1.0
    """Factor by which scenes whose statements share an object are drawn more often."""
    vae_steps: int = 1_400
    """Training steps of the autoencoder."""
    vae_batch_size: int = 16
    """Pictures a step of the autoencoder."""
    max_steps: MaxSteps = 7_000
    """Training steps of the transformer; may be changed when resuming (only the final decay
    moves)."""
    batch_size: int = 64
    """Pictures a step of the transformer."""
    lr: float = 1e-3
    """AdamW's learning rate for embeddings, modulations and vectors."""
    muon_lr: float = 6e-3
    """Muon's learning rate for hidden matrices, with AdamW-matched update size."""
    warmup_steps: int = 200
    """Linear warm-up at the start of the transformer's training."""
    keep_text: bool = False
    """Leave the text encoders of --start-from as they are."""
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
    """Begin the student at the weights of --start-from instead of its teacher's."""
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
    device: Device = "auto"
    compile: bool = True
    """Compile the transformer's blocks (needs a C++ compiler on CPU)."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""


@dataclass(frozen=True)
class MeasureBaseConfig:
    """Measure what a base draws from captions alone, by the bundled world's judge."""

    model_id: str = "tiny"
    """Pipeline folder to measure; 'tiny' is the bundled one."""
    output: OutputFile = Path("runs/tiny-flux/figures.json")
    """Where the figures are written."""
    figure: Path | None = None
    """Where to draw the first four pictures of each predicate, after the last number of steps."""
    per_predicate: int = 25
    """Captions of one relation for each of the 24 predicates."""
    two_triples: int = 240
    """Captions of two relations."""
    steps: tuple[int, ...] = (4, 8)
    """Sampling steps to measure; the gate is judged on the last."""
    batch_size: int = 48
    """Pictures sampled at once."""
    seed: int = 7
    """Seed of captions and noise."""
