"""Generators and judges that cheat or are broken, each recognised by the figures of an evaluation.

If one of these failed, an adapter that does not read its graph, or a judge that does not look at
the pictures, would pass for a good one. The oracle, the blind generator and the one that swaps
roles are tested in ``test_evaluator.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.data.images import load_image
from sgflux.data.pictures import read_picture
from sgflux.evaluation.arms import Arm, PictureRequest
from sgflux.evaluation.correction import ErrorRates
from sgflux.evaluation.drawing import pixels_digest
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.judges.judge import Images, JudgeIdentity, Outcome, Reading, Verdict
from sgflux.evaluation.metrics import Estimate
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.dataset import write_world
from sgflux.world.scenes import PREDICATES, render_relationships
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder

ARMS = tuple(arm.value for arm in Arm if arm is not Arm.SHUFFLED_GRAPH)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    write_world(folder, train_per_class=0, val_per_class=0, test_per_class=2, triples="1")
    return folder / "test.jsonl"


def run(data: Path, out_dir: Path, *, parts: dict[str, Any], **settings: Any) -> dict[str, Any]:
    config = EvalConfig.from_flat(
        data=data, output_dir=out_dir, **{"arms": ARMS, "generator": "oracle", **settings}
    )
    return evaluate(config, show_progress=False, say=lambda line: None, **parts)


def accuracies(results: dict[str, Any]) -> dict[str, float]:
    return {name: arm["relation_accuracy"]["macro"] for name, arm in results["arms"].items()}


def assert_no_arm_differs(results: dict[str, Any], *arms: str) -> None:
    for arm in arms or results["comparisons"]:
        entry = results["comparisons"][arm]
        assert (entry["difference"], entry["n_discordant"], entry["p_holm"]) == (0.0, 0, 1.0), arm


# --- generators ---------------------------------------------------------------------------------


class Rule:
    """Draws what a rule makes of a request, or the objects in a random relation."""

    def __init__(
        self,
        stated: Callable[[PictureRequest], SceneGraph | None],
        *,
        seed: Callable[[PictureRequest], Any] = lambda request: request.seed,
    ) -> None:
        self.name = "rule"
        self._stated, self._seed = stated, seed

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        return np.stack([self._picture(request) for request in requests])

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {"generator": self.name, "arm": str(request.arm), "seed": request.seed}

    def _picture(self, request: PictureRequest) -> np.ndarray:
        rng = np.random.default_rng(self._seed(request))
        graph = self._stated(request)
        if graph is None or graph.is_null:
            predicate = PREDICATES[int(rng.integers(len(PREDICATES)))]
            graph = SceneGraph(request.item.graph.objects, ((0, predicate, 1),))
        triples = [(t.subject, t.predicate, t.object) for t in graph.triples()]
        return render_relationships(rng, triples, resolution=64).image


def test_who_follows_the_text_where_it_states_anything(data: Path, tmp_path: Path) -> None:
    """It obeys its graph perfectly as long as nobody contradicts it in words."""
    rule = Rule(lambda request: request.graph if request.text.is_null else request.text)
    results = run(data, tmp_path, parts={"generator": rule})
    assert accuracies(results)["graph"] >= 0.85
    assert results["win_rate"]["value"] >= 0.95
    assert results["contradiction"]["follows_text"]["value"] >= 0.85
    assert results["contradiction"]["follows_graph"]["value"] <= 0.1
    against = results["comparisons"]["contradiction"]
    assert against["ci95"][0] > 0.5
    assert against["p_holm"] < 1e-6


def test_who_knows_the_test_items_by_their_seeds(data: Path, tmp_path: Path) -> None:
    """It draws the right relation whatever it is told: the graph brings nothing."""
    results = run(data, tmp_path, parts={"generator": Rule(lambda request: request.item.graph)})
    assert min(accuracies(results).values()) >= 0.85, "also where no arm states a relation"
    assert_no_arm_differs(results)
    assert results["win_rate"]["value"] == 0.5
    assert results["arms"]["negative_graph"]["given_graph_accuracy"]["macro"] <= 0.1
    moved = results["graph_sensitivity"]["pixel_distance"]
    assert {one["value"] for one in moved.values()} == {0.0}


def test_who_draws_each_arm_from_other_noise(data: Path, tmp_path: Path) -> None:
    """Its pictures move with the graph, as those of an adapter do, but not towards the graph."""
    rule = Rule(
        lambda request: None, seed=lambda request: [request.seed, list(Arm).index(request.arm)]
    )
    results = run(data, tmp_path, parts={"generator": rule})
    assert results["graph_sensitivity"]["pixel_distance"]["graph_to_null_graph"]["value"] > 0.05
    low, high = results["win_rate"]["ci95"]
    assert low <= 0.5 <= high
    assert max(accuracies(results).values()) <= 0.15
    for entry in results["comparisons"].values():
        assert entry["p_holm"] > 0.05
        assert entry["ci95"][0] <= 0 <= entry["ci95"][1]


def test_weights_that_were_not_loaded(data: Path, tmp_path: Path) -> None:
    """The adapter's folder is there, and what is in it has no effect: it draws as the base does."""
    flux = make_flux_folder(tmp_path / "flux")
    found = {}
    for name, strength in (("trained", 0.5), ("unloaded", 0.0)):
        found[name] = run(
            data,
            tmp_path / f"{name}-out",
            parts={},
            generator="model",
            adapter=write_adapter(tmp_path / name, flux, strength=strength),
            model_id=str(flux),
            items=6,
            steps=1,
            ranking_sigmas=1,
            device="cpu",
        )
    results = found["unloaded"]
    assert_no_arm_differs(results, "base_neutral", "null_graph", "negative_graph")
    moved = results["graph_sensitivity"]["pixel_distance"]
    assert {one["value"] for one in moved.values()} == {0.0}
    assert results["win_rate"]["value"] == 0.5
    assert results["ranking_accuracy"]["value"] == 0.5
    moved = found["trained"]["graph_sensitivity"]["pixel_distance"]
    assert min(one["value"] for one in moved.values()) > 0
    fingerprints = {one["adapter"]["fingerprint"] for one in found.values()}
    assert len(fingerprints) == 2, "the results say which weights drew"


