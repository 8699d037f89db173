"""The parts of the ablation that train nothing: its plan, its estimate, its report.

If one of these failed, the ablation would train other recipes than its plan says, or its report
would state other figures than its rows.
"""

from __future__ import annotations

import json
import statistics
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ablation import Ablation
from ablation_locks import claimed, waiting_for
from ablation_plan import (
    QUICK,
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
from sgflux.world.dataset import write_world
from sgflux.world.demo import DEMO, FULL


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_can_be_trained(recipe: Recipe, tmp_path: Path) -> None:
    ablation = Ablation(tmp_path, QUICK, device="cpu", names=[recipe.name])
    unit = Unit(recipe, 2, 0, "examples")
    config = ablation.training_config(unit, tmp_path / "training", 4)
    length = config.optimizer
    assert (length.max_steps, length.batch_size, length.lr) == (4, 4, DEMO.training["lr"])
    assert config.losses.ranking.measures_confusion == recipe.measures_confusion
    made = ("classifier", "hard_negatives_every")  # what a recipe cannot know beforehand
    ranking = config.losses.ranking
    own = {name: getattr(ranking, name) for name in made if getattr(ranking, name)}
    assert config.losses == LossSettings.from_flat(**{"lambda_words": 0, **own, **recipe.losses})


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
    assert len(set(names)) == len(names)
    assert {recipe.over for recipe in RECIPES} <= {None, *names}
    assert [recipe.name for recipe in RECIPES if recipe.over is None] == ["published"]


def test_a_recipe_as_fast_as_plain_is_not_trained_twice() -> None:
    fast, slow = Recipe("fast", ""), Recipe("slow", "", cost=2.0)
    units = planned_units([fast, slow], Scale(sizes=(5, 9), seeds=2))
    examples = [f"{name}-examples-{size}" for size in (5, 9) for name in ("fast", "slow")]
    assert [unit.name for unit in units] == [
        *(f"{name}-seed{seed}" for seed in (0, 1) for name in examples),
        "slow-time-9-seed0",
        "slow-time-9-seed1",
    ]


def test_equal_time_is_reported_of_what_had_it(tmp_path: Path) -> None:
    """Those trained so, and the one whose time it is; never a training of equal steps."""
    ablation = Ablation(tmp_path, QUICK, device="cpu", names=["flow", "words"])
    for unit in ablation.units:
        if (unit.recipe.name, unit.budget) == ("flow", "time"):
            continue  # not trained yet
        path = tmp_path / "runs" / unit.name / "evaluation" / "evaluation_results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(evaluation(0.9 if unit.budget == "time" else 0.5)))
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


def test_the_default_is_a_night_on_two_cores() -> None:
    """By the speed of two quiet cores; a larger default would not be run."""
    speed = Speed(step=0.3, picture=0.08, evaluation=10.0)
    scale = Scale()
    hours = sum(speed.seconds(unit, scale) for unit in planned_units(RECIPES, scale)) / 3600
    assert scale.seeds >= 3
    assert 5 < hours < 14


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


@pytest.mark.parametrize("name", ["ablation", "ablation_order"])
def test_the_committed_intervals_are_those_of_the_seeds(name: str) -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "results" / f"{name}.json"
    rows = json.loads(path.read_text())["rows"]
    anew = [with_intervals(row) for row in rows]
    assert json.loads(json.dumps(anew)) == rows
    gain = next(row["gain"] for row in rows if row["recipe"] == "words")
    mean, deviation = statistics.fmean(gain["values"]), statistics.stdev(gain["values"])
    half = 4.30265 * deviation / 3**0.5
    assert gain["ci95"] == pytest.approx([mean - half, mean + half], abs=1e-5)
    page = (Path(__file__).parent.parent / "docs" / "ablation.md").read_text()
    if name == "ablation":
        tables = as_table(rows).splitlines()
        assert [line for line in tables if line.startswith("|") and line not in page] == []


def evaluation(accuracy: float) -> dict[str, Any]:
    return {
        "arms": {"graph": {"relation_accuracy": {"macro": accuracy}}},
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
    assert set(found["figures"]) == set(FIGURES)


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
    assert "| **a** | +0.0 | 60.0 ± 127.1 | 50.0 | –" in table
    assert "| **b** | failed: it knows nothing |" in table
    for part in table.split("### ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1, "every line has all columns"
    draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    draw(rows[1:], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
