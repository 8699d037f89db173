"""Whether a data set is fit for training: every row is looked at, every problem is listed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.data.examples import SceneExample, iter_rows, known_graphs, parse_line
from sgflux.data.images import picture_sizes
from sgflux.data.progress import progress_bar
from sgflux.data.repairs import repairs
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import NegativeKind, Negatives
from sgflux.graphs.predicates import (
    DEFAULT_VOCABULARY,
    PredicateVocabulary,
    UnknownPredicateError,
)
from sgflux.terminal.printable import counted, printable

PROBLEM_KINDS: tuple[str, ...] = ("json", "schema", "predicate", "image", "box", "negative")
"""What can be wrong with a row: its text, its fields, an unknown predicate, its picture, a box
outside the picture, no possible negative."""

CHECKED_NEGATIVES = (NegativeKind.ROLE_SWAP, NegativeKind.INVERSE, NegativeKind.PREDICATE)
"""The kinds of negative of which a row must have one."""

_BOX_TOLERANCE = 0.5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        line: number of the row's line, from 1; 0 for the file as a whole.
        kind: one of ``PROBLEM_KINDS``.
        message: Description of the problem.
    """

    line: int
    kind: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What was found in a data set.

    Attributes:
        path: the JSONL file.
        rows: rows, broken ones included.
        images: different pictures that the rows name.
        problems: all of them, by line.
        predicates: predicate -> rows whose triple has it.
        triples: number of triples of the graph -> rows.
        negatives: kind of negative (role swap, inverse, predicate replacement) -> rows that have
            one, given all that is known of their picture.
        repairs: A sentence on the statements that were merged or left out; None if none was.
    """

    path: Path
    rows: int
    images: int
    problems: tuple[Problem, ...]
    predicates: Mapping[str, int]
    triples: Mapping[int, int]
    negatives: Mapping[str, int]
    repairs: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "rows": self.rows,
            "images": self.images,
            "predicates": dict(self.predicates),
            "triples": {str(size): count for size, count in self.triples.items()},
            "negatives": dict(self.negatives),
            "repairs": self.repairs,
            "problems": [vars(problem) for problem in self.problems],
        }

    def to_text(self, *, max_problems: int | None = None) -> str:
        """Return the report for people, with at most ``max_problems`` problems and their number.

        Control characters of the data are spelt out.
        """
        lines = [f"{self.path}: {counted(self.rows, 'row')}, {counted(self.images, 'picture')}"]
        lines += _columns("predicates", self.predicates)
        triples = {
            f"{counted(size, 'triple')} in": counted(rows, "row")
            for size, rows in self.triples.items()
        }
        lines += _columns("graphs", triples)
        lines += _columns("rows with a negative by", self.negatives)
        lines += [f"  {self.repairs}"] if self.repairs else []
        shown = self.problems[:max_problems]
        # Line 0 is the file as a whole.
        places = [f"{self.path}:{p.line}" if p.line else f"{self.path}" for p in shown]
        lines += [f"{at}: {p.kind}: {p.message}" for at, p in zip(places, shown, strict=True)]
        if len(shown) < len(self.problems):
            lines.append(f"... and {len(self.problems) - len(shown)} more")
        lines.append("ok" if self.ok else counted(len(self.problems), "problem"))
        return "\n".join(map(printable, lines))


def check_dataset(
    path: str | os.PathLike[str],
    *,
    images_dir: str | os.PathLike[str] | None = None,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
    progress: bool = False,
) -> CheckReport:
    """Check every row of a JSONL file, and never stop at a problem.

    A row is right if it has the schema's fields, known predicates, a picture that can be decoded,
    boxes inside it (half a pixel is forgiven), and a negative by role swap, inverse or predicate
    replacement that no row of the same picture states.

    Args:
        path: the file.
        images_dir: the folder of the pictures; None means the file's own.
        vocabulary: the known predicates.
        open_vocabulary: accept any word as a predicate.
        progress: show a bar on stderr.

    Raises:
        SgfluxError: if the file cannot be read at all.
    """
    path = Path(path)
    images_dir = path.parent if images_dir is None else images_dir
    problems: list[Problem] = []
    examples: list[tuple[int, SceneExample]] = []
    rows = 0
    for line, content in iter_rows(path):
        rows += 1
        # An unknown predicate is a problem; what else is wrong with its row is still looked for.
        for any_word in dict.fromkeys((open_vocabulary, True)):
            try:
                example = parse_line(content, vocabulary=vocabulary, open_vocabulary=any_word)
                examples.append((line, example))
                break
            except SgfluxError as error:
                problems.append(Problem(line, _kind(error), str(error)))
                if problems[-1].kind != "predicate":
                    break
    if not rows:
        problems.append(Problem(0, "schema", "has no row"))

    known = known_graphs(example for _, example in examples)
    sizes = picture_sizes(
        (example.image_rel_path for _, example in examples), images_dir, progress=progress
    )
    negatives: Counter[NegativeKind] = Counter()
    with progress_bar(len(examples), "rows", show=progress) as advance:
        for line, example in examples:
            problems += _picture_problems(line, example, sizes[example.image_rel_path])
            truth = known[example.picture]
            kinds = Negatives(example.graph, vocabulary=vocabulary, known=truth).kinds()
            negatives.update(kind for kind in kinds if kind in CHECKED_NEGATIVES)
            if not set(kinds) & set(CHECKED_NEGATIVES):
                problems.append(
                    Problem(
                        line,
                        "negative",
                        "neither a swap nor another predicate is surely false of the picture "
                        f"({'; '.join(map(str, example.graph.triples()))})",
                    )
                )
            advance(1)
    predicates = Counter(example.triple.predicate for _, example in examples)
    triples = Counter(len(example.graph.relationships) for _, example in examples)
    return CheckReport(
        path=path,
        rows=rows,
        images=len(sizes),
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        predicates=dict(sorted(predicates.items())),
        triples=dict(sorted(triples.items())),
        negatives={str(kind): negatives[kind] for kind in CHECKED_NEGATIVES},
        repairs=repairs(example for _, example in examples),
    )


def _picture_problems(
    line: int, example: SceneExample, size: tuple[int, int] | SgfluxError
) -> list[Problem]:
    """Return what is wrong with a row's picture of this size, or with its boxes in it."""
    if isinstance(size, SgfluxError):
        return [Problem(line, "image", str(size))]
    return [
        Problem(
            line,
            "box",
            f"boxes[{i}] = {list(box)} of {example.graph.objects[i]!r} leaves the picture "
            f"{example.image_rel_path!r} of {size[0]} x {size[1]} pixels",
        )
        for i, box in enumerate(example.boxes or ())
        if min(box.left, box.top) < -_BOX_TOLERANCE
        or box.left + box.width > size[0] + _BOX_TOLERANCE
        or box.top + box.height > size[1] + _BOX_TOLERANCE
    ]


def _kind(error: SgfluxError) -> str:
    cause = error.__cause__
    if isinstance(cause, UnknownPredicateError):
        return "predicate"
    return "schema" if cause is None or isinstance(cause, SgfluxError) else "json"


def _columns(title: str, counts: Mapping[Any, Any]) -> Sequence[str]:
    if not counts:
        return []
    return [f"  {title}: {', '.join(f'{name} {count}' for name, count in counts.items())}"]
