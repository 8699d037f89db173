"""Settings of ``sgflux world train-base``, ``measure-base``, ``train-judge``, ``measure-judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from sgflux.settings.checks import Count, Must, Positive, Whole, expect, settings
from sgflux.settings.compute import Device
from sgflux.settings.flat import Flag, Input
from sgflux.settings.shared import MaxSteps, OutputDir, OutputFile

_Resolution = Annotated[
    int, Must("be a multiple of 64", lambda value: value >= 64 and value % 64 == 0)
]


@settings
class TrainBaseConfig:
    """Train tiny-flux from nothing (hours on two CPU cores, minutes on a GPU)."""

    output_dir: OutputDir = Path("runs/tiny-flux")
    """Working folder of the training. The finished pipeline is written to its subfolder
    'pipeline'."""
    start_from: Input[Path | None] = None
    """Pipeline of this recipe whose weights the training starts from. By default it starts from
    random weights."""
    scenes: Count = 60_000
    """Number of pictures of the world to train on."""
    scene_sizes: tuple[float, ...] = (0.25, 0.65, 0.1)
    """Shares of the pictures with one, two, three and four triples; four numbers or fewer, whose
    sum is 1."""
    twins: float = 0.0
    """Share of scenes with twins, two objects of one name, among those of at least two triples.
    With twins or scenes of four triples, scenes of three and four have every shape equally
    often."""
    hold_out_shapes: tuple[str, ...] = ()
    """Shapes of graphs that no picture has, given as for 'sgflux data world'."""
    text_length: Count = 24
    """Number of tokens of T5's sequence. Four statements with twins need 32."""
    sharing_weight: float = 1.0
    """Factor by which scenes whose statements share an object are drawn more often."""
    vae_steps: int = 1_400
    """Number of training steps of the autoencoder."""
    vae_batch_size: Count = 16
    """Number of pictures in a training step of the autoencoder."""
    max_steps: MaxSteps = 7_000
    """Number of training steps of the transformer. It may be changed when a run is resumed, and
    only the final decay moves."""
    batch_size: Count = 64
    """Number of pictures in a training step of the transformer."""
    lr: float = 1e-3
    """Learning rate of AdamW for embeddings, modulations and vectors."""
    muon_lr: float = 6e-3
    """Learning rate of Muon for hidden matrices, whose updates have the size of AdamW's."""
    warmup_steps: int = 200
    """Number of steps in which the transformer's learning rate rises linearly."""
    keep_text: bool = False
    """Leave the text encoders of --start-from as they are."""
    layout_weight: float = 3.0
    """Weight of the auxiliary loss that asks the transformer where each object of the caption
    goes."""
    role_weight: float = 30.0
    """Weight of the auxiliary loss that teaches T5 which object is the subject and which the object
    of a relation."""
    decay_share: float = 0.35
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights that are written out."""
    guidance: float = 3.0
    """Scale of the classifier-free guidance that is distilled into the weights."""
    distill_steps: int = 1_500
    """Number of steps of the distillation; 0 leaves it out."""
    distill_onto_start: bool = False
    """Start the student of the distillation at the weights of --start-from instead of its
    teacher's. It needs --keep-text."""
    distill_early_share: float = 0.0
    """Share of the distillation's steps after which trajectories that are past their middle begin
    anew. Layouts are settled before the middle."""
    distill_lr_share: float = 0.3
    """Learning rates of the distillation, as a share of those of the transformer's training."""
    distill_ema_decay: float = 0.99
    """Decay of the exponential moving average of the student's weights."""
    save_every: Count = 500
    """Number of steps between two checkpoints."""
    seed: Whole = 0
    """Random seed of scenes, weights, noise and order."""
    device: Device = "auto"
    compile: bool = True
    """Compile the transformer's blocks, which needs a C++ compiler on a CPU."""
    threads: Whole = 0
    """Number of CPU threads; 0 leaves it to PyTorch."""


@settings
class MeasureBaseConfig:
    """Measure what a base draws from captions alone, by the bundled world's judge."""

    model_id: str = "tiny"
    """Base model to measure: the folder of a pipeline, or 'tiny', the bundled one."""
    output: OutputFile = Path("runs/tiny-flux/figures.json")
    """JSON file of the figures."""
    figure: Path | None = None
    """Picture file for the first four pictures of each predicate, drawn with the last number of
    --steps. By default none is written."""
    per_predicate: Count = 25
    """Number of captions of one relation, for each of the 24 predicates."""
    two_triples: Count = 240
    """Number of captions of two relations."""
    steps: tuple[Count, ...] = (4, 8)
    """Numbers of denoising steps to measure. The gate is judged on the last one."""
    batch_size: Count = 48
    """Number of pictures that are drawn at once."""
    seed: Whole = 7
    """Random seed of captions and noise."""

    def __post_init__(self) -> None:
        """Check that there is a number of steps to judge on."""
        expect(bool(self.steps), "steps", self.steps, "hold at least one number")


@settings
class TrainJudgeConfig:
    """Train the bundled world's judge on fresh pictures, and measure it on others."""

    output: OutputFile
    """File of the judge's weights (.safetensors). Its figures go beside it, with the ending
    .json."""
    figure: Path | None = None
    """Picture file for the confusion matrix. By default none is written."""
    start_from: Input[Path | None] = None
    """File of a judge's weights (.safetensors) that the training starts from. By default it starts
    from random weights."""
    scenes: Count = 96_000
    """Number of pictures to train on."""
    lr: Positive = 2.5e-3
    """Peak of the learning rate."""
    max_steps: MaxSteps = 4000
    """Number of training steps."""
    batch_size: Count = 128
    """Number of pictures in a training step."""
    minutes: Positive | None = None
    """Number of minutes after which the training ends, with the learning rate following the clock.
    By default it ends after --max-steps."""
    save_every: Count = 250
    """Number of steps between two checkpoints, from which an interrupted training goes on."""
    measure_single: Count = 4800
    """Number of pictures with one triple that the judge is measured on."""
    measure_multi: Whole = 1200
    """Number of pictures of every other kind of scene that the judge is measured on: two, three and
    four triples, each without and with twins."""
    seed: Whole = 0
    """Random seed of weights, pictures and their order."""

    def __post_init__(self) -> None:
        """Check that the pictures fill a batch."""
        enough = f"be at least as many as batch_size ({self.batch_size})"
        expect(self.scenes >= self.batch_size, "scenes", self.scenes, enough)


@settings
class MeasureJudgeConfig:
    """Measure the bundled world's judge on fresh pictures of every kind of scene."""

    judge: Input[Path | None] = None
    """File of a judge's weights (.safetensors). By default the bundled judge is measured."""
    output: Annotated[Path, Flag(is_output=True)] = Path("runs/judge/figures.json")
    """JSON file of the figures."""
    resolution: _Resolution = 64
    """Height and width of the pictures in pixels, a multiple of 64."""
    single: Count = 1200
    """Number of pictures with one triple."""
    multi: Whole = 480
    """Number of pictures of every other kind of scene: two, three and four triples, each without
    and with twins."""
    seed: Whole = 1
    """Random seed of the pictures. A judge was trained and measured on the pictures of its own
    seed, which is 0 for the bundled one."""
    processes: Count = 2
    """Number of processes that draw pictures."""
