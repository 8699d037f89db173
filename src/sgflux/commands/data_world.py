"""``sgflux data world``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sgflux.commands.command import Command
from sgflux.settings.shared import OutputDir


@dataclass(frozen=True, kw_only=True)
class DataWorldFlags:
    """Flags of ``sgflux data world``."""

    output_dir: OutputDir
    """Folder of the data set. It must be new or empty."""
    train_per_class: int = 100
    """Number of training pictures of each of the 24 predicates."""
    val_per_class: int = 5
    """Number of validation pictures of each predicate, which choose the best checkpoint."""
    test_per_class: int = 20
    """Number of test pictures of each predicate, on which figures are reported."""
    triples: str = "1"
    """Number of triples in a scene: 1, 2, 3 or 4, or several of these, like 1,2,3."""
    resolution: int = 64
    """Height and width of the pictures in pixels."""
    seed: int = 0
    """Random seed of the data set; the same seed gives the same files."""
    hold_out_combinations: int = 0
    """Number of pairs of objects that occur in the test split alone, in half of its pictures."""
    hold_out_seed: int | None = None
    """Random seed of another world, whose held-out pairs this one is to have. An adapter that was
    trained on that world is thus measured on new pictures. By default the pairs follow from
    --seed."""
    twins: float = 0.0
    """Share of scenes with twins, from 0 to 1, among those of at least two triples. Twins are two
    objects of one name, like dog and dog#2."""
    hold_out_shapes: tuple[str, ...] = ()
    """Shapes of graphs that occur in the test split alone, in half of its pictures of as many
    triples. A shape is given by its name, or by the text of a graph that has it."""
    leave_out_predicates: tuple[str, ...] = ()
    """Predicates that occur in the test split alone. The other splits have rows of the other
    predicates, as many of each as before."""
    leave_out_objects: tuple[str, ...] = ()
    """Objects that occur in pictures of the test split alone."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write a data set of the bundled world."""
    flags = command.parse(DataWorldFlags, arguments)
    from sgflux.world.dataset import write_world

    with command.hold(flags.output_dir, beside=True):
        summary = write_world(
            **vars(flags),
            progress=sys.stderr.isatty(),
            command=["sgflux", *command.words, *arguments],
        )
    for split, content in summary["splits"].items():
        print(f"{flags.output_dir / f'{split}.jsonl'}: {content['rows']} examples")
    return 0


COMMAND = Command(
    words=("data", "world"),
    purpose="Write a data set of pictures with known relations",
    example="sgflux data world --output-dir runs/world --train-per-class 100",
    run=run,
)
