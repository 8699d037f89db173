"""Prompt lists as rows: every line becomes a row, or is named with the reason why it does not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgflux.data.benchmarks import geneval, geneval2
from sgflux.data.benchmarks.grammar import parse_prompt
from sgflux.data.benchmarks.prompt_line import NotParsedError, StatedLine
from sgflux.data.examples import SceneExample, iter_lines
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import PredicateVocabulary, UnknownPredicateError
from sgflux.graphs.scene_graph import SceneGraph

GENEVAL, GENEVAL2, T2I_COMPBENCH = "geneval", "geneval2", "t2i-compbench"
"""Names of the benchmarks; any list of prompts in plain text has the last one's form."""

_JSON: dict[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], StatedLine]]] = {
    GENEVAL: (geneval.KEYS, geneval.parse_geneval),
    GENEVAL2: (geneval2.KEYS, geneval2.parse_geneval2),
}
_SAID_OTHERWISE = {"hidden by": "behind"}
"""What T2I-CompBench's script for relations in depth takes to be the same."""


@dataclass(frozen=True)
class LineLeft:
    """A line that is no row.

    Attributes:
        file: Name of its file.
        line: Number of the line, from 1.
        text: Text of the prompt, or of the line where it has none.
        kind: Kind of the prompt in its benchmark; "" where it was not read.
        reason: Reason why it is no row.
    """

    file: str
    line: int
    text: str
    kind: str
    reason: str

    def __str__(self) -> str:
        """Return the line as an error names it."""
        return f"{self.file}:{self.line}: {self.text!r}: {self.reason}"


@dataclass(frozen=True)
class PromptFile:
    """What became of the lines of one file.

    Attributes:
        path: The file.
        benchmark: Name of the benchmark whose form it has.
        sha256: Digest of its bytes, in hex.
        rows: Rows of the prompts that state relations.
        without_relation: Lines that were read and state no relation.
        not_parsed: Lines that were not read.
    """

    path: Path
    benchmark: str
    sha256: str
    rows: Sequence[SceneExample] = ()
    without_relation: Sequence[LineLeft] = ()
    not_parsed: Sequence[LineLeft] = ()

    @property
    def count(self) -> int:
        """Number of lines that are not blank."""
        return len(self.rows) + len(self.without_relation) + len(self.not_parsed)

    def to_json(self) -> dict[str, Any]:
        """Return what the summary says of the file."""
        kinds = Counter(row.meta["benchmark"]["kind"] for row in self.rows)
        sizes = Counter(len(row.graph.relationships) for row in self.rows)
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "benchmark": self.benchmark,
            "lines": self.count,
            "rows": len(self.rows),
            "rows_by_kind": dict(sorted(kinds.items())),
            "rows_by_statements": {str(size): n for size, n in sorted(sizes.items())},
            "without_relation": [vars(line) for line in self.without_relation],
            "not_parsed": [vars(line) for line in self.not_parsed],
        }


def read_prompt_file(
    path: Path,
    *,
    vocabulary: PredicateVocabulary,
    open_vocabulary: bool = False,
    max_statements: int = 4,
) -> PromptFile:
    """Read a prompt list of GenEval, GenEval 2 or T2I-CompBench; its first line tells which.

    Args:
        path: File of the list.
        vocabulary: Vocabulary that makes predicates canonical.
        open_vocabulary: Accept any word of a prompt as a predicate.
        max_statements: Largest number of statements of a graph.

    Raises:
        SgfluxError: naming the file, if it cannot be read, is empty, or has the form of no list.
    """
    digest = hashlib.sha256()
    lines = list(iter_lines(path, digest=digest))
    if not lines:
        raise SgfluxError(f"{path}: has no line; give a list of prompts")
    benchmark = _benchmark(path, lines[0][1])
    own = {said: means for said, means in _SAID_OTHERWISE.items() if said not in vocabulary}
    words = vocabulary.with_aliases(own) if benchmark == T2I_COMPBENCH else vocabulary
    file = PromptFile(path, benchmark, digest.hexdigest())
    rows: list[SceneExample] = []
    without: list[LineLeft] = []
    not_parsed: list[LineLeft] = []
    prompts: dict[str, int] = {}  # prompt -> its first line
    for number, content in lines:
        stated = None
        try:
            stated = _parse(content, file, words)
            reason = _no_row(stated.graph, max_statements)
            first = prompts.setdefault(stated.prompt, number)
            if reason is None and benchmark == GENEVAL2 and first != number:
                reason = (
                    f"has the prompt of line {first}, and GenEval 2's script looks for one picture "
                    "of each prompt"
                )
            if reason is None:
                rows.append(
                    _row(stated, number, file, vocabulary=words, open_vocabulary=open_vocabulary)
                )
                continue
        except SgfluxError as error:
            reason = str(error)
        text, kind = (_text(content), "") if stated is None else (stated.prompt, stated.kind)
        is_without = stated is not None and stated.graph.is_null
        (without if is_without else not_parsed).append(
            LineLeft(path.name, number, text, kind, reason)
        )
    return replace(file, rows=rows, without_relation=without, not_parsed=not_parsed)


