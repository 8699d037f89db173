"""What each command of ``sgflux`` takes and does.

A command's flags are the fields of a frozen dataclass. What takes seconds to import (torch above
all) is imported when the command runs, so that no ``--help`` waits for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sgflux.errors import SgfluxError
from sgflux.files.folder_lock import hold_folder
from sgflux.settings.classifier import ClassifierConfig
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.exporting import ExportConfig, ImportConfig
from sgflux.settings.flags import Flags, parse_flags
from sgflux.settings.model import FLUX_SCHNELL
from sgflux.settings.sampling import SaliencyConfig, SampleConfig
from sgflux.settings.world_models import MeasureBaseConfig, TrainBaseConfig
from sgflux.terminal.printable import counted

Files = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        words: what is typed after ``sgflux``.
        purpose: one line for the list of commands.
        example: a command line to copy.
        run: (this command, the arguments after the words) -> exit status.
    """

    words: tuple[str, ...]
    purpose: str
    example: str
    run: Callable[[Command, Sequence[str]], int]

    @property
    def prog(self) -> str:
        """The program's name in help texts and messages."""
        return " ".join(("sgflux", *self.words))

    @property
    def description(self) -> str:
        """What ``--help`` says above the flags."""
        return f"{self.purpose}.\n\nExample:\n  {self.example}"

    def parse(self, flags: type[Flags], arguments: Sequence[str]) -> Flags:
        """The command's flags, a dataclass, from the command line.

        Raises:
            SgfluxError: on a bad value.
            SystemExit: after ``--help``, or on flags that cannot be read (with a message).
        """
        return parse_flags(
            flags,
            arguments,
            prog=self.prog,
            description=self.description,
            config=(tyro.conf.FlagCreatePairsOff,),
        )

    def hold(
        self, folder: Path, *, beside: bool = False, part: str = ""
    ) -> AbstractContextManager[None]:
        """Be the only one that writes there (:func:`~sgflux.files.folder_lock.hold_folder`)."""
        return hold_folder(folder, command=self.prog, beside=beside, part=part)


def _hide_loading_bars(*, on_a_terminal: bool = False) -> None:
    from sgflux.training.quiet import hide_loading_bars

    hide_loading_bars(on_a_terminal=on_a_terminal)


# --- demo ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Flags of ``sgflux demo``."""

    out_dir: Path | None = None
    """Where everything goes, a folder of its own under runs/ if not given; a demo that was
    interrupted there goes on."""
    full: bool = False
    """Train by the longer recipe (4,000 steps, hours on two CPU cores) instead of the short one."""
    control: bool = False
    """The negative control: train with text that already states the relation."""


