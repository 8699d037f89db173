"""Distances between sets of pictures, against their formulas, and under their right names.

If one of these failed, a figure called FID would be another quantity than the one that is cited, or
on other features. Untested here, for want of the libraries and their weights: Inception's features,
and LPIPS itself.
"""

from __future__ import annotations

import html
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation import evaluator, quality
from sgflux.evaluation.evaluator import EvalConfig
from sgflux.evaluation.quality import (
    Features,
    distances_without,
    frechet_distance,
    jackknife_interval,
    kernel_distance,
    load_features,
    load_lpips,
)
from sgflux.world.dataset import write_world
from tests.helpers.vision_language import save_clip

RNG = np.random.default_rng(0)


def test_frechet_distance_of_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4000, 3))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T))).T
    assert frechet_distance(base, base) == pytest.approx(0.0, abs=1e-9)
    # moved by (1, 2, 0): |m|^2 = 5; twice as wide along one axis: (2 - 1)^2 = 1
    moved = base + np.array([1.0, 2.0, 0.0])
    assert frechet_distance(moved, base) == pytest.approx(5.0)
    assert frechet_distance(moved * np.array([2.0, 1.0, 1.0]), base) == pytest.approx(8.0 + 1.0)
    # covariances that do not commute, against the matrix root of their product
    mix, other = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    one, two = base @ mix.T, base @ other.T
    roots = np.sqrt(np.linalg.eigvals(np.cov(one.T) @ np.cov(two.T)).astype(complex)).real.sum()
    expected = np.trace(np.cov(one.T)) + np.trace(np.cov(two.T)) - 2 * roots
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6)


def cubic_mmd(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased squared MMD of Bińkowski et al. 2018, with k(x, y) = (x.y / D + 1)^3."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(x) * (len(x) - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def test_the_kernel_distance_of_whole_sets_is_the_formula() -> None:
    one, two = RNG.normal(size=(30, 5)), RNG.normal(0.5, 1.0, size=(30, 5))
    found = kernel_distance(one, two)
    assert found["value"] == pytest.approx(cubic_mmd(one, two), rel=1e-9)
    assert (found["std"], found["subsets"], found["subset_size"]) == (None, 1, 30)


def test_subsets_are_the_same_ones_each_time_and_leave_the_global_generator_alone() -> None:
    one, two = RNG.normal(size=(20, 5)), RNG.normal(0.5, 1.0, size=(30, 5))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = kernel_distance(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert kernel_distance(one, two) == found
    assert (found["subsets"], found["subset_size"]) == (100, 20)
    assert found["std"] > 0
    assert found["value"] == pytest.approx(cubic_mmd(one, two), abs=5 * found["std"])


@pytest.mark.parametrize("size", [12, 60])
def test_what_is_left_out_is_left_out_of_both_distances(size: int) -> None:
    """Against the distances of the sets without it, with more and fewer pictures than features."""
    one, two = RNG.normal(size=(size, 16)), RNG.normal(0.5, 1.2, size=(size, 16))
    groups = np.arange(size) % 5
    frechet, kernel = distances_without(one, two, groups)
    for group in range(5):
        kept = groups != group
        assert kernel[group] == pytest.approx(cubic_mmd(one[kept], two[kept]), rel=1e-9)
        wanted = frechet_distance(one[kept], two[kept])
        assert frechet[group] == pytest.approx(wanted, rel=1e-6 if size > 16 else 0.02)


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_intervals_of_distances_hold_their_means(shift: float) -> None:
    """Sets of 60 pictures from the same noise: the mean of both distances over many such sets."""
    rng = np.random.default_rng(1)
    groups = np.arange(60) % 20
    found: dict[str, list[list[float]]] = {"frechet": [], "kernel": []}
    values: dict[str, list[float]] = {"frechet": [], "kernel": []}
    for _ in range(150):
        noise, *own = rng.normal(size=(3, 60, 6))
        one, two = (0.7 * noise + 0.7 * each for each in own)
        two += shift
        whole = {"frechet": quality._frechet(one, two), "kernel": cubic_mmd(one, two)}
        parts = distances_without(one, two, groups)
        for (name, value), without in zip(whole.items(), parts, strict=True):
            values[name].append(value)
            found[name].append(jackknife_interval(value, without))
    for name, intervals in found.items():
        mean = np.mean(values[name])
        held = np.mean([low <= mean <= high for low, high in intervals])
        assert held >= 0.89, name
        assert np.mean([high - low for low, high in intervals]) < 8 * np.std(values[name])


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("shape", [(1, 3), (5,)])
def test_a_distance_of_no_set_is_refused(distance: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, IndexError)):
        distance(np.zeros(shape), np.zeros((5, 3)))


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_features_are_those_of_a_vision_model_in_a_folder(kind: str, tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (3, 48, 48, 3), np.uint8)
    if kind == "clip":
        save_clip(tmp_path)
    else:
        config = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
        )
        transformers.Dinov2Model(config).save_pretrained(tmp_path)
        size = {"height": 32, "width": 32}
        transformers.BitImageProcessorPil(size=size, do_center_crop=False).save_pretrained(tmp_path)
    features = load_features(str(tmp_path), "cpu")
    assert features.distances == (
        f"Fréchet distance on features of {tmp_path}",
        f"kernel distance on features of {tmp_path}",
    ), "it is no FID"
    assert len(features.sha256 or "") == 64
    found = features.of(pictures)
    assert found.shape == (3, 16)
    assert np.abs(found[0] - found[1]).max() > 1e-6


