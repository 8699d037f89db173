"""The parts of the ablation that train nothing: its plan, its estimate, its report.

If one of these failed, the ablation would train other recipes than its plan says, or its report
would state other figures than its rows.
"""

from __future__ import annotations

import json
import statistics
import tomllib
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import ablation as benchmark
import pytest
from ablation import Ablation
from ablation_locks import claimed, waiting_for
from ablation_plan import (
    HOURS,
    QUICK,
    TIMED,
    WORLD,
    Scale,
    Speed,
    Unit,
    check_record,
    planned_units,
    steps_per_second,
)
from ablation_report import (
    FIGURES,
    GAIN_OF,
    KINDS,
    as_table,
    draw,
    figures_of,
    interval,
    summary,
    with_intervals,
)
from ablation_rows import PLAIN, RECIPES, Recipe

from sgflux.errors import SgfluxError
from sgflux.settings.losses import LossSettings
from sgflux.settings.training import TrainConfig
from sgflux.training.run.train import TrainResult
from sgflux.world.dataset import write_world
from sgflux.world.demo import DEMO, FULL


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_can_be_trained(recipe: Recipe, tmp_path: Path) -> None:
    ablation = Ablation(tmp_path, QUICK, device="cpu", names=[recipe.name])
    unit = Unit(recipe, 2, 0, "examples")
    config = ablation.training_config(unit, tmp_path / "training", 4)
    length = config.optimizer
    assert (length.max_steps, length.batch_size, length.lr) == (4, 4, DEMO.training["lr"])
    assert config.losses == LossSettings.from_flat(**{"lambda_words": 0, **recipe.losses})


def test_no_picture_of_a_demo_is_one_of_the_ablation_or_of_another_demo(tmp_path: Path) -> None:
    """What chose the defaults has never seen a picture on which their figures are reported."""
    counts = {"train_per_class": 1, "val_per_class": 1, "test_per_class": 4}
    pictures = []
    for name, world in (("ablation", WORLD), ("demo", DEMO.world), ("full", FULL.world)):
        write_world(tmp_path / name, **{**world, **counts})
        pictures.append({path.read_bytes() for path in (tmp_path / name).rglob("*.png")})
    assert [len(own) for own in pictures] == [24 * 6] * 3
    for one, other in combinations(pictures, 2):
        assert not one & other


def test_the_ablation_writes_and_records_its_own_world(tmp_path: Path) -> None:
    ablation = Ablation(tmp_path / "here", QUICK, device="cpu", names=[])
    ablation._write_data()
    made = json.loads((tmp_path / "here" / "data" / "summary.json").read_text())
    assert made["arguments"]["seed"] == WORLD["seed"]
    assert ablation._record()["world"] == WORLD
    assert len({world["seed"] for world in (WORLD, DEMO.world, FULL.world)}) == 3


def test_recipes_build_on_each_other_and_plain_is_plain_flow_matching() -> None:
    plain = next(recipe for recipe in RECIPES if recipe.name == PLAIN)
    assert (plain.settings, plain.losses, plain.cost) == ({}, {}, 1.0)
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names) <= 14
    assert {recipe.over for recipe in RECIPES} <= {None, *names}
    assert [recipe.name for recipe in RECIPES if recipe.over is None] == ["published"]


def test_the_recipe_of_the_bundled_adapter_is_that_of_its_configuration() -> None:
    path = Path(__file__).parent.parent / "configs" / "tiny_hard_graphs.toml"
    config = tomllib.loads(path.read_text())
    bundled = RECIPES[-1]
    assert {name: config[name] for name in bundled.settings} == bundled.settings
    assert config["losses"] == bundled.losses


def test_a_recipe_as_fast_as_plain_is_not_trained_twice() -> None:
    fast, slow = Recipe("fast", ""), Recipe("slow", "", cost=2.0)
    units = planned_units([fast, slow], Scale(sizes=(5, 9), seeds=2), timed=[fast, slow])
    examples = [f"{name}-examples-{size}" for size in (5, 9) for name in ("fast", "slow")]
    assert [unit.name for unit in units] == [
        *(f"{name}-seed{seed}" for seed in (0, 1) for name in examples),
        "slow-time-9-seed0",
        "slow-time-9-seed1",
    ]


