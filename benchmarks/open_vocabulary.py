"""Measure what an adapter draws of predicates and objects that it was never trained on.

    python benchmarks/open_vocabulary.py --folder runs/open_vocabulary --estimate
    python benchmarks/open_vocabulary.py --folder runs/open_vocabulary
    python benchmarks/open_vocabulary.py --folder runs/try --quick      (a rehearsal)
    python benchmarks/open_vocabulary.py --table benchmarks/results/open_vocabulary.json

The adapter is trained with the settings of ``sgflux demo`` on scenes of one statement that lack six
of the 24 predicates and two of the 14 objects. It has more pictures and steps than the demo:

- three predicates (``HELD_OUT``) do not occur in its training at all;
- three (``SYNONYMS``) occur under another word, which the graph states: "shoving" for "pushing".
  The teacher of L_words is told the usual word, since the base was never told the other one;
- two objects (``OBJECTS``) do not occur in its training.

The base draws all of these when it is told them in words. The test pictures have all predicates and
objects, in their usual words. Each test item is drawn by the adapter with its graph, by the adapter
without a graph, and by the base in words; of a synonym's items the adapter also draws the graph in
the word of its training. In these arms of the adapter the text names the two objects only. In one
more arm the text states the relation and the adapter has the graph besides. The world's judge reads
the pictures. The noise of an item is the same in all arms.

tiny-flux's text encoders have learned the 24 predicates and no other word, so that the features of
"shoving" say nothing of "pushing". Other words are spelled in pieces, and a piece may be a known
word: "leftward" begins with "left". What synonyms transfer there is a lower bound for encoders that
know both words.

Six further words (``UNKNOWN``) were taught to neither the adapter nor the base. Items of the
predicates that they mean are drawn by the adapter whose graph has such a word, and by the base
whose text has it.

The first command prints how long the second one takes. The second one goes on where it was
stopped, writes ``benchmarks/results/open_vocabulary.json``, or ``--out``, and a contact sheet into
``docs/figures``, or ``--figures``, and prints its tables, as the last command does. All pictures
stay in ``--folder``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablation_plan import steps_per_second
from drawn_graphs import write_sheet
from hard_graphs import cell, make_world, without_folders
from measuring import ROOT, machine
from result_files import expect_same, write_json

from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.pictures import read_picture, save_picture
from sgflux.data.prompts import prompt_for, prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import derived_seed
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.metrics import macro_estimate, mean_estimate
from sgflux.files.writing import replacing
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter
from sgflux.training.log.run_log import duration
from sgflux.training.run.train import train_by_settings
from sgflux.world.demo import DEMO
from sgflux.world.scenes import PREDICATES

HELD_OUT = ("behind", "pulling", "sitting on")
"""Predicates that the training does not have, one of each kind."""

SYNONYMS: Mapping[str, str] = {
    "hanging from": "dangling from",
    "left of": "leftward of",
    "pushing": "shoving",
}
"""Predicate -> the word that the training has in its place, one of each kind. No table of sgflux
knows these words."""

UNKNOWN: Mapping[str, str] = {
    "below": "underlying",
    "eating": "devouring",
    "holding": "gripping",
    "looking at": "gazing at",
    "right of": "rightward of",
    "wearing": "donning",
}
"""Predicate that the training has -> a word for it that nothing was taught."""

OBJECTS = ("cup", "dog")
"""Objects that the training does not have."""

WORDS_OF: Mapping[str, Mapping[str, str]] = {
    "trained_word": SYNONYMS,
    "unknown_word": UNKNOWN,
    "base_unknown_word": UNKNOWN,
}
"""Arm -> the words in which it is told the predicates, and draws no others."""

ARMS = ("graph", "base_relational", "null_graph", "graph_and_words", *WORDS_OF)
"""What is drawn of an item."""

OF_BASE = ("base_relational", "base_unknown_word")
"""Arms without the adapter."""

GROUPS = (
    "seen",
    "synonyms",
    "held-out predicates",
    "held-out objects",
    "held-out objects, other predicates",
)
"""Groups of test items. The last one has synonyms and held-out predicates; those before it differ
from what was trained on in one thing."""

COLUMNS: Mapping[str, str] = {
    "graph": "adapter",
    "trained_word": "adapter, told the word of its training",
    "base_relational": "base in words",
    "null_graph": "adapter without graph",
    "graph_and_words": "adapter, graph and words",
}
"""Arm -> heading of its column."""

UNKNOWN_COLUMNS: Mapping[str, str] = {
    "graph": "adapter, usual word",
    "unknown_word": "adapter, unknown word",
    "base_unknown_word": "base told the unknown word",
}
"""Arm -> heading of its column in the table of unknown words."""

WORLD: Mapping[str, Any] = {
    "triples": "1",
    "resolution": 64,
    "seed": 20261161,
    "leave_out_predicates": list(HELD_OUT),
    "leave_out_objects": list(OBJECTS),
}
"""The world of training and test, whose pictures nothing else uses."""


VERDICT = ("arm", "row", "holds", "objects", "read")
"""Keys of a verdict: what was drawn, whether the statement holds, whether both objects are there,
and the relation that the judge names."""

SHEET = "open_vocabulary.webp"
"""Name of the contact sheet."""
PER_LINE = 4
"""Number of test items in each of its lines, where there are as many of each word."""


@dataclass(frozen=True)
class Scale:
    """Size of the measurement.

    Attributes:
        train_per_class: Number of training pictures of each predicate that the training has.
        val_per_class: Number of validation pictures of each of them.
        test_per_class: Number of test pictures of each of the 24 predicates.
        max_steps: Number of training steps.
        steps: Number of Euler steps of a picture.
        batch_size: Number of pictures that are drawn at once.
        graph_scale: Graph scale of the adapter's pictures.
    """

    train_per_class: int = 200
    val_per_class: int = 5
    test_per_class: int = 40
    max_steps: int = 1000
    steps: int = int(DEMO.evaluation["steps"])
    batch_size: int = 32
    graph_scale: float = float(DEMO.evaluation.get("graph_scale", 1))


QUICK = Scale(2, 1, 1, 4, 2, 8)


# --- data and training ----------------------------------------------------------------------------


def write_training_words(path: Path, out: Path) -> Counter[str]:
    """Write rows whose graphs state the synonyms; texts stay as they are.

    Args:
        path: JSONL file of the world.
        out: Path of the new file beside it.

    Returns:
        How often each predicate occurs in the new file.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    counts: Counter[str] = Counter()
    for row in rows:
        said = row["triple"]["predicate"]
        word = SYNONYMS.get(said, said)
        counts[word] += 1
        if word != said:
            row["triple"]["predicate"] = row["concepts"][1] = row["meta"]["predicate_raw"] = word
            row["graph"]["relationships"] = [
                [s, word, o] for s, _, o in row["graph"]["relationships"]
            ]
            del row["meta"]["class_id"]
    with replacing(out) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    return counts


