"""The page reads trainings and evaluations from their own files, and finds those of a folder.

If one of these failed, the page would show another figure than the run wrote, a run that is being
written would break it, or an adapter would not be found.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle_folder import BUNDLED_ADAPTER, CONFIG_FILE
from sgflux.training.log.run_log import RunLog
from sgflux.training.samples.sampler import sheet_of
from sgflux.web.adapters import find_adapters, find_runs
from sgflux.web.evaluations import read_rows
from sgflux.web.gallery import Gallery
from sgflux.web.run_files import RunFiles
from sgflux.web.server import free_port
from tests.helpers.evaluated import make_evaluation


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


# --- trainings ------------------------------------------------------------------------------------


def log_step(log: RunLog, step: int) -> None:
    row = {"step": step, "loss": 1 / step, "loss_gen": 0.5, "lr": 1e-4, "steps_per_second": 2.0}
    log.train(row, max_steps=100)


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    """By the writer of the training itself, so that a change of its lines is noticed."""
    log = RunLog(silent=False)
    log.open(tmp_path, step=0, max_steps=100)
    log.say("the run begins")
    run = RunFiles(tmp_path)
    assert run.read()
    assert (run.step, run.steps, run.left) == (0, None, None)
    log_step(log, 10)
    assert run.read()
    assert not run.read(), "nothing was written since"
    log.validation({"step": 10, "loss": 0.9, "ranking_accuracy": 0.75, "by_sigma": []})
    log_step(log, 20)
    log.say("unfinished: 80 steps")
    assert run.read()
    assert run.series("train", "loss") == [(10, 0.1), (20, 0.05)]
    assert run.series("validation", "ranking_accuracy") == [(10, 0.75)]
    assert (run.step, run.steps, run.left) == (20, 100, "40 s")
    assert run.figures("train") == ["loss", "loss_gen", "lr", "steps_per_second"]
    assert not run.is_over
    log.say("finished: the adapter of step 20 is in final")
    log.close()
    run.read()
    assert run.is_over


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "training.log", "2026-01-01 00:00:00 begin\n")
    metrics = write(tmp_path / "metrics.jsonl", '{"kind": "train", "step": 1, "lo')
    run = RunFiles(tmp_path)
    run.read()
    assert run.train == []
    metrics.write_text('{"kind": "train", "step": 1, "loss": 2.0}\n', encoding="utf-8")
    run.read()
    assert run.series("train", "loss") == [(1, 2.0)]
    metrics.write_text("", encoding="utf-8")  # a resumed run drops later rows
    run.read()
    assert run.train == []
    metrics.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(SgfluxError, match=r"metrics\.jsonl"):
        run.read()


@pytest.mark.parametrize(
    "line",
    ["[1]", '{"kind": "train", "step": "1"}', '{"kind": [], "step": 1}', "[" * 100_000, "\ud7ff"],
)
def test_a_line_that_is_no_row_of_metrics_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path / "training.log", "2026-01-01 00:00:00 begin\n")
    write(tmp_path / "metrics.jsonl", line + "\n")
    with pytest.raises(SgfluxError, match=r"metrics\.jsonl: is damaged: .*; take the damaged line"):
        RunFiles(tmp_path).read()


def test_rows_behind_a_damaged_line_are_read_once_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path / "training.log", "2026-01-01 00:00:00 begin\n")
    row = '{"kind": "train", "step": %d, "loss": 2.0}\n'
    metrics = write(tmp_path / "metrics.jsonl", row % 1)
    run = RunFiles(tmp_path)
    run.read()
    write(metrics, row % 1 + row % 2 + "bad\n" + row % 4)
    for _ in range(2):
        with pytest.raises(SgfluxError, match="is damaged"):
            run.read()
    write(metrics, row % 1 + row % 2 + row % 3 + row % 4)
    run.read()
    assert [step for step, _ in run.series("train", "loss")] == [1, 2, 3, 4]


def test_a_figure_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "training.log", "2026-01-01 00:00:00 begin\n")
    write(tmp_path / "metrics.jsonl", '{"kind": "train", "step": 1, "loss": "low", "lr": 0.5}\n')
    run = RunFiles(tmp_path)
    run.read()
    assert (run.figures("train"), run.series("train", "loss")) == (["lr"], [])
    assert (run.last("train", "loss"), run.last("train", "lr")) == (None, 0.5)
    assert run.last("validation", "loss") is None


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match="is no training run"):
        RunFiles(tmp_path).read()


def test_sheets_of_a_training_are_found(tmp_path: Path) -> None:
    write(tmp_path / "training.log", "2026-01-01 00:00:00 begin\n")
    run = RunFiles(tmp_path)
    run.read()
    for step in (20, 100):
        (tmp_path / sheet_of(step)).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / sheet_of(step))
    assert run.read()
    assert [sheet.name for sheet in run.sheets] == ["step20.png", "step100.png"], "newest last"


# --- evaluations ----------------------------------------------------------------------------------


def test_the_rows_of_an_evaluation_are_those_with_their_own_graph(tmp_path: Path) -> None:
    folder = make_evaluation(tmp_path)
    lines = [
        json.loads(line)
        for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    expected = [line for line in lines if line["arm"] == "graph" and line["repeat"] == 0]
    rows = read_rows(folder)
    assert rows
    assert [row.graph for row in rows] == [SceneGraph.from_json(one["graph"]) for one in expected]
    assert [row.seed for row in rows] == [one["seed"] for one in expected]
    lines[0] |= {"arm": "graph", "repeat": 1, "graph": expected[0]["graph"]}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text, encoding="utf-8")
    assert len(read_rows(folder)) == len(rows), "the second noise of a row is not listed again"
    with pytest.raises(SgfluxError, match="is no evaluation"):
        read_rows(tmp_path / "nothing")


@pytest.mark.parametrize(
    "change",
    [
        {"graph": {"objects": ["dog"]}},
        {"graph": {"objects": [1], "relationships": []}},
        {"verdict": {"all_right": "yes"}},
        {"seed": 1e30},
    ],
)
def test_a_damaged_line_of_an_evaluation_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    graph = {"objects": ["dog"], "relationships": []}
    line = {"row": 0, "arm": "graph", "repeat": 0, "seed": 1, "graph": graph}
    write(tmp_path / "evaluation_results.json", "{}")
    write(tmp_path / "results.jsonl", f"{json.dumps(line)}\n{json.dumps({**line, **change})}\n")
    with pytest.raises(
        SgfluxError, match=r"results\.jsonl:2: is damaged: .*run 'sgflux eval' again"
    ):
        read_rows(tmp_path)


# --- what there is to choose ----------------------------------------------------------------------


def test_adapters_are_found_newest_first_and_not_among_pictures(tmp_path: Path) -> None:
    old = write(tmp_path / "a" / "training" / "final" / CONFIG_FILE, "{}")
    new = write(tmp_path / "b" / "final" / CONFIG_FILE, "{}")
    write(tmp_path / "b" / "images" / "final" / CONFIG_FILE, "{}")
    os.utime(old, (1, 1))
    found = [BUNDLED_ADAPTER, new.parent.as_posix(), old.parent.as_posix()]
    assert find_adapters(tmp_path) == found
    assert find_adapters(tmp_path / "nothing") == [BUNDLED_ADAPTER]
    write(tmp_path / "b" / "training.log", "")
    (tmp_path / "a" / "training.log").symlink_to(tmp_path / "gone")
    assert find_runs(tmp_path, "training.log") == [(tmp_path / "b").as_posix()]


def test_a_picture_is_fetched_with_its_record_until_it_is_dropped(tmp_path: Path) -> None:
    gallery = Gallery()
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    address, other = gallery.png(image, {"seed": 1}), gallery.jpeg(image)
    token = address.rpartition("/")[2]
    content, media_type = gallery.get(token)
    (tmp_path / "a.png").write_bytes(content)
    pixels, record = read_picture(tmp_path / "a.png")
    assert np.array_equal(pixels, np.asarray(image))
    assert (record, media_type) == ({"seed": 1}, "image/png")
    gallery.drop([address])
    with pytest.raises(SgfluxError, match="no such picture"):
        gallery.get(token)
    assert len(gallery) == 1
    assert other != address


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    """Another port would not help there; 192.0.2.1 is an address of documents (RFC 5737)."""
    with pytest.raises(SgfluxError, match=rf"--host {host} is no address of this machine .*0\.0"):
        free_port(host, 0)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SgfluxError, match="choose another --port"):
            free_port("127.0.0.1", taken.getsockname()[1])