def finish(ablation: Ablation, unit: Unit, accuracy: float) -> None:
    path = ablation.out_dir / "runs" / unit.name / "evaluation" / "evaluation_results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(evaluation(accuracy)))


def test_the_four_best_have_equal_time_once_all_have_equal_examples(tmp_path: Path) -> None:
    ablation = Ablation(tmp_path, QUICK, device="cpu", names=[one.name for one in RECIPES])
    first = planned_units(RECIPES, QUICK, timed=())
    for place, unit in enumerate(first):
        timed = [one for one in ablation.units if one.budget == "time"]
        assert len(timed) == TIMED, "the estimate counts as many as there will be"
        assert not any(map(ablation._is_ready, timed))
        finish(ablation, unit, 1.0 if unit.recipe.name == PLAIN else place / 20)
    timed = [one for one in ablation.units if one.budget == "time"]
    assert [one.recipe.name for one in timed] == [one.name for one in RECIPES[:-5:-1]]
    assert all(map(ablation._is_ready, timed))
    ablation.report()
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["unfinished"] == [one.name for one in timed]
    table = (tmp_path / "table.md").read_text()
    assert f"Not finished: {', '.join(found['unfinished'])}." in table


def test_equal_time_is_measured_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each turn a recipe is compared with plain's training of that turn, however busy it is."""
    scale = replace(QUICK, steps=100, turns=3)
    ablation = Ablation(tmp_path, scale, device="cpu", names=["words", "words+flow"])
    trained: list[str] = []

    def train(config: TrainConfig) -> TrainResult:
        trained.append(config.run.output_dir.parent.name)
        return TrainResult(output_dir=config.run.output_dir, step=16, max_steps=16)

    def rate(folder: Path) -> float:
        name, turn = folder.name.rsplit("-", 1)
        busy = {"0": 1.0, "1": 0.1, "2": 1.0}[turn]
        return busy * {PLAIN: 2.0, "words": 1.5, "words+flow": 0.9}[name]

    monkeypatch.setattr(benchmark, "train", train)
    monkeypatch.setattr(benchmark, "steps_per_second", rate)
    timed = {unit.recipe.name: unit for unit in ablation.units if unit.budget == "time"}
    assert ablation._steps(timed["words"]) == 75
    names = [PLAIN, "words", "words+flow"]
    assert trained == [f"{name}-{turn}" for turn in range(3) for name in names]
    assert ablation._steps(timed["words+flow"]) == 45
    assert len(trained) == 9, "it is measured once"
    (tmp_path / "pace.json").write_text(json.dumps({"words": [0.5]}))
    assert ablation._steps(timed["words"]) == 50
    assert ablation._steps(timed["words+flow"]) == 45, "a recipe that came later is measured alone"
    assert trained[9:] == [f"{name}-{turn}" for turn in range(3) for name in (PLAIN, "words+flow")]
    equal = planned_units(ablation.recipes, scale, timed=())
    assert {ablation._steps(unit) for unit in equal} == {100}


def test_an_ablation_longer_than_its_hours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = Ablation(tmp_path, Scale(), device="cpu", names=["words"])
    (tmp_path / "speed.json").write_text(json.dumps({"step": 9, "picture": 9, "evaluation": 9}))
    monkeypatch.setattr(ablation, "begin", lambda: None)  # the data are not needed
    with pytest.raises(SgfluxError, match=r"of CPU time, more than 2 hours; give fewer --recipes"):
        ablation.run(hours=2)


def test_equal_time_is_reported_of_what_had_it(tmp_path: Path) -> None:
    """Those trained so, and the one whose time it is; never a training of equal steps."""
    ablation = Ablation(tmp_path, QUICK, device="cpu", names=["words+flow", "words"])
    for unit in [*ablation.units]:
        if (unit.recipe.name, unit.budget) == ("words+flow", "time"):
            continue  # not trained yet
        finish(ablation, unit, 0.9 if unit.budget == "time" else 0.5)
    ablation.report()
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    timed = {row["recipe"]: row for row in rows if row["budget"] == "time"}
    assert {name: row["figures"]["relation_accuracy"]["mean"] for name, row in timed.items()} == {
        PLAIN: 0.5,
        "words": 0.9,
    }
    assert timed["words"]["gain"]["mean"] == pytest.approx(0.4)


