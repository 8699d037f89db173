"""Annotations as a data set: JSONL files, a summary with every count, and a contact sheet."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgflux import __version__
from sgflux.data.annotations.filters import class_names, find_candidates
from sgflux.data.annotations.locating import located
from sgflux.data.annotations.rows import RowMaker, check_template
from sgflux.data.annotations.selection import Selection, make_pool, select
from sgflux.data.annotations.sheet import examples_sheet
from sgflux.data.annotations.splits import choose_combinations
from sgflux.data.annotations.table import SPLITS, Annotations
from sgflux.data.examples import SceneExample, split_summary, write_examples
from sgflux.data.mirror import mirrored
from sgflux.errors import SgfluxError
from sgflux.files.writing import unfinished_folder
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.settings.rows import RowSettings


def write_dataset(
    table: Annotations,
    *,
    images_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    wanted: Mapping[str, Sequence[int]],
    predicates: Sequence[str],
    settings: RowSettings,
    arguments: Mapping[str, Any],
    command: Sequence[str],
    progress: bool = False,
) -> dict[str, Any]:
    """Write ``{tag}_{train,val,test}.jsonl``, ``{tag}_summary.json`` and ``{tag}_examples.jpg``.

    All files appear together, the summary last; a split of no rows has no file.

    Args:
        table: Annotations that a reader found; if they have attributes, the rows carry them.
        images_dir: the folder that the image paths start from.
        out_dir: folder of the files; made if it is missing.
        wanted: split -> examples of each predicate, in the sorted order of ``predicates``.
        predicates: the classes.
        settings: Settings of the rows; none of the files that they name may be there yet.
        arguments: Settings of the command, recorded in the summary.
        command: Command line of the program, recorded in the summary.
        progress: show bars on stderr.

    Returns:
        What the summary holds.

    Raises:
        SgfluxError: on bad arguments; if a file is there already; if a predicate comes short and
            ``allow_imbalance`` is False, naming each with its counts.
    """
    out_dir, images_dir = Path(out_dir), Path(images_dir)
    if not images_dir.is_dir():
        raise SgfluxError(f"the images folder {str(images_dir)!r} is no folder")
    files = _files(out_dir, settings.tag)
    table = located(table, images_dir)
    classes = class_names(predicates)
    candidates = find_candidates(
        table, classes=classes, images_dir=images_dir, min_box_area=settings.min_box_area
    )
    maker = RowMaker(
        table=table,
        candidates=candidates,
        classes=classes,
        template=check_template(settings.prompt_template),
        whole_graphs=settings.graphs,
        seed=settings.seed,
    )
    pool = make_pool(table, candidates)
    count = settings.hold_out_combinations
    held_out = choose_combinations(pool, count, classes=len(classes), seed=settings.seed)
    if len(held_out) < count:
        raise SgfluxError(
            f"hold_out_combinations is {count}, but only {len(held_out)} are rare "
            "enough to be held out (at most a fifth of their predicate's pictures)"
        )
    selection = select(
        maker,
        pool,
        wanted,
        images_dir=images_dir,
        min_box_area=settings.min_box_area,
        seed=settings.seed,
        held_out=held_out,
        progress=progress,
    )
    shortages: list[dict[str, Any]] = [
        {
            "predicate": classes[shortage.label],
            "split": shortage.split,
            "wanted": shortage.wanted,
            "found": shortage.found,
        }
        for shortage in selection.choice.shortages
    ]
    if shortages and not settings.allow_imbalance:
        raise SgfluxError(
            _shortage_message(shortages, candidates.ledger.found)
            + _drops_message(candidates.ledger.entries, selection.broken)
        )
    rows = {split: list(selection.examples[split]) for split in SPLITS}
    if not any(rows.values()):
        raise SgfluxError("no example is left; the numbers per split are all 0 or nothing is fit")
    if table.attributes is not None:
        rows = _with_attributes(rows, table.attributes)
    not_mirrored: Counter[str] = Counter()
    if settings.mirror:
        rows["train"] = _with_mirror_images(rows["train"], selection, classes, not_mirrored)
    summary: dict[str, Any] = {
        "dataset": table.title,
        "sgflux_version": __version__,
        "command": list(command),
        "arguments": dict(arguments),
        "sources": table.sources,
        "images": len(table.images),
        "relationships": len(table.relations),
        "vocabulary": {
            "predicates": list(classes),
            "sha256": _vocabulary_hash(classes),
        },
        "quirks": {name: count for name, count in sorted(table.quirks.items()) if count},
        "found_by_predicate": candidates.ledger.found,
        "filters": candidates.ledger.entries,
        "other_predicates": candidates.other_predicates,
        "broken_pictures": dict(selection.broken),
        "shortages": shortages,
        "held_out_combinations": [
            [table.names[subject], classes[label], table.names[target]]
            for subject, label, target in held_out
        ],
        "not_mirrored": dict(not_mirrored),
        "splits": {},
        "contact_sheet": files["sheet"].name,
        "summary": files["summary"].name,
    }
    _write(files, rows, summary, images_dir)
    return summary


def _files(out_dir: Path, tag: str) -> dict[str, Path]:
    """Return the files to write, none of which is there yet."""
    if not tag or Path(tag).name != tag or tag.startswith("."):
        raise SgfluxError(f"tag must be the beginning of a file's name, got {tag!r}")
    files = {split: out_dir / f"{tag}_{split}.jsonl" for split in SPLITS}
    files["sheet"] = out_dir / f"{tag}_examples.jpg"
    files["summary"] = out_dir / f"{tag}_summary.json"
    there = [str(path) for path in files.values() if path.exists()]
    if there:
        raise SgfluxError(
            f"{', '.join(there)} is there already; give another --tag or --output-dir, or delete it"
        )
    return files


def _shortage_message(shortages: Sequence[Mapping[str, Any]], found: Mapping[str, int]) -> str:
    short: dict[str, list[str]] = {}
    for entry in shortages:
        words = f"{entry['split']} {entry['found']} of {entry['wanted']}"
        short.setdefault(entry["predicate"], []).append(words)
    listed = "\n".join(
        f"  {name}: {', '.join(words)} (annotated {found[name]:,} times)"
        for name, words in sorted(short.items())
    )
    return (
        f"{len(short)} predicates have fewer fit examples than asked for:\n{listed}\n"
        "Ask for fewer, leave them out with --predicates (or --graph-encoder cgip, which has 16), "
        "or go on with --allow-imbalance, which writes a summary with all counts"
    )


def _drops_message(entries: Sequence[Mapping[str, Any]], broken: Mapping[str, str]) -> str:
    """Return why relationships were left out, since no summary says so, with an example."""
    lines = [f"  {entry['dropped']:,}: {entry['reason']}" for entry in entries if entry["dropped"]]
    if not lines:
        return ""
    if broken:
        path, reason = next(iter(broken.items()))
        lines.append(f"  for example {path}: {reason}")
    return "\n" + "\n".join(["Nothing is written; relationships were left out because:", *lines])


def _with_attributes(
    rows: Mapping[str, list[SceneExample]],
    attributes: Callable[[Iterable[int]], dict[int, list[str]]],
) -> dict[str, list[SceneExample]]:
    """Return the rows with ``meta.attributes``, a list for each object of the graph."""
    image_ids = {example.meta["image_id"] for split in rows.values() for example in split}
    found = attributes(image_ids)
    return {
        split: [
            example.with_meta(attributes=[found.get(i, []) for i in example.meta["object_ids"]])
            for example in examples
        ]
        for split, examples in rows.items()
    }


def _with_mirror_images(
    examples: Sequence[SceneExample],
    selection: Selection,
    classes: Sequence[str],
    left_out: Counter[str],
) -> list[SceneExample]:
    """Return every example, followed by its mirror image if that one's predicate is a class."""
    result = []
    for example in examples:
        result.append(example)
        other = mirrored(example, width=selection.sizes[example.image_rel_path][0])
        if other.triple.predicate in classes:
            result.append(other)
        else:
            left_out[example.triple.predicate] += 1
    return result


def _vocabulary_hash(classes: Sequence[str]) -> str:
    """Return the SHA-256 of the classes in their order and of the aliases of canonical ones."""
    aliases = sorted(DEFAULT_VOCABULARY.aliases.items())
    text = json.dumps({"predicates": list(classes), "aliases": aliases})
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    files: Mapping[str, Path],
    rows: Mapping[str, list[SceneExample]],
    summary: dict[str, Any],
    images_dir: Path,
) -> None:
    """Write everything beside its place, then move it there."""
    with unfinished_folder(files["summary"]) as partial:
        for split, examples in rows.items():
            if examples:
                write_examples(partial / files[split].name, examples)
                summary["splits"][split] = split_summary(partial / files[split].name, examples)
        split, shown = next((split, found) for split, found in rows.items() if found)
        title = f"{summary['dataset']}, {split}: the first examples of each predicate"
        sheet = examples_sheet(shown, images_dir=images_dir, title=title)
        sheet.save(partial / files["sheet"].name, quality=88)
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        (partial / files["summary"].name).write_text(text + "\n", encoding="utf-8")
        for path in files.values():
            if (partial / path.name).exists():
                (partial / path.name).replace(path)
