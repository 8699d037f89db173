"""Training and measuring the judge, at a toy size.

If one of these failed, new weights would learn wrong answers, or their card would flatter them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.settings.world_models import MeasureJudgeConfig, TrainJudgeConfig
from sgflux.world import judge_measuring, judge_training
from sgflux.world.judge import CLASSES, NONE_INDEX, WorldJudge, read_judge
from sgflux.world.judge_measuring import (
    KINDS,
    draw_scenes,
    measure_judge,
    measure_judge_file,
    scene_answers,
)
from sgflux.world.judge_training import SHARES, JudgeData, draw_queries, train_judge
from sgflux.world.scenes import OBJECT_NAMES, WorldScene, render_relationships
from sgflux.world.shapes import shape_of


def scenes_of(kind: str, count: int) -> list[WorldScene]:
    return draw_scenes([KINDS[kind]] * count, seed=3, split=KINDS[kind].split, processes=1)


def test_every_kind_is_drawn_as_it_is_called() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert SHARES.keys() == KINDS.keys()
    assert len({kind.split for kind in KINDS.values()} | {0}) == len(KINDS) + 1
    for name, kind in KINDS.items():
        for scene in scenes_of(name, 3):
            assert len(scene.relationships) == kind.triples
            assert ("twins" in shape_of(scene.graph())) is kind.twins


def test_answers_are_the_statement_its_inverse_and_none() -> None:
    scene = render_relationships(
        np.random.default_rng(0),
        [("dog", "left of", "box"), ("dog#2", "touching", "box"), ("dog#2", "holding", "cup")],
    )
    answers = scene_answers(scene)
    dog, box, other, cup = range(4)
    expected = {
        (dog, box): "left of",
        (box, dog): "right of",
        (other, box): "touching",
        (box, other): "touching",
        (other, cup): "holding",
    }
    for pair in np.ndindex(answers.shape):
        assert CLASSES[answers[pair]] == expected.get(pair, "none")


def test_queries_ask_for_twins_at_their_places_and_know_the_answers() -> None:
    scenes = [scene for name in KINDS for scene in scenes_of(name, 4)]
    data = JudgeData.of(scenes)
    rows = np.arange(len(scenes))
    queries = draw_queries(data, rows, np.random.default_rng(0))
    assert queries.answers.shape == (len(scenes), 8)
    wrong_twins = 0
    for row, scene in enumerate(scenes):
        answers = scene_answers(scene)
        for column in range(8):
            one, other = (
                OBJECT_NAMES[int(side[row, column])] for side in (queries.subjects, queries.objects)
            )
            answer = int(queries.answers[row, column])
            if column == 7:
                assert not {one, other} <= set(scene.objects)
                assert answer == NONE_INDEX
                continue
            ends = []
            for name, cells in ((one, queries.subject_cells), (other, queries.object_cells)):
                at = [i for i, n in enumerate(scene.objects) if n == name]
                own = cells[row, column].numpy()
                assert own.all() == (len(at) == 1)
                (end,) = at if own.all() else [i for i in at if (data.cells[row, i] == own).all()]
                ends.append(end)
            assert answer == answers[tuple(ends)]
            assert column > 3 or answer != NONE_INDEX or ends[::-1] in data.stated[row].tolist()
            has_twins = len(set(scene.objects)) < len(scene.objects)
            wrong_twins += column == 6 and answer == NONE_INDEX and has_twins
    assert wrong_twins > 3
    located = data.located(rows)
    assert located.shape == (len(scenes), 14, 256)
    for row, scene in enumerate(scenes):
        assert {OBJECT_NAMES[i] for i in np.flatnonzero(located[row].any(1))} == set(scene.objects)


def test_measuring_counts_statements_scenes_and_moved_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = {name: scenes_of(name, 24 if name == "1" else 8) for name in KINDS}
    judge, _ = read_judge()
    figures = measure_judge(judge, scenes)
    assert figures["n"] == {"single": 24, "multi": 2 * (2 + 3 + 4) * 8}
    assert figures["accuracy"] == figures["by_kind"]["1"]["stated"] > 0.9
    assert np.sum(figures["confusion_of_several"]) == figures["n"]["multi"]
    assert np.sum(figures["confusion"]) > 24, "pairs of no relation are in it, too"
    assert 0.8 < figures["multi_triple_accuracy"] <= 1
    assert figures["by_kind"]["4 with twins"]["moved"] > 0
    # A judge that says "above" of everything is right about that, and refuses nothing else.
    monkeypatch.setattr(
        judge_measuring,
        "_read",
        lambda _judge, _scenes, stated: np.zeros((len(stated), len(stated[0])), np.int64),
    )
    blind = measure_judge(judge, {"1": scenes["1"], "3 with twins": scenes["3 with twins"]})
    assert blind["accuracy"] == pytest.approx(1 / 24)
    assert blind["by_kind"]["3 with twins"]["all_right"] == 0


def _config(folder: Path, **settings: Any) -> TrainJudgeConfig:
    toy = {
        "output": folder / "judge.safetensors",
        "scenes": 12,
        "max_steps": 4,
        "batch_size": 4,
        "measure_single": 24,
        "measure_multi": 2,
        "save_every": 2,
    }
    return TrainJudgeConfig(**{**toy, **settings})


@pytest.fixture
def small_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = lambda: WorldJudge(fine=8, coarse=8, dim=8, heads=2, looks=1)  # noqa: E731
    monkeypatch.setattr(judge_training, "WorldJudge", tiny)
    drawn = judge_training.draw_scenes
    monkeypatch.setattr(
        judge_training, "draw_scenes", lambda kinds, **own: drawn(kinds, processes=1, **own)
    )


@pytest.mark.usefixtures("small_judge")
def test_a_stopped_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = train_judge(_config(tmp_path))
    assert json.loads((tmp_path / "judge.json").read_text()) == card
    assert read_judge(tmp_path / "judge.safetensors")[1] == card["sha256"]
    assert card["by_kind"].keys() == KINDS.keys()

    other = tmp_path / "other"
    other.mkdir()
    draw = judge_training.draw_queries

    def stop_after_a_checkpoint(*arguments: Any) -> Any:
        if (other / "judge.checkpoint.pt").exists():
            raise KeyboardInterrupt
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(judge_training, "draw_queries", stop_after_a_checkpoint)
        with pytest.raises(KeyboardInterrupt):
            train_judge(_config(other))
    assert torch.load(other / "judge.checkpoint.pt", weights_only=True)["step"] == 2
    with pytest.raises(SgfluxError, match="of a training with other settings"):
        train_judge(_config(other, lr=1e-3))
    train_judge(_config(other))
    assert not (other / "judge.checkpoint.pt").exists()
    assert read_judge(other / "judge.safetensors")[1] == card["sha256"]


@pytest.mark.usefixtures("small_judge")
def test_a_training_may_start_from_weights(tmp_path: Path) -> None:
    first = train_judge(_config(tmp_path))
    settings = {"start_from": tmp_path / "judge.safetensors", "lr": 1e-9, "max_steps": 1}
    folder = tmp_path / "on"
    folder.mkdir()
    second = train_judge(_config(folder, **settings))
    assert second["sha256"] == first["sha256"], "one step of next to nothing changes no bf16 weight"


def test_a_file_of_weights_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = MeasureJudgeConfig(output=tmp_path / "f.json", single=24, multi=2, processes=1)
    figures = measure_judge_file(config)
    assert json.loads(config.output.read_text()) == figures
    assert figures["sha256"] == read_judge()[1]
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| triples | n | statements right |")
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {name}" for name in KINDS]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"measure_single": 0}, "measure_single must be at least 1, got 0"),
        ({"measure_multi": -1}, "measure_multi must be at least 0, got -1"),
        ({"scenes": 3}, r"scenes must be at least as many as batch_size \(4\), got 3"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"minutes": 0.0}, "minutes must be greater than 0, got 0.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_training_that_would_end_in_an_error_is_refused_before_it(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SgfluxError, match=named):
        _config(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"single": 0}, "single must be at least 1, got 0"),
        ({"multi": -1}, "multi must be at least 0, got -1"),
        ({"resolution": 100}, "resolution must be a multiple of 64, got 100"),
        ({"resolution": 0}, "resolution must be a multiple of 64, got 0"),
        ({"processes": 0}, "processes must be at least 1, got 0"),
    ],
)
def test_a_measurement_that_would_end_in_an_error_is_refused_before_it(
    settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SgfluxError, match=named):
        MeasureJudgeConfig(**settings)


def test_kinds_without_pictures_are_left_out_of_the_figures(tmp_path: Path) -> None:
    config = MeasureJudgeConfig(output=tmp_path / "f.json", single=1, multi=0, processes=1)
    figures = measure_judge_file(config)
    assert figures["by_kind"].keys() == {"1"}
    assert figures["n"] == {"single": 1, "multi": 0}
    assert figures["multi_triple_accuracy"] is None, "a share of nothing is not 0"
    assert json.loads(config.output.read_text()) == figures


@pytest.mark.usefixtures("small_judge")
def test_weights_and_their_figures_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of another digest than their .json's are refused, and a judge would be lost."""
    output = tmp_path / "new" / "judge.safetensors"
    first = train_judge(_config(tmp_path, output=output, measure_multi=0))
    assert first["by_kind"].keys() == {"1"}
    assert read_judge(output)[1] == first["sha256"]

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judge_training, "measure_judge", fail)
        with pytest.raises(KeyboardInterrupt):
            train_judge(_config(tmp_path, output=output, seed=1))
    assert read_judge(output)[1] == first["sha256"], "both files are as they were"
    # What was trained is measured without a step more, with other numbers of pictures, too.
    with monkeypatch.context() as patch:
        patch.setattr(judge_training, "draw_queries", fail)
        second = train_judge(_config(tmp_path, output=output, seed=1, measure_multi=1))
    assert read_judge(output)[1] == second["sha256"] != first["sha256"]
    assert second["training"]["steps"] == 4
    # A card that cannot be written leaves the former weights, too.
    output.with_suffix(".json").unlink()
    output.with_suffix(".json").mkdir()
    with pytest.raises(SgfluxError, match=r"judge\.json"):
        train_judge(_config(tmp_path, output=output, measure_multi=0))
    assert hashlib.sha256(output.read_bytes()).hexdigest() == second["sha256"]