def test_the_estimate_by_hand() -> None:
    speed, scale = Speed(step=0.5, picture=0.1, evaluation=7.0), Scale(steps=100, items=10)
    slow = Recipe("slow", "", cost=2.0)
    # 100 steps at twice half a second, a tenth for validation; 10 items in 4 arms; the rest.
    assert speed.seconds(Unit(slow, 5, 0, "examples"), scale) == pytest.approx(110 + 4 + 7)
    assert speed.seconds(Unit(slow, 5, 0, "time"), scale) == pytest.approx(55 + 4 + 7)


def test_the_default_keeps_to_its_hours() -> None:
    """By the CPU time of a quiet core; a larger default would be refused."""
    speed = Speed(step=0.45, picture=0.16, evaluation=20.0)
    scale = Scale()
    units = planned_units(RECIPES, scale, timed=RECIPES[2 : 2 + TIMED])
    hours = sum(speed.seconds(unit, scale) for unit in units) / 3600
    assert scale.seeds >= 3
    assert 15 < hours < HOURS


def test_a_folder_holds_one_ablation(tmp_path: Path) -> None:
    path = tmp_path / "ab" / "ablation.json"
    record: dict[str, Any] = {"scale": {"steps": 4, "seeds": 1}, "recipes": {"a": {"x": 1}}}
    check_record(path, record)
    check_record(path, {"scale": {"steps": 4, "seeds": 3}, "recipes": {"b": {}}})
    assert json.loads(path.read_text())["recipes"] == {"a": {"x": 1}, "b": {}}
    with pytest.raises(SgfluxError, match=r"scale.steps was 4, is 5"):
        check_record(path, {"scale": {"steps": 5, "seeds": 3}, "recipes": {}})
    with pytest.raises(SgfluxError, match=r"recipes.a was \{'x': 1\}, is \{'x': 2\}"):
        check_record(path, {"scale": {"steps": 4, "seeds": 3}, "recipes": {"a": {"x": 2}}})


def test_a_unit_is_in_one_pair_of_hands(tmp_path: Path) -> None:
    unit, other = tmp_path / "runs" / "plain", tmp_path / "runs" / "flow"
    with claimed(unit) as first, claimed(unit) as second, claimed(other) as third:
        assert (first, second, third) == (True, False, True)
        with waiting_for(tmp_path / "classifiers"):
            pass
    with claimed(unit) as again:
        assert again
    assert not unit.exists(), "the lock lies beside the folder, which a run may delete"


def test_the_rate_is_the_median_of_training_rows(tmp_path: Path) -> None:
    rows = [{"kind": "train", "steps_per_second": rate} for rate in (1.0, 9.0, 2.0)]
    (tmp_path / "training").mkdir()
    metrics = tmp_path / "training" / "metrics.jsonl"
    metrics.write_text("\n".join(map(json.dumps, [*rows, {"kind": "validation"}])))
    assert steps_per_second(tmp_path) == 2.0
    metrics.unlink()
    with pytest.raises(SgfluxError, match="says of no step how long it took"):
        steps_per_second(tmp_path)


def test_the_interval_of_three_seeds() -> None:
    found = interval([0.5, 0.6, 0.7])
    assert found is not None
    assert found["mean"] == pytest.approx(0.6)
    # t = 4.303 with two degrees of freedom, s = 0.1, sqrt(3).
    assert found["ci95"] == pytest.approx([0.6 - 0.24843, 0.6 + 0.24843], abs=1e-4)
    assert interval([0.5]) == {"mean": 0.5, "ci95": None, "values": [0.5]}
    alike = interval([0.0, 0.0, 0.0])
    assert alike == {"mean": 0.0, "ci95": None, "values": [0.0] * 3}, "no seed is certain"
    many = interval([float(value) for value in range(11)])
    assert many is not None
    # t = 2.228 with ten degrees of freedom, s = sqrt(11), eleven of them: not the normal 1.96.
    assert many["ci95"] == pytest.approx([5 - 2.22814, 5 + 2.22814], abs=1e-4)
    assert interval([]) is None


