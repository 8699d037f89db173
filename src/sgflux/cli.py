"""The command line: finds the command, runs it, and says in one line what is wrong with the input.

What the commands take and do is in :mod:`sgflux.commands`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import sgflux
from sgflux import commands
from sgflux.commands import Command
from sgflux.errors import SgfluxError
from sgflux.terminal.endings import BAD_INPUT, exit_status
from sgflux.training.command_line import EXAMPLE as TRAIN_EXAMPLE

COMMANDS: tuple[Command, ...] = (
    Command(
        words=("demo",),
        purpose="Train, evaluate and report on the bundled world (minutes)",
        example="sgflux demo --out-dir runs/demo",
        run=commands.demo,
    ),
    Command(
        words=("data", "world"),
        purpose="Write a data set of pictures with known relations",
        example="sgflux data world --out-dir runs/world --train-per-class 100",
        run=commands.data_world,
    ),
    Command(
        words=("data", "vg"),
        purpose="Write a data set from Visual Genome, its raw release or SGDiff's H5 files",
        example="sgflux data vg --raw VG --out-dir runs/vg",
        run=commands.data_vg,
    ),
    Command(
        words=("data", "check"),
        purpose="Check every row and picture of a data set",
        example="sgflux data check runs/world/train.jsonl runs/world/test.jsonl",
        run=commands.data_check,
    ),
    Command(
        words=("cache",),
        purpose="Encode pictures and texts once, before training",
        example="sgflux cache train.jsonl validation.jsonl --latent-cache-dir runs/cache",
        run=commands.cache,
    ),
    Command(
        words=("train",),
        purpose="Train a scene-graph adapter",
        example=TRAIN_EXAMPLE,
        run=commands.train,
    ),
    Command(
        words=("train-classifier",),
        purpose="Train a reader of relations, for the ranking losses that need one",
        example="sgflux train-classifier --model-id tiny --height 64 --width 64 "
        "--train-jsonl runs/world/train.jsonl --val-jsonl runs/world/validation.jsonl "
        "--out-dir runs/classifier",
        run=commands.train_classifier,
    ),
    Command(
        words=("sample",),
        purpose="Draw what a scene graph states",
        example="sgflux sample --adapter runs/first/final --model-id tiny "
        '--graph "man, riding, horse"',
        run=commands.sample,
    ),
    Command(
        words=("saliency",),
        purpose="Show where in a picture the model sees subject, predicate and object",
        example='sgflux saliency --image photo.jpg --graph "man, riding, horse" --model-id tiny',
        run=commands.saliency,
    ),
    Command(
        words=("eval",),
        purpose="Measure, with controls, whether pictures obey graphs",
        example="sgflux eval --adapter runs/first/final --model-id tiny "
        "--data runs/world/test.jsonl --out-dir runs/first/evaluation",
        run=commands.evaluate,
    ),
    Command(
        words=("export",),
        purpose="Write an adapter's LoRA for other programs, or publish it",
        example="sgflux export --adapter runs/first/final --format kohya --out lora.safetensors",
        run=commands.export,
    ),
    Command(
        words=("import",),
        purpose="Read an adapter of the earlier training script",
        example="sgflux import --legacy graph_lora.pt --cgip-ckpt sip_vg.pt "
        "--vocab-path vocab.json --out-dir runs/imported",
        run=commands.import_adapter,
    ),
    Command(
        words=("doctor",),
        purpose="Print versions, devices, memory and caches, for an issue report",
        example="sgflux doctor",
        run=commands.doctor,
    ),
    Command(
        words=("world", "train-base"),
        purpose="Make the bundled model anew (hours)",
        example="sgflux world train-base --output-dir runs/tiny-flux",
        run=commands.world_train_base,
    ),
    Command(
        words=("world", "measure-base"),
        purpose="Measure what a base model draws from captions alone",
        example="sgflux world measure-base --model-id tiny",
        run=commands.world_measure_base,
    ),
    Command(
        words=("world", "train-judge"),
        purpose="Make the bundled world's judge anew",
        example="sgflux world train-judge --out runs/judge/world_judge.safetensors",
        run=commands.world_train_judge,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgflux``; returns the exit status.

    0: done; 1: a check found problems; 2: bad input, with one line on standard error; 130:
    interrupted. A traceback means a defect of sgflux.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_status(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> int:
    if words[:1] in (["--version"], ["-V"]):
        print(f"sgflux {sgflux.__version__}")
        return 0
    for command in COMMANDS:
        size = len(command.words)
        if tuple(words[:size]) == command.words:
            return command.run(command, words[size:])
    groups = {command.words[0] for command in COMMANDS if len(command.words) > 1}
    group = words[0] if words and words[0] in groups else None
    rest = words if group is None else words[1:]
    if not rest or rest[0] in ("--help", "-h", "help"):
        _print_commands(group)
        return 0 if rest else BAD_INPUT
    names = [" ".join(c.words) for c in COMMANDS if group in (None, c.words[0])]
    asked = " ".join(words[:1] if group is None else words[:2])
    near = difflib.get_close_matches(asked, names, n=1)
    hint = f"did you mean 'sgflux {near[0]}'?" if near else "'sgflux --help' lists them"
    raise SgfluxError(f"there is no command 'sgflux {asked}'; {hint}")


def _print_commands(group: str | None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    prog = "sgflux" if group is None else f"sgflux {group}"
    if group is None:
        console.print(Text.assemble(("sgflux ", "bold"), (sgflux.__version__, "bold")))
        console.print(f"{sgflux.__doc__}\n")
    console.print(Text.assemble(("usage: ", "bold"), f"{prog} COMMAND [FLAGS]\n"))
    listed = [command for command in COMMANDS if group in (None, command.words[0])]
    width = max(len(" ".join(command.words)) for command in listed)
    for command in listed:
        name = " ".join(command.words).ljust(width)
        console.print(Text.assemble("  ", (name, "bold cyan"), f"   {command.purpose}"))
    example = "demo" if group is None else next(c for c in COMMANDS if c.words[0] == group)
    first = example if isinstance(example, str) else " ".join(example.words)
    console.print(
        f"\n'sgflux {first} --help' explains a command's flags, with an example.", style="dim"
    )