def evaluated(tmp_path: Path, *words: str) -> dict[str, Any]:
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    data, out = str(tmp_path / "data" / "test.jsonl"), tmp_path / "out"
    given = ["--data", data, "--output-dir", str(out), "--generator", "oracle", "--items", "6"]
    assert main(["eval", *given, *words]) == 0
    found: dict[str, Any] = json.loads((out / "evaluation_results.json").read_text())
    return found


def test_an_evaluation_compares_every_arm_with_the_base_on_named_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--arms", "base_neutral", "graph", "negative_graph"]
    results = evaluated(tmp_path, *arms, "--quality-features", "world")
    found, name = results["quality"], "the world judge's features"
    assert results["quality_features"]["name"] == name
    frechet, kernel = f"Fréchet distance on {name}", f"kernel distance on {name}"
    assert list(found) == [frechet, kernel]
    assert list(found[frechet]) == ["graph", "negative_graph"]
    assert found[frechet]["graph"]["n"] == found[kernel]["graph"]["n"] == 6
    assert found[frechet]["graph"]["value"] > 0
    for by_arm in found.values():
        for own in by_arm.values():
            assert own["clusters"] == 6
            assert own["ci95"][0] < own["value"] < own["ci95"][1]
        assert "graph_minus_this" not in by_arm["graph"]
        between = by_arm["negative_graph"]["graph_minus_this"]
        gap = by_arm["graph"]["value"] - by_arm["negative_graph"]["value"]
        assert between["value"] == pytest.approx(gap)
        assert between["ci95"][0] < gap < between["ci95"][1]
    assert f"quality: {frechet}, to the pictures of base_neutral: graph" in capsys.readouterr().out
    page = html.unescape((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert f"{frechet}: " in page
    assert "from the base's pictures to those with the graph (0 if nothing changes; n = 6)" in page


def test_only_inceptions_features_make_a_fid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inception(source: str, device: str) -> Features:
        return Features(source, None, lambda images: images.mean((1, 2)), is_inception=True)

    monkeypatch.setattr(evaluator, "load_features", inception)
    arms = ["--arms", "base_neutral", "graph"]
    found = evaluated(tmp_path, *arms, "--quality-features", "inception")["quality"]
    assert set(found) == {"FID", "KID"}


def test_lpips_stands_beside_the_pixel_distance_under_its_backbones_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluator, "load_lpips", lambda net, device: lambda one, other: float((one != other).any())
    )
    found = evaluated(tmp_path, "--arms", "graph", "negative_graph", "--lpips", "alex")
    sensitivity = found["graph_sensitivity"]
    assert set(sensitivity) == {"pixel_distance", "lpips_alex"}
    assert sensitivity["lpips_alex"]["graph_to_negative_graph"]["value"] == 1.0
    assert 0 < sensitivity["pixel_distance"]["graph_to_negative_graph"]["value"] < 1
    assert found["quality"] is None


@pytest.mark.parametrize(
    ("setting", "value", "arm"),
    [("quality_features", "world", "base_neutral"), ("lpips", "vgg", "graph")],
)
def test_a_distance_without_two_arms_is_refused(setting: str, value: str, arm: str) -> None:
    for arms in [(arm,), tuple({"base_neutral", "graph", "null_graph"} - {arm})]:
        with pytest.raises(SgfluxError, match=f"{setting} has no effect without the arm '{arm}'"):
            EvalConfig.from_flat(data=Path("x"), arms=arms, **{setting: value})


def test_a_missing_library_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch_fidelity") is None:
        with pytest.raises(SgfluxError, match=r"'inception' needs torch-fidelity.*perceptual"):
            load_features("inception", "cpu")
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(SgfluxError, match=r"lpips needs torchvision.*'\.\[perceptual\]'"):
            load_lpips("alex", "cpu")
    monkeypatch.setitem(sys.modules, "torchmetrics.image", None)
    for load in (lambda: load_features("world", "cpu"), lambda: load_lpips("alex", "cpu")):
        with pytest.raises(SgfluxError, match=r"needs torchmetrics: .*'\.\[quality\]'"):
            load()
