"""``sgflux data vg``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from sgflux.commands.command import Command
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import CANONICAL_PREDICATES, CGIP_PREDICATES
from sgflux.settings.flat import Flag, Group, Input, as_json
from sgflux.settings.graph_encoder import EncoderKind
from sgflux.settings.rows import RowSettings
from sgflux.settings.shared import OutputDir

_DEFAULT_PER_CLASS = {"train": 50, "val": 10, "test": 10}


@dataclass(frozen=True, kw_only=True)
class DataVgFlags:
    """Flags of ``sgflux data vg``."""

    raw: Input[Path | None] = None
    """Folder of the raw release, with image_data.json, objects.json, relationships.json and, if you
    have them, attributes.json, object_alias.txt and relationship_alias.txt."""
    h5: Input[tuple[Path, ...]] = ()
    """Files of sg2im or SGDiff, given instead of --raw: train.h5 alone, which is split here by
    picture, or train.h5, val.h5 and test.h5, whose splits are kept."""
    vocab_path: Annotated[Path | None, Flag(former=("vocab",), is_input=True)] = None
    """File vocab.json that belongs to --h5."""
    reader: str | None = None
    """Name of the reader of another source, given instead of --raw or --h5 (docs/extending.md)."""
    files: Input[tuple[Path, ...]] = ()
    """Files or folders that --reader reads."""
    images_dir: Input[Path | None] = None
    """Folder that image paths start from, which has VG_100K and VG_100K_2. By default it is the
    folder of --raw."""
    output_dir: OutputDir
    """Folder of the files TAG_train.jsonl, TAG_val.jsonl, TAG_test.jsonl, TAG_summary.json and
    TAG_examples.jpg, where TAG is --tag."""
    train_per_class: int | None = None
    """Number of training examples of each predicate. By default it is 50, unless --train-total is
    given."""
    val_per_class: int | None = None
    """Number of validation examples of each predicate. By default it is 10, unless --val-total is
    given."""
    test_per_class: int | None = None
    """Number of test examples of each predicate. By default it is 10, unless --test-total is
    given."""
    train_total: int | None = None
    """Number of training examples in all, spread evenly over the predicates."""
    val_total: int | None = None
    """Number of validation examples in all, spread evenly over the predicates."""
    test_total: int | None = None
    """Number of test examples in all, spread evenly over the predicates."""
    graph_encoder: Annotated[EncoderKind, Flag(former=("encoder",))] = "native"
    """Graph encoder whose predicates are selected: 'native' has all 24, 'cgip' has the 16 that
    SGDiff's encoder knows."""
    predicates: tuple[str, ...] = ()
    """Predicates to select instead of those of --graph-encoder: known ones, or any words of the
    files."""
    rows: Group[RowSettings] = field(default_factory=RowSettings)
    """Rows."""

    def __post_init__(self) -> None:
        """Check the values that do not need a file."""
        if [self.raw is None, not self.h5, self.reader is None].count(False) != 1:
            raise SgfluxError("give either --raw DIR or --h5 train.h5 [val.h5 test.h5]")
        if (self.reader is None) != (not self.files):
            raise SgfluxError("--reader and --files belong together: give both or neither")
        if (self.vocab_path is None) != (not self.h5):
            raise SgfluxError("--h5 and --vocab-path belong together: give both or neither")
        if self.h5 and self.images_dir is None:
            raise SgfluxError("--h5 needs --images-dir, the folder with VG_100K and VG_100K_2")
        if self.reader is not None and self.images_dir is None:
            raise SgfluxError("--reader needs --images-dir, the folder that image paths start from")
        if self.graph_encoder == "cgip" and self.predicates:
            raise SgfluxError(
                "--graph-encoder cgip and --predicates both choose predicates; drop one"
            )
        for split in _DEFAULT_PER_CLASS:
            per_class, total = self._asked(split)
            if per_class is not None and total is not None:
                raise SgfluxError(f"{split}_per_class and {split}_total: give one of them")
            if min(per_class or 0, total or 0) < 0:
                raise SgfluxError(f"{split}_per_class and {split}_total must be at least 0")

    def source(self) -> tuple[str, list[Path]]:
        """The name of the reader, and what it reads."""
        if self.reader is not None:
            return self.reader, list(self.files)
        if self.raw is not None:
            return "visual-genome-raw", [self.raw]
        assert self.vocab_path is not None, "checked above"
        return "visual-genome-h5", [self.vocab_path, *self.h5]

    def chosen_predicates(self) -> tuple[str, ...]:
        """The predicates of the data set, as asked for."""
        if self.predicates:
            return self.predicates
        return CGIP_PREDICATES if self.graph_encoder == "cgip" else CANONICAL_PREDICATES

    def wanted(self, classes: int) -> dict[str, list[int]]:
        """Split -> examples of each class."""
        from sgflux.data.annotations.splits import spread

        counts = {}
        for split, default in _DEFAULT_PER_CLASS.items():
            per_class, total = self._asked(split)
            if total is not None:
                counts[split] = spread(total, classes)
            else:
                counts[split] = [default if per_class is None else per_class] * classes
        return counts

    def _asked(self, split: str) -> tuple[int | None, int | None]:
        return getattr(self, f"{split}_per_class"), getattr(self, f"{split}_total")


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write a data set from Visual Genome or another source."""
    flags = command.parse(DataVgFlags, arguments)
    with command.hold(flags.output_dir, part=flags.rows.tag):
        write(flags, command=["sgflux", *command.words, *arguments])
    return 0


def write(flags: DataVgFlags, *, command: Sequence[str]) -> dict[str, Any]:
    """Read, choose, write, and say what happened; returns the summary.

    Raises:
        SgfluxError: as the readers, and as ``write_dataset``.
    """
    from sgflux.data.annotations.dataset import write_dataset
    from sgflux.data.readers import find_reader

    name, paths = flags.source()
    images_dir = flags.images_dir or flags.raw
    assert images_dir is not None, "checked by the flags"
    predicates = flags.chosen_predicates()
    summary = write_dataset(
        find_reader(name)(paths),
        images_dir=images_dir,
        out_dir=flags.output_dir,
        wanted=flags.wanted(len(predicates)),
        predicates=predicates,
        settings=flags.rows,
        arguments=as_json(flags),
        command=command,
        progress=sys.stderr.isatty(),
    )
    print("\n".join(_report(flags, summary)))
    return summary


def _report(flags: DataVgFlags, summary: dict[str, Any]) -> list[str]:
    """What a person wants to know at once; the summary has all of it."""
    found = sum(summary["found_by_predicate"].values())
    fit = sum(summary["filters"][-1]["left_by_predicate"].values())
    lines = [
        f"{summary['relationships']:,} relationships of {summary['images']:,} images, "
        f"{found:,} with one of the {len(summary['vocabulary']['predicates'])} predicates"
    ]
    left_out = {
        name: count
        for name, count in summary["other_predicates"].items()
        if flags.graph_encoder == "cgip" and name in CANONICAL_PREDICATES
    }
    if left_out:
        listed = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
        lines.append(f"left out, since the cgip encoder has no such predicate: {listed}")
    lines += [
        f"  dropped {entry['dropped']:,}: {entry['reason']}"
        for entry in summary["filters"]
        if entry["dropped"]
    ]
    lines.append(f"  left {fit:,} to choose from")
    if summary["quirks"]:
        lines.append("oddities of the files, each handled as it says:")
        lines += [f"  {count:,} {name}" for name, count in summary["quirks"].items()]
    lines += [
        f"short: {entry['predicate']}, {entry['split']}: {entry['found']} of {entry['wanted']}"
        for entry in summary["shortages"]
    ]
    lines += [
        f"not mirrored, since the mirror image's predicate is not asked for: {name} {count:,}"
        for name, count in summary["not_mirrored"].items()
    ]
    lines += [
        f"{flags.output_dir / content['file']}: {content['rows']:,} examples of "
        f"{content['pictures']:,} pictures"
        for content in summary["splits"].values()
    ]
    lines.append(f"{flags.output_dir / summary['summary']}: every count, by predicate")
    lines.append(f"{flags.output_dir / summary['contact_sheet']}: what the examples look like")
    return lines


COMMAND = Command(
    words=("data", "vg"),
    purpose="Write a data set from Visual Genome, raw or H5, or from another source",
    example="sgflux data vg --raw VG --output-dir runs/vg",
    run=run,
)
