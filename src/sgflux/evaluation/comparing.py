"""Two finished evaluations, compared pair by pair without a model, a judge or the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.drawing import JudgedPicture
from sgflux.evaluation.judges.router import digest_of
from sgflux.evaluation.known.table import DOUBTFUL, is_doubtful
from sgflux.evaluation.metrics import Rows
from sgflux.evaluation.records import PICTURE_RESULTS, read_lines
from sgflux.evaluation.report.data import read_results
from sgflux.evaluation.scoring import relation_rows
from sgflux.evaluation.statistics import compare_all

_SAME = (
    "judge.name",
    "judge.model",
    "judge.sha256",
    "data.sha256",
    "seeds.seed",
    "items.seeds_per_item",
)
"""What two evaluations must share to be compared, as keys of their results."""


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """Compare two evaluations of the same items and noises by the same judge, arm by arm.

    Args:
        first: Folder of the one evaluation.
        second: Folder of the other one; differences are the first minus the second.

    Returns:
        Plain JSON: ``first`` and ``second`` say what was evaluated; ``arms`` has for each arm the
        entry of :func:`~sgflux.evaluation.statistics.compare_all`, adjusted over the arms, and
        ``per_predicate`` the same of each predicate, adjusted over the predicates. ``doubtful``
        lists predicates about which a calibration of the judge does not show it to be better than
        the majority answer.

    Raises:
        SgfluxError: if a file is missing, damaged or changed, or the two do not compare; the
            message names everything in which they differ.
    """
    folders = (first, second)
    results = [read_results(folder) for folder in folders]
    judged = [
        read_lines(folder / PICTURE_RESULTS, own)
        for folder, own in zip(folders, results, strict=True)
    ]
    _expect_comparable(folders, results, judged)
    rows = {
        str(arm): (relation_rows(pictures), relation_rows(judged[1][arm]))
        for arm, pictures in judged[0].items()
    }
    arms = compare_all(rows)
    if not arms:
        raise SgfluxError(f"{first} and {second} have no judged pictures to compare")
    for arm, entry in arms.items():
        names = sorted({group for _, group, _ in rows[arm][0]})
        entry["per_predicate"] = compare_all(
            {name: (_of(name, rows[arm][0]), _of(name, rows[arm][1])) for name in names}
        )
    described = (
        {
            "folder": str(folder),
            "adapter": own["adapter"],
            "model": {key: own["model"][key] for key in ("model_id", "fingerprint")},
            "generator": own["generator"],
            "command": own["command"],
        }
        for folder, own in zip(folders, results, strict=True)
    )
    shared = {key: _value(results[0], key) for key in _SAME}
    compared = {name for entry in arms.values() for name in entry["per_predicate"]}
    calibrations = [own.get("calibration") for own in results]
    return {
        **dict(zip(("first", "second"), described, strict=True)),
        "same": shared,
        "arms": arms,
        "doubtful": [n for n in sorted(compared) if any(is_doubtful(c, n) for c in calibrations)],
    }


def _expect_comparable(
    folders: tuple[Path, Path],
    results: list[dict[str, Any]],
    judged: list[dict[Arm, list[JudgedPicture]]],
) -> None:
    """Name everything that keeps two evaluations from being compared, in one error."""
    values = {key: [_value(own, key) for own in results] for key in _SAME}
    if None in values["judge.model"] and len({*values["judge.sha256"], None}) == 2:
        del values["judge.model"]  # an earlier version did not write it, and the digests are equal
    values["arms"] = [", ".join(own) for own in judged]
    values["items and noises"] = [
        f"{len(places)} rows" for places in (_places(own) for own in judged)
    ]
    differing = [f"{key} ({one!r} and {two!r})" for key, (one, two) in values.items() if one != two]
    if not differing and _places(judged[0]) != _places(judged[1]):
        differing = ["the rows, their statements or their noises"]
    if differing:
        unread = [
            f"; the adapter of {folder} cannot read all of its data and left out {count}: give "
            "--data that both adapters can read"
            for folder, own in zip(folders, results, strict=True)
            if (count := _left_out(own))
        ]
        raise SgfluxError(
            f"{folders[0]} and {folders[1]} cannot be compared pair by pair, since they differ in "
            f"{'; '.join(differing)}; run 'sgflux eval' with the same --data, --items, --seed, "
            f"--seeds-per-item, --arms and --judge for both{''.join(unread)}"
        )


def _left_out(results: Mapping[str, Any]) -> str:
    """Say how many examples and parts of graphs an adapter could not read; empty if it read all."""
    counts = {
        what: sum(sum(by_word.get(key, {}).values()) for key in keys)
        for by_word in [results["items"].get("left_out") or {}]
        for what, keys in (
            ("examples", ("predicates", "objects")),
            ("relationships", ("relationships",)),
            ("objects", ("bystanders",)),
        )
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _places(judged: Mapping[Arm, list[JudgedPicture]]) -> list[tuple[Any, ...]]:
    """Return what each picture of the first arm is about: its row, noise and statements."""
    pictures = next(iter(judged.values()), [])
    return [(p.request.item.row, p.request.seed, p.request.item.graph) for p in pictures]


def _value(results: Mapping[str, Any], key: str) -> Any:
    group, name = key.split(".")
    value = results[group].get(name)
    if key == "judge.sha256" and value is None and (parts := results["judge"].get("judges")):
        # Earlier versions wrote the digests of several judges, and none of them together.
        return digest_of((one["name"], one.get("sha256") or one.get("model")) for one in parts)
    return value


def _of(name: str, rows: Rows) -> Rows:
    return [row for row in rows if row[1] == name]


def print_comparison(content: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Print the table of :func:`compare_runs`: every arm, and below it its predicates."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("in points", no_wrap=True)
    for title in ("difference", "95 % interval", "p", "p (Holm)", "differ", "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for arm, entry in content["arms"].items():
        table.add_row(Text(arm, "bold"), *_cells(entry))
        for name, own in entry["per_predicate"].items():
            mark = " †" if name in content["doubtful"] else ""
            table.add_row(f"  {name}{mark}", *_cells(own))
    console = console or Console(highlight=False)
    for side in ("first", "second"):
        console.print(f"{side}: {content[side]['folder']}", soft_wrap=True)
    console.print(table)
    console.print(
        Text(
            "difference: the first minus the second. differ: images in which the two differ, of "
            "all images. p: exact sign test over these; Holm's adjustment is over the arms, and "
            "within an arm over the predicates." + (f" {DOUBTFUL}" if content["doubtful"] else ""),
            "dim",
        )
    )


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    low, high = entry["ci95"]
    yield f"{100 * entry['difference']:+.1f}"
    yield f"{100 * low:+.1f} to {100 * high:+.1f}"
    for p in (entry["p_sign"], entry["p_holm"]):
        yield "<0.001" if p < 0.001 else f"{p:.3f}"
    yield f"{entry['n_discordant']} of {entry['clusters']}"
    yield str(entry["n"])
