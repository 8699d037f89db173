"""The wording in which the base understands graphs best, chosen on validation examples.

base_prompts/{wording}/pictures/base_relational/{row}-0.png   what the choice was made from

An adapter is to be compared with the base told the same graph as well as it can be told. Which
wording that is depends on the base, so each is drawn by the base and read by the judge, on examples
that are not the test's, and the best one is taken, for each number of statements by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.graph_texts import WORDINGS
from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, EvaluationItem, plan_pictures
from sgflux.evaluation.drawing import JudgedPicture, draw_plan, judge_arm
from sgflux.evaluation.generators import Generator
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.metrics import Estimate, macro_estimate
from sgflux.evaluation.scoring import relation_rows
from sgflux.graphs.predicates import PredicateVocabulary
from sgflux.sampling.companions import Companions

FOLDER = "base_prompts"
"""Folder of the pictures, in that of the evaluation."""


@dataclass(frozen=True)
class Validation:
    """Examples on which a wording is chosen.

    Attributes:
        path: File of the examples.
        sha256: Digest of its bytes, in hex.
        examples: The examples.
    """

    path: Path
    sha256: str
    examples: Sequence[SceneExample]


@dataclass(frozen=True)
class ChosenWording:
    """What the base is told, and why.

    Attributes:
        validation: The validation examples.
        found: Wording -> number of statements -> relation accuracy of the base on the validation
            examples with so many statements; 0 stands for all of them.
        examples: Wording -> text of the first of the validation examples with most statements.
    """

    validation: Validation
    found: Mapping[str, Mapping[int, Estimate]]
    examples: Mapping[str, str]

    def name(self, statements: int) -> str:
        """Return the best wording for a number of statements; of equally good ones, the first.

        A number of statements that no validation example has gets the best wording of all.
        """
        size = statements if statements in self.found["plain"] else 0
        return max(self.found, key=lambda wording: self.found[wording][size].value or 0.0)

    def __call__(self, example: SceneExample) -> str:
        """Return what the base is told of an example."""
        return WORDINGS[self.name(len(example.graph.relationships))](example)

    @property
    def sizes(self) -> list[int]:
        """Numbers of statements of the validation examples, the smallest first."""
        return sorted(size for size in self.found["plain"] if size)

    def to_json(self) -> dict[str, Any]:
        """Return what the results say of the choice."""
        return {
            "data": str(self.validation.path),
            "sha256": self.validation.sha256,
            "rows": len(self.validation.examples),
            "chosen": {str(size): self.name(size) for size in self.sizes},
            "otherwise": self.name(0),
            "wordings": {
                wording: {
                    "example": self.examples[wording],
                    "relation_accuracy": by_size[0].to_json(),
                    "by_statements": {str(size): by_size[size].to_json() for size in self.sizes},
                }
                for wording, by_size in self.found.items()
            },
        }

    def lines(self) -> list[str]:
        """Return what a person is told of the choice, a line for each number of statements."""
        return [
            f"base_relational is told graphs of {size} statement{'s' * (size > 1)} in the wording "
            f"{self.name(size)!r}, on {self.validation.path.name}: "
            + ", ".join(
                f"{wording} {by_size[size].value or 0:.1%}"
                for wording, by_size in self.found.items()
            )
            for size in self.sizes
        ]


def read_validation(
    path: Path, test: Sequence[SceneExample], vocabulary: PredicateVocabulary
) -> Validation:
    """Read validation examples, none of which may be a test example.

    Raises:
        SgfluxError: naming the file, if it cannot be read, or an example that is one of the test.
    """
    digest = hashlib.sha256()
    examples = read_examples(path, vocabulary=vocabulary, open_vocabulary=True, digest=digest)
    tested = {_identity(one): one for one in test}
    for example in examples:
        if (same := tested.get(_identity(example))) is not None:
            raise SgfluxError(
                f"{path}: {example.named(0)} is an example of the test data, too "
                f"({same.named(0)}): a wording chosen on the test data would favour the base; give "
                "other validation examples"
            )
    return Validation(path, digest.hexdigest(), examples)


def _identity(example: SceneExample) -> tuple[Any, ...]:
    return example.picture, frozenset(example.graph.labelled_triples())


def choose_wording(
    validation: Validation,
    generator: Generator,
    judge: Judge | None,
    *,
    seed: int,
    out_dir: Path,
    batch_size: int,
    companions: Companions,
    show_progress: bool,
) -> ChosenWording:
    """Draw the validation examples in every wording, and let the judge compare them.

    A wording that tells every example as an earlier one does has the figures of that one, and no
    pictures of its own.

    Args:
        validation: The validation examples.
        generator: Generator that draws the base's pictures.
        judge: Judge of the evaluation; None in a process that is not the first.
        seed: Seed of the noise, which is the same for every wording.
        out_dir: Folder of the evaluation.
        batch_size: Number of pictures drawn at once.
        companions: Processes that share the drawing; the first one judges for all.
        show_progress: Show bars on stderr.

    Raises:
        SgfluxError: if the judge covers no statement of the validation examples.
    """
    examples = validation.examples
    items = [EvaluationItem(row, one, None, None, None) for row, one in enumerate(examples)]
    longest = max(examples, key=lambda one: len(one.graph.relationships))
    found: dict[str, dict[int, Estimate]] = {}
    drawn: dict[tuple[str, ...], str] = {}
    for name, wording in WORDINGS.items():
        same = drawn.setdefault(tuple(map(wording, examples)), name)
        if same != name:
            if judge is not None:
                found[name] = found[same]
            continue
        arm, folder = Arm.BASE_RELATIONAL, out_dir / FOLDER / name
        requests = plan_pictures(items, arm, seeds_per_item=1, seed=seed, wording=wording)
        draw_plan(
            {arm: requests},
            generator,
            out_dir=folder,
            batch_size=batch_size,
            companions=companions,
            show_progress=show_progress,
        )
        if judge is not None:
            with progress_bar(len(requests), "verdicts", show=show_progress) as advance:
                judged = judge_arm(
                    judge, generator, requests, out_dir=folder, batch_size=128, advance=advance
                )
            found[name] = _by_statements(judged)
    if judge is not None and found["plain"][0].value is None:
        raise SgfluxError(
            f"{validation.path}: the judge {judge.identity.name!r} covers none of its statements, "
            "so no wording can be chosen; give other validation examples or leave out "
            "--base-prompts"
        )
    (chosen, *_) = companions.gather([found])
    return ChosenWording(
        validation=validation,
        found=chosen,
        examples={name: wording(longest) for name, wording in WORDINGS.items()},
    )


def _by_statements(judged: Sequence[JudgedPicture]) -> dict[int, Estimate]:
    by_size: dict[int, list[JudgedPicture]] = {0: list(judged)}
    for picture in judged:
        by_size.setdefault(len(picture.request.item.graph.relationships), []).append(picture)
    estimates = {size: macro_estimate(relation_rows(own)).overall for size, own in by_size.items()}
    # A number of statements of which the judge covers none says nothing.
    return {size: own for size, own in estimates.items() if size == 0 or own.value is not None}