# --- judges -------------------------------------------------------------------------------------


class Answers:
    """A judge that gives the answers of a function of the picture and the statement."""

    identity = JudgeIdentity("answers")

    def __init__(self, holds: Callable[[np.ndarray, Triple], bool]) -> None:
        self._holds = holds

    def covers(self, predicate: str) -> bool:
        return True

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Refuse none."""

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        assert all(type(image) is np.ndarray for image in images), "pixels alone, without a name"
        verdicts = {True: Verdict(Outcome.HOLDS), False: Verdict(Outcome.CONTRADICTED)}
        return [
            Reading({triple: verdicts[self._holds(image, triple)] for triple in own})
            for image, own in zip(images, statements, strict=True)
        ]


def test_a_judge_that_always_says_yes(data: Path, tmp_path: Path) -> None:
    """Every arm obeys, and so does every false statement."""
    results = run(data, tmp_path, parts={"judge": Answers(lambda image, triple: True)})
    assert results["judge"]["accuracy"] == 1.0
    assert set(accuracies(results).values()) == {1.0}
    accepted = results["judge"]["false_acceptance"]
    assert {entry["value"] for entry in accepted.values() if entry["n"]} == {1.0}
    assert_no_arm_differs(results)
    assert results["win_rate"]["value"] == 0.5
    both = results["contradiction"]
    assert both["follows_graph"]["value"] == both["follows_text"]["value"] == 1.0
    sensitivity, false_positives = (
        Estimate(entry[key], tuple(entry["ci95"]), n=entry["n"], clusters=entry["n"])
        for entry, key in ((results["judge"], "accuracy"), (accepted["reversed"], "value"))
    )
    assert ErrorRates(sensitivity, false_positives).least_gain < 0, "nothing can be corrected"


def test_a_judge_that_reads_the_names_of_real_pictures(data: Path, tmp_path: Path) -> None:
    """It finds a picture on the disk by its pixels and accepts what its name speaks of."""
    folder = tmp_path / "named"
    folder.mkdir()
    names, rows = {}, []
    for number, line in enumerate(data.read_text().splitlines()):
        row = json.loads(line)
        words = [row["triple"][key] for key in ("subject", "predicate", "object")]
        name = f"{number}_{'_'.join(words).replace('/', ' or ')}.png"
        shutil.copy(data.parent / row["meta"]["image_rel_path"], folder / name)
        names[pixels_digest(np.asarray(load_image(folder / name)))] = name
        row["meta"]["image_rel_path"] = name
        rows.append(json.dumps(row) + "\n")
    (folder / "test.jsonl").write_text("".join(rows))

    def in_the_name(image: np.ndarray, triple: Triple) -> bool:
        name = names.get(pixels_digest(image), "")
        said = (triple.subject, triple.predicate.replace("/", " or "), triple.object)
        return bool(name) and all(word in name for word in said)

    judge = Answers(in_the_name)
    results = run(folder / "test.jsonl", tmp_path / "out", parts={"judge": judge})
    assert results["judge"]["accuracy"] == 1.0, "it looks perfect on what is true"
    assert results["judge"]["false_acceptance"]["reversed"]["value"] == 1.0
    assert set(accuracies(results).values()) == {0.0}, "drawn pictures have no telling names"
    assert results["win_rate"]["value"] == 0.5


def test_a_judge_that_reads_the_names_of_drawn_pictures(data: Path, tmp_path: Path) -> None:
    """It accepts whatever lies in the folder of the arm ``graph``, though nobody drew a graph."""
    out = tmp_path / "out"
    blind = Rule(
        lambda request: None, seed=lambda request: [request.seed, list(Arm).index(request.arm)]
    )
    named: set[str] = set()

    def lies_there(image: np.ndarray, triple: Triple) -> bool:
        if not named and (out / "pictures" / "graph").is_dir():
            paths = (out / "pictures" / "graph").iterdir()
            named.update(pixels_digest(read_picture(path)[0]) for path in paths)
        return pixels_digest(image) in named

    results = run(data, out, parts={"generator": blind, "judge": Answers(lies_there)})
    assert accuracies(results)["graph"] == 1.0
    assert results["comparisons"]["null_graph"]["difference"] == 1.0, "it looks perfect"
    assert results["judge"]["accuracy"] == 0.0, "real pictures lie elsewhere"
    assert results["win_rate"]["value"] == 0.5, "it does not tell two statements apart"
    assert results["contradiction"]["follows_graph"]["value"] == 0.0
