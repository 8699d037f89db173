"""An evaluation's files with a wrong type, size or character: one clear error, no traceback.

If one of these failed, a damaged file would end in a traceback, or in figures that are made up
from half of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgflux.errors import SgfluxError
from sgflux.evaluation.report.data import read_metrics, read_results
from sgflux.evaluation.report.headline import print_headline
from sgflux.evaluation.report.page import write_report
from sgflux.files.json_files import MAX_LINE
from sgflux.models.relation_classifier import (
    ClassifierCard,
    LatentRelationClassifier,
    load_classifier,
    save_classifier,
)
from sgflux.training.log.run_log import drop_later_rows
from sgflux.world.demo import Preset, Progress
from sgflux.world.judge import read_judge
from tests.helpers.evaluated import forget_lines, make_evaluation
from tests.helpers.json_damage import damaged

MANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ASSETS = Path(__file__).parents[2] / "src/sgflux/assets"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of few pictures: one item of each kind."""
    folder = tmp_path_factory.mktemp("evaluation")
    out = make_evaluation(folder, per_class=2)
    lines = (out / "results.jsonl").read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    kept = [line for line, row in zip(lines, rows, strict=True) if row["row"] in (0, 1)]
    (out / "results.jsonl").write_text("\n".join(kept) + "\n")
    forget_lines(out)  # else any damage to a line would be found by its digest alone
    return out


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Any error within is one line that names the file."""
    said = str(path)
    try:
        yield
    except SgfluxError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said


def report_or_error(folder: Path, *, metrics: Path | None = None) -> None:
    """A page that can be written, or the one error that names a file."""
    with naming(folder):
        write_report(folder, metrics=metrics)
        print_headline(read_results(folder))


@MANY
@given(data=st.data())
def test_any_damage_to_the_figures_is_an_error_or_a_page(whole: Path, data: st.DataObject) -> None:
    path = whole / "evaluation_results.json"
    content = path.read_bytes()
    try:
        path.write_text(json.dumps(data.draw(damaged(json.loads(content)))))
        report_or_error(whole)
    finally:
        path.write_bytes(content)


@MANY
@given(data=st.data())
def test_any_damage_to_a_picture_line_is_an_error_or_a_page(
    whole: Path, data: st.DataObject
) -> None:
    path = whole / "results.jsonl"
    content = path.read_bytes()
    rows = [json.loads(line) for line in content.splitlines()]
    try:
        changed = data.draw(damaged(rows))
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        report_or_error(whole)
    finally:
        path.write_bytes(content)


@MANY
@given(data=st.data())
def test_any_damage_to_the_metrics_is_an_error_or_rows(
    tmp_path: Path, whole: Path, data: st.DataObject
) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "train", "step": 1, "loss": 1.0},
        {"kind": "validation", "step": 2, "loss": 0.5, "ranking_by_kind": {"predicate": 0.5}},
        {"kind": "validation", "step": 4, "loss": 0.5, "loss_null": 0.4, "ranking_accuracy": 0.9},
    ]
    path = whole / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data.draw(damaged(rows))))
    report_or_error(whole, metrics=path)
    with naming(path):
        drop_later_rows(path, step=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "train", "step": 1, "loss": 1.0}\n7\n', r"metrics\.jsonl:2: is damaged"),
        ('{"step": 1, "loss": "x"}\n', r"metrics\.jsonl:1: .*Expected `float"),
        ('{"step": "1"}\n', r"metrics\.jsonl:1: .*step"),
        ('{"step": 1}\n{"st\n{"step": 2}\n', r"metrics\.jsonl:2"),
    ],
)
def test_damaged_metrics_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(SgfluxError, match=message):
        read_metrics(path)


def test_a_row_that_a_kill_cut_off_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n\n{"ste')
    assert read_metrics(path) == [{"step": 1}]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x1c", "\x0c", "\x0b"])
def test_a_line_ends_at_a_line_feed_alone(whole: Path, tmp_path: Path, character: str) -> None:
    """Such a character in a prompt or a path is no end of a line."""
    folder = tmp_path / f"folder{character}name"
    shutil.copytree(whole, folder)
    path = folder / "results.jsonl"
    lines = path.read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["prompt"] = f"a photo{character}of man"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    metrics = folder / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": 1, "kind": f"a{character}b"}, ensure_ascii=False) + "\n")
    assert write_report(folder, metrics=metrics).is_file()
    drop_later_rows(metrics, step=1)
    assert read_metrics(metrics) == [{"step": 1, "kind": f"a{character}b"}]


def test_a_line_without_end_is_refused_before_it_is_read_whole(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    shutil.copytree(whole, folder)
    (folder / "results.jsonl").write_bytes(b'{"a": "' + b"x" * (MAX_LINE + 10))
    with pytest.raises(SgfluxError, match=r"results\.jsonl:1: is longer than"):
        write_report(folder)


def test_pictures_stay_below_the_folder(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    shutil.copytree(whole, folder)
    lines = (folder / "results.jsonl").read_text().split("\n")[:-1]
    for path in ("/etc/passwd", "../picture.png"):
        row = json.loads(lines[0]) | {"path": path}
        (folder / "results.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(SgfluxError, match="leads out of the evaluation's folder"):
            write_report(folder)


# --- cards --------------------------------------------------------------------------------------


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    for name in ("world_judge.safetensors", "world_judge.json"):
        (tmp_path / name).write_bytes((ASSETS / name).read_bytes())
    return tmp_path / "world_judge.safetensors"


@pytest.mark.parametrize(
    "config",
    [
        {"dim": 2**31},
        {"dim": 8192, "heads": 1, "fine": 8192, "coarse": 8192},
        {"looks": 2**31},
        {"looks": 3},
        {"heads": 5},
        {"heads": 0},
        {"dim": -72},
        {"dim": "72"},
        {"fine": 63},
        {"fine": None},
        {"more": 1, "dim": 144},
    ],
)
def test_sizes_of_a_judge_are_checked_before_anything_is_allocated(
    judge: Path, config: dict[str, Any]
) -> None:
    card = json.loads(judge.with_suffix(".json").read_text())
    card["config"] |= config
    judge.with_suffix(".json").write_text(json.dumps(card))
    started = time.monotonic()
    with pytest.raises(SgfluxError, match="world_judge"):
        read_judge(judge)
    assert time.monotonic() - started < 20


@MANY
@given(data=st.data())
def test_any_damage_to_a_judges_card_is_an_error_or_a_judge(
    data: st.DataObject, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "judge"
    folder.mkdir(exist_ok=True)
    weights = folder / "world_judge.safetensors"
    weights.write_bytes((ASSETS / weights.name).read_bytes())
    card = json.loads((ASSETS / "world_judge.json").read_text())
    small = {"config": card["config"], "sha256": card["sha256"], "accuracy": 1.0}
    weights.with_suffix(".json").write_text(json.dumps(data.draw(damaged(small))))
    with naming(weights):
        read_judge(weights)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "latent"
    model = LatentRelationClassifier(predicates=("above", "on"), text_dim=8, channels=4, width=8)
    card = ClassifierCard(
        kind="latent",
        predicates=model.predicates,
        settings=model.settings,
        reads="a" * 64,
        held_out={
            "accuracy": 0.9,
            "ci95": [0.8, 1.0],
            "chance": 0.5,
            "confusion": {"labels": ["above", "on"], "counts": [[9, 1], [1, 9]]},
        },
        training={},
    )
    save_classifier(folder, model, card)
    return folder


@MANY
@given(data=st.data())
def test_any_damage_to_a_classifiers_card_is_an_error_or_a_classifier(
    classifier: Path, data: st.DataObject
) -> None:
    path = classifier / "classifier.json"
    content = path.read_bytes()
    try:
        path.write_text(json.dumps(data.draw(damaged(json.loads(content)))))
        with naming(classifier):
            _, card = load_classifier(classifier)
            assert isinstance(card.is_better_than_chance, bool)
            card.confusion()
    finally:
        path.write_bytes(content)


def test_a_classifier_of_two_billion_columns_is_refused(classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latent"
    shutil.copytree(classifier, folder)
    card = json.loads((folder / "classifier.json").read_text())
    for sizes in ({"text_dim": 2**31}, {"width": 800_000}, {"width": 7}, {"blocks": [0]}):
        changed = card | {"settings": card["settings"] | sizes}
        (folder / "classifier.json").write_text(json.dumps(changed))
        with pytest.raises(SgfluxError, match="classifier"):
            load_classifier(folder)
    # Weights of another size under the right digest.
    weights = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
    (folder / "classifier.safetensors").write_bytes(weights)
    changed = card | {"weights_sha256": hashlib.sha256(weights).hexdigest()}
    (folder / "classifier.json").write_text(json.dumps(changed))
    with pytest.raises(SgfluxError, match="wrong weights"):
        load_classifier(folder)


@MANY
@given(data=st.data())
def test_any_damage_to_a_demos_record_is_an_error_or_a_record(
    tmp_path: Path, data: st.DataObject
) -> None:
    preset = Preset(name="small", purpose="", world={}, training={}, evaluation={})
    record = {"preset": "small", "recipe": preset.recipe, "seconds": {"data": 1.5, "training": 2}}
    (tmp_path / "demo.json").write_text(json.dumps(data.draw(damaged(record))))
    with naming(tmp_path):
        progress = Progress.open(tmp_path, preset, console=None)  # type: ignore[arg-type]
        assert all(seconds >= 0 for seconds in progress.seconds.values())