def demo(command: Command, arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    flags = command.parse(DemoFlags, arguments)
    _hide_loading_bars(on_a_terminal=True)  # the bundled model is there in a moment
    from sgflux.world.demo import choose_preset, run_demo

    preset = choose_preset(full=flags.full, control=flags.control)
    return run_demo(preset, out_dir=flags.out_dir or Path("runs") / preset.name)


# --- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DataWorldFlags:
    """Flags of ``sgflux data world``."""

    out_dir: Path
    """Folder of the data set; must be new or empty."""
    train_per_class: int = 100
    """Training pictures of each of the 24 predicates."""
    val_per_class: int = 5
    """Validation pictures of each predicate; they choose the best checkpoint."""
    test_per_class: int = 20
    """Test pictures of each predicate; figures are reported on them."""
    triples: str = "1"
    """Triples a scene: 1, 2 or 3, or several of these, like 1,2,3."""
    resolution: int = 64
    """Height and width in pixels."""
    seed: int = 0
    """Random seed of the data set; the same seed gives the same files."""
    hold_out_combinations: int = 0
    """Pairs of objects that occur in the test split alone, in half of its pictures."""


def data_world(command: Command, arguments: Sequence[str]) -> int:
    """Write a data set of the bundled world."""
    flags = command.parse(DataWorldFlags, arguments)
    from sgflux.world.dataset import write_world

    with command.hold(flags.out_dir, beside=True):
        summary = write_world(
            flags.out_dir,
            train_per_class=flags.train_per_class,
            val_per_class=flags.val_per_class,
            test_per_class=flags.test_per_class,
            triples=flags.triples,
            resolution=flags.resolution,
            seed=flags.seed,
            hold_out_combinations=flags.hold_out_combinations,
            progress=sys.stderr.isatty(),
            command=["sgflux", *command.words, *arguments],
        )
    for split, content in summary["splits"].items():
        print(f"{flags.out_dir / f'{split}.jsonl'}: {content['rows']} examples")
    return 0


def data_vg(command: Command, arguments: Sequence[str]) -> int:
    """Write a data set from Visual Genome."""
    from sgflux.data.visual_genome.command import DataVgFlags, run

    flags = command.parse(DataVgFlags, arguments)
    with command.hold(flags.out_dir, part=flags.tag):
        run(flags, command=["sgflux", *command.words, *arguments])
    return 0


@dataclass(frozen=True, kw_only=True)
class DataCheckFlags:
    """Flags of ``sgflux data check``."""

    jsonl: Files
    """Files to check."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    open_vocabulary: bool = False
    """Accept any word as a predicate."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    max_problems: int = 20
    """Number of problems of each file that are printed; the rest is counted."""


def data_check(command: Command, arguments: Sequence[str]) -> int:
    """Check data sets; returns 1 if one has a problem."""
    flags = command.parse(DataCheckFlags, arguments)
    _expect_files(command, flags.jsonl)
    from sgflux.data.check import check_dataset
    from sgflux.graphs.predicates import vocabulary_of

    vocabulary = vocabulary_of(flags.vocabulary)
    reports = []
    for path in flags.jsonl:
        report = check_dataset(
            path,
            images_dir=flags.images_dir,
            vocabulary=vocabulary,
            open_vocabulary=flags.open_vocabulary,
            progress=sys.stderr.isatty(),
        )
        print(report.to_text(max_problems=flags.max_problems))
        reports.append(report)
    return 0 if all(report.ok for report in reports) else 1


def _expect_files(command: Command, files: Sequence[Path]) -> None:
    if not files:
        raise SgfluxError(f"no file is named; for example: {command.example}")


# --- training -----------------------------------------------------------------------------------


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


def cache(command: Command, arguments: Sequence[str]) -> int:
    """Fill a cache with what a training run over these files would encode, or check it."""
    flags = command.parse(CacheFlags, arguments)
    if not flags.verify:
        _expect_files(command, flags.jsonl)
    from sgflux.training.caching import fill_from_files, verify_cache
    from sgflux.training.launcher import check_launcher
    from sgflux.training.processes import Processes

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
        _hide_loading_bars()
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


def train(command: Command, arguments: Sequence[str]) -> int:
    """Train; returns 128 + signal after an interruption that was saved."""
    from sgflux.training.command_line import parse_train_config

    config = parse_train_config(arguments, prog=command.prog)
    from sgflux.training import trainer

    _hide_loading_bars()
    return trainer.train(config).exit_status


def train_classifier(command: Command, arguments: Sequence[str]) -> int:
    """Train a classifier of relations, for the rankers that need one."""
    config = command.parse(ClassifierConfig, arguments)
    from sgflux.training import classifier_training

    _hide_loading_bars()
    with command.hold(config.out_dir, beside=True):
        card = classifier_training.train_classifier(config)
    low, high = card.held_out["ci95"]
    print(
        f"held-out accuracy {card.held_out['accuracy']:.1%} [{low:.1%}, {high:.1%}], chance "
        f"{card.held_out['chance']:.1%}, calibration error "
        f"{card.held_out['calibration']['ece']:.1%}: {config.out_dir}"
    )
    if not card.is_better_than_chance:
        print("this is not above chance: training will refuse it as a loss", file=sys.stderr)
    return 0


# --- sampling and evaluation --------------------------------------------------------------------


def sample(command: Command, arguments: Sequence[str]) -> int:
    """Draw pictures of scene graphs."""
    config = command.parse(SampleConfig, arguments)
    from sgflux import sampling

    _hide_loading_bars()
    with command.hold(config.out_dir):
        *pictures, sheet = sampling.sample(config)
    print(
        f"{counted(len(pictures), 'picture')} of {_pixels(pictures[0])} pixels in "
        f"{config.out_dir}, side by side in {sheet}"
    )
    return 0


def _pixels(picture: Path) -> str:
    from PIL import Image

    with Image.open(picture) as image:
        return f"{image.height} x {image.width}"


def saliency(command: Command, arguments: Sequence[str]) -> int:
    """Draw heat maps of a graph's parts over a picture."""
    config = command.parse(SaliencyConfig, arguments)
    from sgflux import sampling

    _hide_loading_bars()
    with command.hold(config.out_dir):
        *maps, sheet = sampling.saliency(config)
    print(f"{counted(len(maps), 'heat map')} in {config.out_dir}, side by side in {sheet}")
    return 0


def evaluate(command: Command, arguments: Sequence[str]) -> int:
    """Evaluate an adapter and write the report."""
    config = command.parse(EvalConfig, arguments)
    from sgflux.evaluation import evaluator
    from sgflux.evaluation.report.headline import print_headline
    from sgflux.evaluation.report.page import write_report

    _hide_loading_bars()
    with command.hold(config.out_dir):
        results = evaluator.evaluate(
            config,
            command=["sgflux", *command.words, *arguments],
            show_progress=sys.stderr.isatty(),
        )
        # A run's folder holds the curves beside the finished adapter.
        metrics = None if config.adapter is None else config.adapter.parent / "metrics.jsonl"
        if metrics is not None and not metrics.is_file():
            metrics = None
        report = write_report(config.out_dir, metrics=metrics)
    print_headline(results)
    print(f"report: {report}")
    return 0


def export(command: Command, arguments: Sequence[str]) -> int:
    """Write an adapter for other programs."""
    config = command.parse(ExportConfig, arguments)
    from sgflux import exporting

    with ExitStack() as held:
        if config.out is not None:
            held.enter_context(command.hold(config.out, beside=True))
        if config.folder is not None:
            held.enter_context(command.hold(config.folder, beside=True))
        for line in exporting.export(config):
            print(line)
    return 0


def import_adapter(command: Command, arguments: Sequence[str]) -> int:
    """Read an adapter of the earlier training script."""
    config = command.parse(ImportConfig, arguments)
    from sgflux import exporting

    _hide_loading_bars()
    with command.hold(config.out_dir, beside=True):
        for line in exporting.import_adapter(config):
            print(line)
    return 0


@dataclass(frozen=True, kw_only=True)
class DoctorFlags:
    """Flags of ``sgflux doctor``."""


def doctor(command: Command, arguments: Sequence[str]) -> int:
    """Print what an issue report needs."""
    command.parse(DoctorFlags, arguments)
    from sgflux.doctor import doctor_lines

    for line in doctor_lines():
        print(line)
    return 0


# --- the bundled world's own models -------------------------------------------------------------


def world_train_base(command: Command, arguments: Sequence[str]) -> int:
    """Train tiny-flux from nothing."""
    config = command.parse(TrainBaseConfig, arguments)
    from sgflux.world.tiny_flux.recipe import train_base

    with command.hold(config.output_dir):
        print(train_base(config))
    return 0


def world_measure_base(command: Command, arguments: Sequence[str]) -> int:
    """Measure a base by its captions."""
    config = command.parse(MeasureBaseConfig, arguments)
    from sgflux.world.tiny_flux.gate import measure_base

    with command.hold(config.output, beside=True):
        gate = measure_base(config)["gate"]
    print(json.dumps(gate, indent=2))
    print(f"all figures: {config.output}")
    return 0


@dataclass(frozen=True, kw_only=True)
class TrainJudgeFlags:
    """Flags of ``sgflux world train-judge``."""

    out: Path
    """The .safetensors file to write; its figures go beside it, with the ending .json."""
    figure: Path | None = None
    """Where to draw the confusion matrix."""
    scenes: int = 96_000
    """Pictures to train on."""
    steps: int = 4000
    """Training steps."""
    batch_size: int = 128
    """Pictures a step."""
    minutes: float | None = None
    """End after so many minutes, with the learning rate following the clock."""
    measure_single: int = 4800
    """Pictures with one triple to measure on."""
    measure_multi: int = 1200
    """Pictures with two or three triples to measure on."""
    seed: int = 0
    """Random seed of weights, pictures and their order."""


def world_train_judge(command: Command, arguments: Sequence[str]) -> int:
    """Train the bundled world's judge."""
    flags = command.parse(TrainJudgeFlags, arguments)
    from sgflux.world.judge_training import save_confusion_figure, train_judge

    with command.hold(flags.out, beside=True):
        card = train_judge(
            out_path=flags.out,
            scenes=flags.scenes,
            steps=flags.steps,
            batch_size=flags.batch_size,
            minutes=flags.minutes,
            measure_single=flags.measure_single,
            measure_multi=flags.measure_multi,
            seed=flags.seed,
        )
    if flags.figure is not None:
        save_confusion_figure(card, flags.figure)
    return 0