def prepare(folder: Path, scale: Scale) -> Counter[str]:
    """Write the world and the training's rows; returns how often each training word occurs."""
    counts = {name: count for name, count in asdict(scale).items() if name.endswith("_per_class")}
    make_world(folder / "world", {**WORLD, **counts})
    found: Counter[str] = Counter()
    for split in ("train", "validation"):
        found += write_training_words(
            folder / "world" / f"{split}.jsonl", folder / "world" / f"{split}_words.jsonl"
        )
    return found


def training_settings(scale: Scale) -> dict[str, Any]:
    """Return the settings of the training, without its files."""
    every = max(1, scale.max_steps // 4)
    own = {"max_steps": scale.max_steps, "val_every": every, "save_every": every}
    return {**DEMO.training, **own}


def train(folder: Path, scale: Scale, **changes: Any) -> Path | None:
    """Train the adapter, or finish that; None if it was interrupted."""
    bundle = folder / "training" / "final"
    if not bundle.is_dir():
        settings = {
            **training_settings(scale),
            "train_jsonl": folder / "world" / "train_words.jsonl",
            "val_jsonl": folder / "world" / "validation_words.jsonl",
            "output_dir": folder / "training",
            "latent_cache_dir": folder / "cache",
            "resume": "auto",
            **changes,
        }
        if train_by_settings(**settings).interrupted_by is not None:
            return None
    return bundle


# --- pictures -------------------------------------------------------------------------------------


def group_of(example: SceneExample) -> str:
    """Return the group of a test item."""
    predicate = example.triple.predicate
    group = "held-out predicates" if predicate in HELD_OUT else "seen"
    if predicate in SYNONYMS:
        group = "synonyms"
    if any(name in OBJECTS for name in example.graph.objects):
        return "held-out objects" if group == "seen" else "held-out objects, other predicates"
    return group


def told(example: SceneExample, arm: str) -> tuple[SceneGraph | None, str]:
    """Return the graph and the text of an arm."""
    graph = example.graph
    if arm in WORDS_OF:
        entries = ((s, WORDS_OF[arm][said], o) for s, said, o in graph.relationships)
        graph = replace(graph, relationships=tuple(entries))
    has_words = arm in OF_BASE or arm == "graph_and_words"
    text = prompts_for_graph(graph, "relational") if has_words else prompt_for(example, "neutral")
    return None if arm in OF_BASE or arm == "null_graph" else graph, text


def batches(
    examples: Sequence[SceneExample], done: Iterable[tuple[str, int]], size: int
) -> Iterator[tuple[str, list[int]]]:
    """Yield arms with the rows that are still to be drawn, so many at once."""
    known = set(done)
    for arm in ARMS:
        rows = [
            row
            for row, example in enumerate(examples)
            if (arm, row) not in known and example.triple.predicate in WORDS_OF.get(arm, PREDICATES)
        ]
        for start in range(0, len(rows), size):
            yield arm, rows[start : start + size]


def picture_of(folder: Path, arm: str, row: int) -> Path:
    """Return the path of a drawn picture."""
    return folder / "pictures" / arm / f"{row:04d}.png"


def draw(
    folder: Path,
    pipeline: SceneGraphFluxPipeline,
    judge: Judge,
    examples: Sequence[SceneExample],
    arm: str,
    rows: Sequence[int],
    scale: Scale,
) -> list[dict[str, Any]]:
    """Draw some rows in an arm, keep and judge the pictures; returns a verdict for each."""
    asked = [told(examples[row], arm) for row in rows]
    images = pipeline.sample_batch(
        [graph for graph, _ in asked],
        [text for _, text in asked],
        [derived_seed(WORLD["seed"], "noise", row, 0) for row in rows],
        steps=scale.steps,
        graph_scale=scale.graph_scale if asked[0][0] is not None else 1.0,
        use_adapter=arm not in OF_BASE,
    )
    stated = [examples[row].triple for row in rows]
    readings = judge.read(images, [[one] for one in stated])
    for row, image, (graph, text) in zip(rows, images, asked, strict=True):
        info = {"graph": graph.to_text() if graph else None, "text": text}
        save_picture(picture_of(folder, arm, row), image, info)
    return [
        {
            "arm": arm,
            "row": row,
            "holds": reading.is_right(one),
            "objects": reading.finds(one),
            "read": reading.verdicts[one].relation,
        }
        for row, one, reading in zip(rows, stated, readings, strict=True)
    ]


def read_verdicts(path: Path) -> list[dict[str, Any]]:
    """Return the verdicts of a file.

    Raises:
        SgfluxError: if they are those of an older version of this measurement.
    """
    verdicts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    lacking = sorted({name for one in verdicts for name in VERDICT if name not in one})
    if lacking:
        raise SgfluxError(
            f"{path} is of an older version of this measurement: its verdicts lack "
            f"{', '.join(lacking)}; delete this file, so that the pictures are drawn and judged "
            "again, or give another --folder"
        )
    return verdicts


def draw_all(
    folder: Path,
    pipeline: SceneGraphFluxPipeline,
    judge: Judge,
    examples: Sequence[SceneExample],
    scale: Scale,
) -> list[dict[str, Any]]:
    """Draw and judge what the folder's file of verdicts lacks; returns its content."""
    path = folder / "verdicts.json"
    verdicts = read_verdicts(path) if path.is_file() else []
    done = [(one["arm"], one["row"]) for one in verdicts]
    for arm, rows in batches(examples, done, scale.batch_size):
        verdicts += draw(folder, pipeline, judge, examples, arm, rows, scale)
        write_json(path, verdicts)
        print(f"{arm}: up to row {rows[-1]} of {len(examples)}", flush=True)
    return verdicts


def open_pipeline(adapter: Path, device: str) -> SceneGraphFluxPipeline:
    """Load the base with the adapter, as ``sgflux eval`` does."""
    return SceneGraphFluxPipeline.from_settings(
        ModelSource(model_id=DEMO.training["model_id"]),
        TrainedAdapter(adapter=adapter),
        SamplingCompute(device=device, dtype=DEMO.evaluation["dtype"]),
    )


# --- figures --------------------------------------------------------------------------------------


def groups(
    examples: Sequence[SceneExample], verdicts: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return group -> arm -> share of statements that hold, and of pictures with both objects.

    Shares of statements are means over predicates.
    """
    found: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        for arm in ARMS:
            own = [
                (one, examples[one["row"]])
                for one in verdicts
                if one["arm"] == arm and group_of(examples[one["row"]]) == group
            ]
            if own:
                holds, objects = (
                    [
                        (float(one[key]), row.triple.predicate, row.image_rel_path)
                        for one, row in own
                    ]
                    for key in ("holds", "objects")
                )
                found.setdefault(group, {})[arm] = {
                    "relation_accuracy": macro_estimate(holds).to_json(),
                    "objects_right": mean_estimate(objects).to_json(),
                }
    return found


def relations_read(
    examples: Sequence[SceneExample], verdicts: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return predicate -> arm -> how often the judge names which relation, most frequent first.

    The predicates are those that were not trained on in this word, and those that are also told in
    an unknown word, in pictures without a held-out object.
    """
    found: dict[str, dict[str, Counter[str]]] = {}
    for one in verdicts:
        example = examples[one["row"]]
        is_new = group_of(example) in ("synonyms", "held-out predicates")
        if is_new or (group_of(example) == "seen" and example.triple.predicate in UNKNOWN):
            arms = found.setdefault(example.triple.predicate, {})
            arms.setdefault(one["arm"], Counter())[one["read"]] += 1
    return {
        predicate: {arm: dict(counts.most_common()) for arm, counts in found[predicate].items()}
        for predicate in sorted(found)
    }


def figure_rows(examples: Sequence[SceneExample]) -> list[list[int]]:
    """Return the test rows of each line of the figure: equally many, the first of each new word."""
    lines = []
    for word in (*HELD_OUT, *SYNONYMS, *OBJECTS):
        group = "held-out objects" if word in OBJECTS else "held-out predicates"
        group = "synonyms" if word in SYNONYMS else group
        rows = [
            row
            for row, example in enumerate(examples)
            if group_of(example) == group
            and word in (example.triple.predicate, *example.graph.objects)
        ]
        if rows:
            lines.append(rows[:PER_LINE])
    shared = min(map(len, lines))
    return [rows[:shared] for rows in lines]


def figure(
    folder: Path, examples: Sequence[SceneExample], verdicts: Sequence[Mapping[str, Any]]
) -> list[tuple[Path, str]]:
    """Return pictures and captions of a contact sheet with a line for each new word.

    A line has pictures by the adapter and then by the base in words. A caption has the statement
    and, where it does not hold, the relation that the judge names.
    """
    known = {(one["arm"], one["row"]): one for one in verdicts}
    found = []
    for rows in figure_rows(examples):
        for arm, artist in (("graph", "adapter"), ("base_relational", "base in words")):
            for row in rows:
                one = known[arm, row]
                said = "holds" if one["holds"] else f"no: {one['read']}"
                found.append(
                    (picture_of(folder, arm, row), f"{examples[row].triple}\n{artist}: {said}")
                )
    return found


def as_markdown(record: Mapping[str, Any]) -> str:
    """All tables of a record."""
    parts = []
    for figure, title in (
        ("relation_accuracy", "Statements that hold (mean over predicates)"),
        ("objects_right", "Pictures with both objects"),
    ):
        parts.append([f"{title}:"])
        lines = [_line(["test items", "n", *COLUMNS.values()]), _line(["---"] * (2 + len(COLUMNS)))]
        for group, arms in record["groups"].items():
            shares = [cell(_value(arms.get(arm, {}).get(figure))) for arm in COLUMNS]
            lines.append(_line([group, str(arms["graph"][figure]["n"]), *shares]))
        parts.append(lines)
    lines = [
        _line(["predicate", "n", *COLUMNS.values(), "read from the adapter's pictures"]),
        _line(["---"] * (3 + len(COLUMNS))),
    ]
    for group in ("held-out predicates", "synonyms"):
        arms = {
            arm: own["relation_accuracy"]["per_predicate"]
            for arm, own in record["groups"].get(group, {}).items()
        }
        for predicate in arms.get("graph", ()):
            shares = [cell(arms.get(arm, {}).get(predicate)) for arm in COLUMNS]
            word = SYNONYMS.get(predicate)
            name = f"{predicate} (trained as {word})" if word else predicate
            lines.append(_line([name, *_read(record, predicate, "graph", shares)]))
    parts += [["Each predicate that was not trained on in this word:"], lines]
    lines = [
        _line(["predicate", "n", *UNKNOWN_COLUMNS.values(), "read from the pictures of its word"]),
        _line(["---"] * (3 + len(UNKNOWN_COLUMNS))),
    ]
    seen = {
        arm: own["relation_accuracy"]["per_predicate"]
        for arm, own in record["groups"]["seen"].items()
    }
    for predicate, word in UNKNOWN.items():
        if predicate in seen.get("unknown_word", ()):
            shares = [cell(seen[arm].get(predicate)) for arm in UNKNOWN_COLUMNS]
            cells = _read(record, predicate, "unknown_word", shares)
            lines.append(_line([f"{predicate} (told as {word})", *cells]))
    parts += [["Words that neither the adapter nor the base was taught:"], lines]
    parts.append([f"`{record['command']}` on {record['date']}."])
    return "\n\n".join("\n".join(part) for part in parts)


def _value(entry: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return entry if entry is None or "value" in entry else {**entry, "value": entry["macro"]}


def _read(record: Mapping[str, Any], predicate: str, arm: str, shares: Iterable[str]) -> list[str]:
    """The number of pictures, the shares, and the three relations that are read most often."""
    read = record["relations_read"][predicate][arm]
    often = ", ".join(f"{relation} {read[relation]}" for relation in list(read)[:3])
    return [str(sum(read.values())), *shares, often]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- the command ----------------------------------------------------------------------------------


def estimate(scale: Scale, device: str) -> str:
    """Return how long a measurement takes here, by a few steps and one batch in each arm."""
    small = replace(scale, train_per_class=2, val_per_class=1, test_per_class=2, max_steps=8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, small)
        bundle = train(folder, small, log_every=1, val_every=0, save_every=0, device=device)
        assert bundle is not None, "the rehearsal was interrupted"
        step = 1 / steps_per_second(folder)
        pipeline, judge = open_pipeline(bundle, device), WorldJudgeAdapter.load()
        examples = read_examples(folder / "world" / "test.jsonl")
        seconds = {}
        for arm, rows in batches(examples, (), scale.batch_size):
            if arm not in seconds:
                started = time.perf_counter()
                draw(folder, pipeline, judge, examples, arm, rows, scale)
                seconds[arm] = (time.perf_counter() - started) / len(rows)
    pictures = dict.fromkeys(ARMS, 24 * scale.test_per_class)
    pictures |= {arm: len(words) * scale.test_per_class for arm, words in WORDS_OF.items()}
    drawing = sum(count * seconds[arm] for arm, count in pictures.items())
    return (
        f"{scale.max_steps:,} steps of {step:.2f} s and {sum(pictures.values()):,} pictures: about "
        f"{duration(scale.max_steps * step)} and {duration(drawing)}"
    )


def main() -> None:
    """Estimate, or measure and print, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--folder", type=Path, default=Path("runs/open_vocabulary"), help="Folder of the run.")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "open_vocabulary.json")
    add("--figures", type=Path, default=ROOT / "docs" / "figures", help="Folder of the sheet.")
    add("--estimate", action="store_true", help="Print how long it takes, and stop.")
    add("--quick", action="store_true", help="Rehearse; give other --out and --figures.")
    add("--table", type=Path, metavar="JSON", help="Print the tables of a finished measurement.")
    add("--max-steps", type=int, help="Number of training steps.")
    add("--device", default="auto")
    given = parser.parse_args()
    if given.table is not None:
        print(as_markdown(json.loads(given.table.read_text(encoding="utf-8"))))
        return
    scale = QUICK if given.quick else Scale()
    if given.max_steps is not None:
        scale = replace(scale, max_steps=given.max_steps)
    if given.estimate:
        print(estimate(scale, given.device))
        return
    if given.quick and any(
        getattr(given, name) == parser.get_default(name) for name in ("out", "figures")
    ):
        parser.error("--quick writes no figures that count; give another --out and --figures")
    expect_same(
        given.folder / "settings.json",
        {"training": training_settings(scale), **asdict(scale)},
        way_out="give another --folder, or the same settings",
    )
    words = prepare(given.folder, scale)
    bundle = train(given.folder, scale, device=given.device)
    if bundle is None:
        sys.exit("the training was interrupted; the same command goes on")
    examples = read_examples(given.folder / "world" / "test.jsonl")
    judge = WorldJudgeAdapter.load()
    pipeline = open_pipeline(bundle, given.device)
    drawn_by = {
        "adapter": pipeline.adapter_fingerprint,
        "base": pipeline.model_fingerprint,
        "judge": judge.identity.sha256,
    }
    expect_same(
        given.folder / "drawn_by.json",
        drawn_by,
        way_out="delete it with verdicts.json beside it, so that all is drawn and judged again",
    )
    verdicts = draw_all(given.folder, pipeline, judge, examples, scale)
    paths, captions = zip(*figure(given.folder, examples, verdicts), strict=True)
    pictures = [read_picture(path)[0] for path in paths]
    columns = 2 * len(figure_rows(examples)[0])
    write_sheet(given.figures / SHEET, pictures, captions, columns=columns, scale=2)
    record = {
        "command": shlex.join(
            ["python", "benchmarks/open_vocabulary.py", *map(without_folders, sys.argv[1:])]
        ),
        **machine(),
        "scale": asdict(scale),
        "held_out": list(HELD_OUT),
        "synonyms": dict(SYNONYMS),
        "unknown": dict(UNKNOWN),
        "objects": list(OBJECTS),
        "training": training_settings(scale),
        "training_rows": dict(sorted(words.items())),
        **drawn_by,
        "groups": groups(examples, verdicts),
        "relations_read": relations_read(examples, verdicts),
    }
    write_json(given.out, record)
    print(as_markdown(record))


if __name__ == "__main__":
    try:
        main()
    except SgfluxError as error:
        sys.exit(str(error))