def _text(content: bytes) -> str:
    """Return the prompt of a line that was not read, or the line itself if it has none."""
    try:
        prompt = str(json.loads(content)["prompt"])
        prompt.encode("utf-8")
        return prompt
    except (ValueError, RecursionError, KeyError, TypeError):
        return content.decode("utf-8", "replace")


def _no_row(graph: SceneGraph, max_statements: int) -> str | None:
    """Return why a graph that was read is no row; None if it is one."""
    count = len(graph.relationships)
    if not count:
        return "states no relation"
    if count > max_statements:
        return (
            f"states {count} relations between its {len(graph.objects)} things, more than "
            f"--max-statements {max_statements}"
        )
    return None


def _benchmark(path: Path, first: bytes) -> str:
    if not first.lstrip().startswith(b"{"):
        return T2I_COMPBENCH
    try:
        entry = json.loads(first)
    except ValueError:
        entry = {}
    for name, (keys, _) in _JSON.items():
        if isinstance(entry, dict) and keys <= set(entry):
            return name
    needed = " or ".join(str(sorted(keys)) for keys, _ in _JSON.values())
    raise SgfluxError(
        f"{path}: its first line is JSON of no benchmark that is known (it needs the keys "
        f"{needed}); give GenEval's evaluation_metadata.jsonl, GenEval 2's geneval2_data.jsonl or "
        "a text file with one prompt a line"
    )


def _parse(content: bytes, file: PromptFile, vocabulary: PredicateVocabulary) -> StatedLine:
    try:
        text = content.decode("utf-8")
    except UnicodeError as error:
        raise NotParsedError(f"not UTF-8: {error}") from error
    if file.benchmark == T2I_COMPBENCH:
        # What follows a tab is no part of the prompt, as in T2I-CompBench's own script.
        prompt = text.split("\t")[0].strip()
        return StatedLine(prompt, parse_prompt(prompt, vocabulary), file.path.stem)
    try:
        entry = json.loads(text)
        # JSON can escape half a surrogate pair, which no text may contain.
        json.dumps(entry, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise NotParsedError(f"not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise NotParsedError("is no JSON object")
    return _JSON[file.benchmark][1](entry)


def _row(
    stated: StatedLine,
    number: int,
    file: PromptFile,
    *,
    vocabulary: PredicateVocabulary,
    open_vocabulary: bool,
) -> SceneExample:
    for _, predicate, _ in stated.graph.relationships:
        if not open_vocabulary and predicate not in vocabulary:
            raise NotParsedError(
                f"{UnknownPredicateError(predicate, vocabulary.nearest(predicate))}",
                advice=" (--open-vocabulary accepts any word, --vocabulary FILE adds your own)",
            )
    subject, predicate, object_ = stated.graph.relationships[0]
    ends = stated.graph.objects[subject], stated.graph.objects[object_]
    row = {
        "prompt": stated.prompt,
        "concepts": [ends[0], vocabulary.normalize(predicate), ends[1]],
        "triple": {"subject": ends[0], "predicate": predicate, "object": ends[1]},
        "graph": stated.graph.to_json(),
        "meta": {
            # No picture lies there: it is the name under which figures count the prompt.
            "image_rel_path": f"{file.path.stem}/{number - 1:05d}",
            "benchmark": {
                "name": file.benchmark,
                "file": file.path.name,
                "sha256": file.sha256,
                "index": number - 1,
                "kind": stated.kind,
                "prompt": stated.prompt,
                "entry": None if stated.entry is None else dict(stated.entry),
            },
        },
    }
    return SceneExample.from_json(
        row, vocabulary=vocabulary, open_vocabulary=open_vocabulary, line=number
    )


def expect_different_names(paths: Sequence[Path]) -> None:
    """Check that every file has a name of its own by which its rows are known.

    Raises:
        SgfluxError: naming two files that share it, or one whose name makes no folder.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.stem.strip("."):
            raise SgfluxError(f"{path}: without its ending, the name is no folder's; rename it")
        other = seen.setdefault(path.stem, path)
        if other is not path:
            if other == path:
                raise SgfluxError(f"{path} is given twice; give it once")
            raise SgfluxError(
                f"{other} and {path} have one name, by which their rows are told apart; rename one"
            )


def report_lines(file: PromptFile, *, max_problems: int) -> Iterator[str]:
    """Yield what a person wants to know of one file: counts, and every line that was not read."""
    yield (
        f"{file.path}: {file.count:,} lines of {file.benchmark}: {len(file.rows):,} rows, "
        f"{len(file.without_relation):,} that state no relation, "
        f"{len(file.not_parsed):,} not parsed"
    )
    kinds = Counter(line.kind for line in file.without_relation)
    if kinds and file.benchmark == GENEVAL:
        listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
        yield f"  no relation: {listed}"
    for line in file.not_parsed[:max_problems]:
        yield f"  {line}"
    if (more := len(file.not_parsed) - max_problems) > 0:
        yield f"  ... and {more:,} more, which the summary lists"