def test_the_committed_intervals_are_those_of_the_seeds() -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "results" / "ablation.json"
    rows = json.loads(path.read_text())["rows"]
    anew = [with_intervals(row) for row in rows]
    assert json.loads(json.dumps(anew)) == rows
    gain = next(row["gain"] for row in rows if row["recipe"] == "words")
    mean, deviation = statistics.fmean(gain["values"]), statistics.stdev(gain["values"])
    half = 4.30265 * deviation / 3**0.5
    assert gain["ci95"] == pytest.approx([mean - half, mean + half], abs=1e-5)
    page = (Path(__file__).parent.parent / "docs" / "ablation.md").read_text()
    tables = as_table(rows).splitlines()
    assert [line for line in tables if line.startswith("|") and line not in page] == []


def whole(accuracy: float, n: int) -> dict[str, Any]:
    return {"arms": {"graph": {"all_right": {"value": accuracy, "n": n}}}}


def evaluation(accuracy: float) -> dict[str, Any]:
    return {
        "arms": {"graph": {"relation_accuracy": {"macro": accuracy}}},
        "graph_kinds": {"1 statement": whole(accuracy, 3)},
        "win_rate": {"value": 0.5},
        "contradiction": None,
    }


def test_a_gain_is_taken_seed_by_seed() -> None:
    own = {0: figures_of(evaluation(0.5)), 1: figures_of(evaluation(0.7))}
    compared = {0: figures_of(evaluation(0.4)), 1: figures_of(evaluation(0.6))}
    found = summary(own, compared)
    assert found["seeds"] == 2
    assert found["gain"]["values"] == pytest.approx([0.1, 0.1])
    assert found["gain"]["ci95"] is None, "the seeds differ, the gains do not"
    assert found["figures"]["follows_graph"] is None
    assert set(found["figures"]) == {GAIN_OF, *KINDS, *FIGURES}


def test_whole_graphs_are_the_mean_of_the_kinds() -> None:
    kinds = {
        "1 statement": whole(1.0, 9),
        "2 statements": whole(0.5, 1),
        "2 statements, twins": whole(0.2, 3),
        "3 statements, twins": whole(0.6, 1),
        "3 statements, held-out shape": whole(0.0, 5),
    }
    found = figures_of({"graph_kinds": kinds})
    assert (found["one"], found["two"], found["three"]) == (1.0, 0.5, None)
    assert found["twins"] == pytest.approx(0.3)
    assert found[GAIN_OF] == pytest.approx((1.0 + 0.5 + 0.3) / 3)


def test_gains_of_all_sizes_are_taken_together() -> None:
    rows = [
        {
            **{
                "recipe": "a",
                "over": "b",
                "what": "b + w",
                "per_class": size,
                "budget": "examples",
            },
            **summary(
                {0: figures_of(evaluation(0.5 + gain)), 1: figures_of(evaluation(0.6 + gain))},
                {0: figures_of(evaluation(0.5)), 1: figures_of(evaluation(0.6))},
            ),
        }
        for size, gain in ((5, 0.1), (9, 0.2))
    ]
    # Twice 0.1 and twice 0.2: s = 0.1 / sqrt(3), t = 3.182 with three degrees of freedom.
    overview = as_table(rows).split("###")[1]
    assert "| **a** | w | b | +15.0 ± 9.2 | – | 65.0 ± 63.5 | 75.0 ± 63.5 |" in overview
    rows.append({**rows[0], "budget": "time"})
    overview = as_table(rows).split("###")[1]
    assert "| b | +15.0 ± 9.2 | +10.0 | 65.0 ± 63.5 |" in overview


def test_the_table_and_the_figure(tmp_path: Path) -> None:
    figures = {0: figures_of(evaluation(0.5)), 1: figures_of(evaluation(0.7))}
    head = {"what": "w", "over": None, "per_class": 5, "budget": "time"}
    rows = [
        {"recipe": "a", **head, **summary(figures, figures)},
        {"recipe": "b", **head, "failed": "it knows nothing"},
    ]
    table = as_table(rows)
    assert "### 5 pictures a predicate, equal time" in table
    both = "60.0 ± 127.1"
    assert f"| **a** | +0.0 | {both} | {both} | – | – | – | – | {both} | 50.0 | –" in table
    assert "| **b** | failed: it knows nothing |" in table
    for part in table.split("### ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1, "every line has all columns"
    draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    draw(rows[1:], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
