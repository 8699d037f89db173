"""The evaluation, evaluated: generators whose score is known beforehand, and the model itself.

If one of these failed, a perfect generator would not reach 100 %, a blind one would not stay at
chance, or results would not say what was run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.data.pictures import read_picture, save_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import ALL_ARMS, Arm, PictureRequest, make_items, plan_pictures
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.world.dataset import write_world
from sgflux.world.generators import WorldGenerator
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example

BY_THE_ISSUE = (
    "base_neutral",
    "base_relational",
    "null_graph",
    "graph",
    "negative_graph",
    "shuffled_graph",
)

WITHOUT_SHUFFLED = tuple(arm.value for arm in ALL_ARMS if arm is not Arm.SHUFFLED_GRAPH)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    write_world(
        folder,
        train_per_class=0,
        val_per_class=0,
        test_per_class=4,
        triples="1,2",
        hold_out_combinations=20,
    )
    return folder / "test.jsonl"


def quietly(config: EvalConfig, **parts: Any) -> dict[str, Any]:
    return evaluate(config, show_progress=False, say=lambda line: None, **parts)


def run(data: Path, out_dir: Path, **settings: Any) -> dict[str, Any]:
    return quietly(EvalConfig.from_flat(data=data, output_dir=out_dir, **settings))


@pytest.fixture(scope="module")
def by_oracle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out_dir = tmp_path_factory.mktemp("oracle") / "out"
    return out_dir, run(data, out_dir, generator="oracle")


# --- generators whose score is known beforehand -------------------------------------------------


def test_an_oracle_scores_about_everything(by_oracle: tuple[Path, dict[str, Any]]) -> None:
    _, results = by_oracle
    arms = {name: arm["relation_accuracy"]["macro"] for name, arm in results["arms"].items()}
    assert arms["graph"] >= 0.85
    assert arms["base_relational"] >= 0.85
    for name in ("base_neutral", "null_graph", "negative_graph", "shuffled_graph"):
        assert arms[name] <= 0.6, f"{name} says nothing of the item's relation, or a false one"
    for name in ("base_neutral", "null_graph", "shuffled_graph"):
        assert arms[name] <= 0.15
    assert results["arms"]["negative_graph"]["given_graph_accuracy"]["macro"] >= 0.85
    assert results["arms"]["graph"]["objects_right"]["value"] >= 0.85
    assert results["arms"]["graph"]["both_right"]["value"] >= 0.6
    assert results["win_rate"]["value"] >= 0.97
    assert results["win_rate"]["n"] >= 88
    assert results["win_rate_by_kind"]["predicate"]["value"] >= 0.97
    assert results["contradiction"]["follows_graph"]["value"] >= 0.85
    assert results["differences"]["graph_minus_base_neutral"]["ci95"][0] > 0.7


def test_who_is_blind_to_the_graph_wins_half_and_guesses(data: Path, tmp_path: Path) -> None:
    results = run(data, tmp_path, generator="blind", items=48, arms=WITHOUT_SHUFFLED)
    low, high = results["win_rate"]["ci95"]
    assert low <= 0.5 <= high
    assert results["win_rate"]["value"] == 0.5, "the same picture twice wins exactly once"
    graph = results["arms"]["graph"]["relation_accuracy"]
    assert graph["macro"] <= 0.1
    assert graph == results["arms"]["base_neutral"]["relation_accuracy"]
    assert results["differences"]["graph_minus_null_graph"]["value"] == 0.0
    assert results["graph_sensitivity"]["pixel_distance"]["graph_to_negative_graph"]["value"] == 0
    assert results["contradiction"]["follows_text"]["value"] >= 0.9
    assert results["arms"]["base_relational"]["relation_accuracy"]["macro"] >= 0.9


def test_who_swaps_the_roles_loses_every_time(data: Path, tmp_path: Path) -> None:
    results = run(data, tmp_path, generator="swapped", arms=("graph", "negative_graph"))
    assert results["win_rate"]["value"] <= 0.03
    graph = results["arms"]["graph"]["relation_accuracy"]["per_predicate"]
    asymmetric = [
        one["value"] for name, one in graph.items() if name not in ("around/near", "touching")
    ]
    assert np.mean(asymmetric) <= 0.05
    assert np.mean([graph[name]["value"] for name in ("around/near", "touching")]) >= 0.8


# --- what is written ----------------------------------------------------------------------------


def test_the_results_are_those_the_issue_names(
    data: Path, by_oracle: tuple[Path, dict[str, Any]]
) -> None:
    out_dir, results = by_oracle
    assert json.loads((out_dir / "evaluation_results.json").read_text()) == results
    assert results["judge"]["name"] == "world"
    assert results["judge"]["accuracy"] >= 0.9
    assert len(results["judge"]["per_predicate"]) == 24
    assert results["judge"]["n"] == 96 + 48, "all real pictures, before any generated one"
    assert set(BY_THE_ISSUE) <= set(results["arms"])
    for arm in results["arms"].values():
        accuracy = arm["relation_accuracy"]
        low, high = accuracy["ci95"]
        assert 0 <= low <= accuracy["macro"] <= high <= 1
        assert accuracy["n"] == 96 + 48, "one triple in half of the rows, two in the others"
        assert sum(one["n"] for one in accuracy["per_predicate"].values()) == accuracy["n"]
    for name in ("win_rate", "ranking_accuracy"):
        assert {"value", "ci95", "n"} <= set(results[name])
    assert results["ranking_accuracy"]["value"] is None, "an oracle has no errors to rank"
    held_out = results["arms"]["graph"]["held_out_combinations"]
    assert held_out["held_out"]["n"] == held_out["seen"]["n"] == 48
    assert held_out["difference"]["ci95"][0] <= 0.05
    assert results["chance"]["one_of_all_predicates"] == 1 / 24
    for name in ("seeds", "command", "versions", "adapter", "model", "data", "settings"):
        assert results[name]


def test_every_picture_has_its_line(by_oracle: tuple[Path, dict[str, Any]]) -> None:
    out_dir, results = by_oracle
    lines = [json.loads(line) for line in (out_dir / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 96 * len(ALL_ARMS)
    seeds: dict[int, set[int]] = {}
    for line in lines:
        picture, info = read_picture(out_dir / line["path"])
        assert picture.shape == (64, 64, 3)
        assert (info["seed"], info["prompt"]) == (line["seed"], line["prompt"])
        assert len(line["verdict"]["right"]) == len(line["statements"])
        seeds.setdefault(line["row"], set()).add(line["seed"])
    assert all(len(own) == 1 for own in seeds.values()), "one noise for all arms of an item"
    right = [ok for line in lines if line["arm"] == "graph" for ok in line["verdict"]["right"]]
    accuracy = results["arms"]["graph"]["relation_accuracy"]["per_predicate"].values()
    assert sum(right) == pytest.approx(sum(one["value"] * one["n"] for one in accuracy))


# --- resuming, and what stops a run -------------------------------------------------------------


class Counting:
    """A generator that counts, and may stop on the way or leave a picture out."""

    def __init__(self, *, stop_after: int = 10**9, leave_out: int = 0) -> None:
        self.name = "oracle"
        self.drawn = 0
        self._inner = WorldGenerator("oracle")
        self._stop_after, self._leave_out = stop_after, leave_out

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        if self.drawn >= self._stop_after:
            raise KeyboardInterrupt
        self.drawn += len(requests)
        return self._inner.draw(requests)[self._leave_out :]

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return self._inner.record(request)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(data: Path, tmp_path: Path) -> None:
    config = EvalConfig.from_flat(
        data=data,
        output_dir=tmp_path / "out",
        items=24,
        arms=("graph", "negative_graph"),
        generator="oracle",
        batch_size=8,
    )
    with pytest.raises(KeyboardInterrupt):
        quietly(config, generator=Counting(stop_after=32))
    assert not (tmp_path / "out" / "evaluation_results.json").exists()
    # One picture was cut off by a power failure, another one is of some other run.
    pictures = sorted((tmp_path / "out" / "pictures" / "graph").iterdir())
    pictures[0].write_bytes(pictures[0].read_bytes()[:100])
    save_picture(pictures[1], np.zeros((64, 64, 3), np.uint8), {"seed": 0})
    rest = Counting()
    resumed = quietly(config, generator=rest)
    assert rest.drawn == 48 - 32 + 2
    assert resumed["timing"]["reused"] == 30
    assert resumed["timing"]["replaced"] == 1
    whole = quietly(replace(config, output_dir=tmp_path / "whole"))
    for name in ("judge", "arms", "win_rate", "differences", "graph_sensitivity"):
        assert resumed[name] == whole[name]
    lines = [(tmp_path / name / "results.jsonl").read_bytes() for name in ("out", "whole")]
    assert lines[0] == lines[1]


def test_a_generator_that_leaves_a_picture_out_stops_the_run(data: Path, tmp_path: Path) -> None:
    config = EvalConfig.from_flat(
        data=data, output_dir=tmp_path, items=8, arms=("graph",), generator="oracle"
    )
    with pytest.raises(SgfluxError, match="7 pictures for 8 requests"):
        quietly(config, generator=Counting(leave_out=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "need an adapter"),
        ({"arms": ("graph", "graph"), "generator": "oracle"}, "different ones"),
        ({"arms": ("grph",), "generator": "oracle"}, "different ones"),
        ({"arms": (), "generator": "oracle"}, "different ones"),
        ({"generator": "oracle", "adapter": Path("a")}, "adapter has no effect"),
        ({"generator": "oracle", "items": 10**6}, "1000000 items"),
        ({"generator": "oracle", "seeds_per_item": 0}, "seeds_per_item"),
        ({"generator": "oracle", "judge": "nobody"}, "judge must be 'none' or"),
    ],
)
def test_impossible_settings_are_refused(
    data: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SgfluxError, match=message):
        run(data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_objects_that_the_judge_does_not_know_stop_the_run(data: Path, tmp_path: Path) -> None:
    text = data.read_text().replace('"umbrella"', '"parasol"').replace("umbrella", "parasol")
    foreign = data.with_name("foreign.jsonl")
    foreign.write_text(text)
    with pytest.raises(SgfluxError, match=r"parasol.*judge 'none'"):
        run(foreign, tmp_path, generator="oracle")


# --- the model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("model")
    flux = make_flux_folder(folder / "flux")
    return flux, write_adapter(folder / "final", flux)


def test_a_model_is_measured_in_every_arm(
    data: Path, model: tuple[Path, Path], tmp_path: Path
) -> None:
    flux, adapter = model
    said: list[str] = []
    results = evaluate(
        EvalConfig.from_flat(
            data=data,
            output_dir=tmp_path,
            adapter=adapter,
            model_id=str(flux),
            items=6,
            seeds_per_item=2,
            steps=1,
            ranking_sigmas=2,
            batch_size=4,
            device="cpu",
        ),
        command=["sgflux", "eval", "--data", "a b.jsonl"],
        show_progress=False,
        say=said.append,
    )
    assert said[0] == "test.jsonl: overlap with training data not checked"
    assert said[1].startswith("judge 'world' on the 96 real pictures")
    assert results["command"] == "sgflux eval --data 'a b.jsonl'"
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(flux), adapter=adapter)
    assert results["adapter"]["fingerprint"] == pipeline.adapter_fingerprint
    assert results["items"]["rows"] == 6
    for arm in BY_THE_ISSUE:
        assert results["arms"][arm]["pictures"] == 12
        assert results["arms"][arm]["relation_accuracy"]["clusters"] == 6
    ranking = results["ranking_accuracy"]
    assert 6 * 2 <= ranking["n"] <= 6 * 2 * 2
    assert ranking["error_graph"] > 0
    assert set(ranking["errors"]) == {"graph", "negative_graph", "null_graph"}
    cut = results["prompts_cut"]
    assert cut["limit"] == pipeline.text_encoders.max_sequence_length
    assert set(cut["arms"]) == set(results["arms"])
    assert {entry["pictures"] for entry in cut["arms"].values()} == {12}
    moved = results["graph_sensitivity"]["pixel_distance"]
    assert moved["graph_to_negative_graph"]["value"] > 0
    # The base arms are the base, drawn from the same noise as all others.
    line = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    assert line["arm"] == "base_neutral"
    picture, info = read_picture(tmp_path / line["path"])
    assert info["adapter"] is None
    base = SceneGraphFluxPipeline.from_pretrained(str(flux))
    alone = base.sample_batch(None, [line["prompt"]], [line["seed"]], steps=1)[0]
    assert np.abs(picture.astype(int) - alone).max() <= 1


def test_without_a_judge_there_is_no_figure_that_needs_one(
    data: Path, model: tuple[Path, Path], tmp_path: Path
) -> None:
    flux, adapter = model
    results = run(
        data,
        tmp_path,
        adapter=adapter,
        model_id=str(flux),
        judge="none",
        items=3,
        steps=1,
        ranking_sigmas=1,
        device="cpu",
    )
    assert results["judge"]["name"] == "none"
    assert results["judge"]["accuracy"] is None
    assert "no judge" in results["judge"]["note"]
    for arm in results["arms"].values():
        assert arm["pictures"] == 3
        assert arm["relation_accuracy"]["macro"] is None
        assert arm["relation_accuracy"]["n"] == 0
    assert results["win_rate"]["value"] is None
    assert results["contradiction"] is None
    assert results["ranking_accuracy"]["value"] is not None


def test_a_model_that_ignores_the_graph_ranks_by_chance(
    data: Path, model: tuple[Path, Path], tmp_path: Path
) -> None:
    """An untrained adapter is the base: every e(g) is the same, and every comparison a tie."""
    flux, _ = model
    untrained = write_adapter(tmp_path / "untrained", flux, strength=0.0)
    results = run(
        data,
        tmp_path / "out",
        adapter=untrained,
        model_id=str(flux),
        arms=("graph", "negative_graph"),
        items=4,
        steps=1,
        ranking_sigmas=2,
        device="cpu",
    )
    assert results["ranking_accuracy"]["value"] == 0.5
    assert results["win_rate"]["value"] == 0.5


def test_a_world_generator_says_which_row_it_cannot_draw() -> None:

    items = make_items(
        [example("man, riding, submarine"), example("man, on, box", number=1)], [0], seed=0
    )
    (request,) = plan_pictures(items, Arm.BASE_RELATIONAL, seeds_per_item=1, seed=0)
    with pytest.raises(SgfluxError, match=r"'blind' cannot draw row 1 .*submarine"):
        WorldGenerator("blind").draw([request])
