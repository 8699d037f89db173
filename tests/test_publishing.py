"""The folder that is published: its card, its figures, and the pipeline that diffusers loads.

If one of these failed, a published adapter would state figures of another one, or its pipeline
would not load in diffusers.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from safetensors import safe_open

from sgflux.bases.name import BaseName
from sgflux.cli import main
from sgflux.data.seen_rows import SEEN_FILE
from sgflux.errors import SgfluxError
from sgflux.models.bundle import (
    load_bundle,
    lora_of,
    recommend_drawing,
    save_bundle,
    store_in_half,
)
from sgflux.models.bundle_folder import find_bundle
from sgflux.models.card_data import card_data
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.loading import adapter_fingerprint
from sgflux.settings.drawing import RecommendedDrawing
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder

GRAPH = "man, riding, horse"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "model")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = write_adapter(tmp_path_factory.mktemp("adapter") / "final", base)
    data = card_data(BaseName.of("black-forest-labs/FLUX.1-schnell"))
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n# Adapter\n")
    return folder


def figures(folder: Path, **changes: Any) -> dict[str, Any]:
    accuracy = {"macro": 0.943, "ci95": [0.899, 0.979], "n": 144}
    return {
        "judge": {"name": "world", "accuracy": 0.999, "ci95": [0.996, 1.0]},
        "arms": {
            "graph": {"relation_accuracy": accuracy},
            "base_neutral": {"relation_accuracy": {"macro": 0.018, "ci95": [0.0, 0.042], "n": 144}},
            "null_graph": {"relation_accuracy": {"macro": None, "ci95": None, "n": 0}},
        },
        "win_rate": {"value": 0.989, "ci95": [0.973, 1.0], "n": 92},
        "data": {"path": "runs/demo/data/test.jsonl"},
        "adapter": {"fingerprint": adapter_fingerprint(*load_bundle(folder))},
        **changes,
    }


def publish(adapter: Path, folder: Path, *flags: str) -> int:
    return main(["export", "--adapter", str(adapter), "--output-dir", str(folder), *flags])


def test_the_card_has_what_the_hub_shows(adapter: Path, tmp_path: Path) -> None:
    results = tmp_path / "evaluation" / "evaluation_results.json"
    results.parent.mkdir()
    results.write_text(json.dumps(figures(adapter)))
    out = tmp_path / "published"
    assert publish(adapter, out, "--evaluation", str(results.parent)) == 0
    card = ModelCard.load(out / "README.md")
    data = card.data.to_dict()
    assert (data["license"], data["pipeline_tag"]) == ("apache-2.0", "text-to-image")
    assert data["base_model"] == "black-forest-labs/FLUX.1-schnell"
    assert data["base_model_relation"] == "adapter"
    assert "scene-graph" in data["tags"]
    first = card.data.eval_results[0]
    assert first.metric_name == "Relation accuracy, true graph"
    assert first.metric_value == 94.3
    assert first.metric_args["ci95"] == [89.9, 97.9]
    assert first.metric_args["judge_accuracy"] == 0.999
    assert [one.metric_value for one in card.data.eval_results] == [94.3, 1.8, 98.9]
    assert "| true graph | 94.3 % (89.9 to 97.9) | 144 |" in card.text
    assert "in 99.9 % (99.6 to 100.0) of real held-out pictures" in card.text
    assert "98.9 % (97.3 to 100.0) of 92 pairs" in card.text
    assert "adapter without a graph" not in card.text
    assert publish(adapter, out, "--license", "cc-by-nc-4.0") == 0
    data = ModelCard.load(out / "README.md").data.to_dict()
    assert data["license"] == "cc-by-nc-4.0"
    assert "model-index" not in data
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evaluation", "published"]
    older = tmp_path / "older"
    shutil.copytree(adapter, older)
    (older / "README.md").write_text("---\nlibrary_name: sgflux\ntags: [mine]\n---\n# Old\n")
    assert publish(older, out) == 0
    data = ModelCard.load(out / "README.md").data.to_dict()
    assert (data["pipeline_tag"], data["tags"]) == ("text-to-image", ["mine"])


def recommending(adapter: Path, folder: Path, **drawing: Any) -> Path:
    shutil.copytree(adapter, folder)
    recommend_drawing(folder, RecommendedDrawing(**drawing))
    return folder


def diffusers_section(folder: Path) -> str:
    return ModelCard.load(folder / "README.md").text.partition("## In diffusers")[2]


def test_the_card_draws_in_diffusers_as_the_adapter_recommends(
    adapter: Path, tmp_path: Path
) -> None:
    """A number of steps in the card's example would override the recommended one."""
    eight = recommending(adapter, tmp_path / "eight", steps=8, stochastic_sampling=True)
    out = tmp_path / "out"
    assert publish(eight, out) == 0
    said = diffusers_section(out)
    assert 'pipe(graph="man, riding, horse").images' in said
    assert "recommends 8 steps, stochastic sampling, and is drawn so where" in said
    # Flags of the export count, beside what the adapter recommends and stays.
    assert publish(eight, out, "--default-steps", "6", "--default-graph-scale", "1.5") == 0
    said = diffusers_section(out)
    assert "recommends 6 steps, graph scale 1.5, stochastic sampling, and" in said
    assert publish(adapter, out, "--default-steps", "6") == 0
    assert 'pipe(graph="man, riding, horse").images' in diffusers_section(out)
    # Without recommended steps, the card gives them.
    assert publish(adapter, out, "--default-stochastic-sampling", "True") == 0
    said = diffusers_section(out)
    assert 'pipe(graph="man, riding, horse", num_inference_steps=4).images' in said
    assert "recommends stochastic sampling, and" in said
    assert publish(adapter, out) == 0
    assert "recommends" not in diffusers_section(out)
    assert "num_inference_steps=" not in (out / "pipeline.py").read_text().partition('"""')[2][:600]


def test_the_card_says_how_its_judged_pictures_were_drawn(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else its figures could not be repeated, and would be taken for those of another drawing."""
    eight = recommending(adapter, tmp_path / "eight", steps=8, stochastic_sampling=True)
    drawing = {"steps": 8, "graph_scale": 1.0, "stochastic_sampling": True}
    settings = {**drawing, "height": 64, "width": 96, "guidance": None, "seed": 3}
    results, out = tmp_path / "results.json", tmp_path / "out"
    results.write_text(json.dumps(figures(eight, settings=settings)))
    assert publish(eight, out, "--evaluation", str(results)) == 0
    card = ModelCard.load(out / "README.md")
    how = "8 steps, graph scale 1, stochastic sampling"
    assert f"drawn for test.jsonl ({how}, 96 x 64 pixels, seed 3) it found" in card.text
    assert card.data.eval_results[0].metric_args["drawing"] == drawing
    assert "otherwise" not in card.text + capsys.readouterr().out
    # Another default is named, also where the figures are those of a card that is there already.
    for source, flags in ((eight, ["--evaluation", str(results)]), (out, [])):
        other = tmp_path / f"other-{len(flags)}"
        assert publish(source, other, *flags, "--default-steps", "4") == 0
        said = f"drawn otherwise: {how}."
        assert said in ModelCard.load(other / "README.md").text
        assert f"than the published adapter is by default: {how}\n" in capsys.readouterr().out
        assert publish(other, tmp_path / "back", "--default-steps", "8") == 0
        assert "otherwise" not in ModelCard.load(tmp_path / "back" / "README.md").text
        capsys.readouterr()
    # Nothing recommended is 4 steps at scale 1 without stochastic sampling.
    for steps, is_other in ((4, False), (5, True)):
        own = {"steps": steps, "graph_scale": 1.0, "stochastic_sampling": False}
        results.write_text(json.dumps(figures(adapter, settings=own)))
        assert publish(adapter, tmp_path / "plain", "--evaluation", str(results)) == 0
        assert ("otherwise" in ModelCard.load(tmp_path / "plain" / "README.md").text) == is_other
    results.write_text(json.dumps(figures(adapter, settings=[1])))
    assert publish(adapter, out, "--evaluation", str(results)) == 2
    assert "is no result of sgflux eval" in capsys.readouterr().err


def test_figures_of_something_else_are_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "results.json", tmp_path.with_name("published")
    for content, message in (
        (
            figures(adapter, adapter={"fingerprint": "0" * 64}),
            "is of another adapter (0000",
        ),
        (figures(adapter, arms={}), "nobody judged its pictures"),
        ({"judge": {}}, "is no result of sgflux eval"),
        ([1], "must hold one JSON object, has list"),
    ):
        file.write_text(json.dumps(content))
        assert publish(adapter, out, "--evaluation", str(file)) == 2
        assert message in capsys.readouterr().err
    assert publish(adapter, out, "--evaluation", str(tmp_path / "none.json")) == 2
    assert "none.json: cannot be read: No such file" in capsys.readouterr().err
    assert not out.exists()
    assert publish(adapter, adapter) == 2
    assert "is the adapter itself" in capsys.readouterr().err
    shutil.copytree(tmp_path, tmp_path.with_name("other"))
    assert publish(adapter, tmp_path.with_name("other")) == 2
    assert "is no adapter bundle; choose another" in capsys.readouterr().err
    assert main(["export", "--adapter", str(adapter), "--license", "mit"]) == 2
    assert "nothing to export" in capsys.readouterr().err


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, adapter: Path) -> Path:
    folder = tmp_path_factory.mktemp("published") / "riding"
    assert publish(adapter, folder) == 0
    return folder


def test_diffusers_draws_graphs_with_the_published_folder(
    base: Path, adapter: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers as sgflux' own pipeline on the same noise."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path))
    pipe = DiffusionPipeline.from_pretrained(
        base,
        custom_pipeline=str(published),
        adapter=str(published),
        trust_remote_code=True,
    )
    assert type(pipe).__name__ == "SceneGraphPipeline"
    ours = SceneGraphFluxPipeline.from_pretrained(base, adapter=adapter)
    settings = {"num_inference_steps": 2, "height": 32, "width": 32, "output_type": "np"}
    for graph, prompt in ((GRAPH, None), (GRAPH, "a photo"), (None, "a photo")):
        drawn = pipe(prompt, graph=graph, seed=3, **settings).images
        expected = ours(graph, prompt, seed=3, **settings).images
        np.testing.assert_array_equal(drawn, expected)
    generator = torch.Generator().manual_seed(4)
    assert pipe(graph=GRAPH, generator=generator, **{**settings, "output_type": "pil"}).images[0]
    with pytest.raises(ValueError, match="name the adapter"):
        DiffusionPipeline.from_pretrained(
            base, custom_pipeline=str(published), trust_remote_code=True
        )


def test_the_repository_is_known_to_the_pipeline_that_is_published_there(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def upload(folder: Path, repo_id: str, *, private: bool) -> str:
        seen[repo_id] = (Path(folder) / "pipeline.py").read_text(encoding="utf-8")
        seen["card"] = (Path(folder) / "README.md").read_text(encoding="utf-8")
        return "address"

    monkeypatch.setattr("sgflux.publishing.push_to_hub", upload)
    assert main(["export", "--adapter", str(adapter), "--push-to-hub", "me/riding"]) == 0
    assert "ADAPTER: str | None = 'me/riding'" in seen["me/riding"]
    assert "custom_pipeline='me/riding'" in seen["card"]


def test_a_card_names_another_base_and_seen_test_data(adapter: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "results.json", tmp_path / "published"
    check = {"status": "other", "text": "another base than the adapter was trained on: vae differs"}
    seen = {"text": "24 of its pictures are of the training data", "training": {"pictures": 24}}
    data = {"path": "test.jsonl", "overlap": {"checked": True, **seen}}
    file.write_text(json.dumps(figures(adapter, model={"base_check": check}, data=data)))
    assert publish(adapter, out, "--evaluation", str(file)) == 0
    card = ModelCard.load(out / "README.md")
    assert "Another base than the adapter was trained on: vae differs." in card.text
    assert "24 of its pictures are of the training data" in card.text
    assert len(card.data.eval_results[0].metric_args["caveats"]) == 2
    file.write_text(json.dumps(figures(adapter, model={"base_check": {"status": "same"}})))
    assert publish(adapter, out, "--evaluation", str(file)) == 0
    card = ModelCard.load(out / "README.md")
    assert "caveats" not in card.data.eval_results[0].metric_args


def test_what_an_adapter_was_trained_on_is_published_with_it(adapter: Path, tmp_path: Path) -> None:
    config, state = load_bundle(adapter)
    card, files = (adapter / "README.md").read_text(), {SEEN_FILE: b"digests"}
    save_bundle(tmp_path / "final", config=config, state=state, card=card, metrics={}, files=files)
    assert publish(tmp_path / "final", tmp_path / "published") == 0
    assert (tmp_path / "published" / SEEN_FILE).read_bytes() == b"digests"
    load_bundle(tmp_path / "published")


def test_half_of_the_size_has_the_rounded_weights(
    adapter: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "half"
    assert publish(adapter, out, "--half") == 0
    (config, whole), (own, half) = load_bundle(adapter), load_bundle(out)
    assert own.to_json() == config.to_json()
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert all(torch.equal(half[name], value.half().float()) for name, value in whole.items())
    assert any(not torch.equal(half[name], value) for name, value in whole.items())
    for file in adapter.glob("*graph*.safetensors"):
        assert (out / file.name).stat().st_size < 0.7 * file.stat().st_size
    picture = SceneGraphFluxPipeline.from_pretrained(str(base), adapter=out)(
        graph=GRAPH, num_inference_steps=1, seed=0
    )
    assert picture.images
    assert publish(adapter, tmp_path / "other", "--half", "--evaluation", str(tmp_path)) == 2
    assert "evaluate that folder" in capsys.readouterr().err


def test_a_lower_rank_keeps_the_nearest_change_of_every_layer(
    adapter: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published adapter and the exported file hold the same LoRA, also in float16."""
    config, whole = load_bundle(adapter)
    assert config.lora_rank > 2
    out, file = tmp_path / "low", tmp_path / "low.safetensors"
    lora = ("--lora-rank", "2", "--format", "kohya", "--output", str(file))
    assert publish(adapter, out, *lora) == 0
    own, low = load_bundle(out)
    assert own.to_json() == config.to_json() | {"lora_rank": 2, "lora_alpha": 2.0}
    (before, after) = (lora_of(config, whole), lora_of(own, low))
    exported = config.family.read_lora(file)
    kept = []
    for module in before.modules:
        old, new, other = (
            lora.alphas[module]
            / lora.ranks[module]
            * (lora.weights[f"{module}.lora_B.weight"] @ lora.weights[f"{module}.lora_A.weight"])
            for lora in (before, after, exported)
        )
        torch.testing.assert_close(new, other)
        u, values, v = torch.linalg.svd(old.double())
        expected = u[:, :2] @ values[:2].diag() @ v[:2]
        torch.testing.assert_close(new.double(), expected, rtol=1e-4, atol=1e-6)
        kept.append(float(values[:2].square().sum() / values.square().sum()))
    mean, least = 100 * sum(kept) / len(kept), 100 * min(kept)
    said = f"keeps {mean:.1f} % of a layer's squared change on average, and {least:.1f} % at worst"
    assert min(kept) < 0.999, "else nothing was lost"
    assert said in capsys.readouterr().out
    assert said in (out / "README.md").read_text()
    for name, value in whole.items():
        assert name.startswith("lora.") or torch.equal(low[name], value)
    assert publish(adapter, tmp_path / "half", "--half", "--lora-rank", "2") == 0
    _, half = load_bundle(tmp_path / "half")
    assert all(torch.equal(half[name], value.half().float()) for name, value in low.items())
    assert publish(tmp_path / "half", tmp_path / "again", "--lora-rank", "1") == 0
    with safe_open(tmp_path / "again" / "pytorch_lora_weights.safetensors", "pt") as weights:
        name = next(iter(weights.keys()))
        assert weights.get_tensor(name).dtype == torch.float16
    load_bundle(tmp_path / "again")
    assert publish(out, tmp_path / "more", "--lora-rank", "2") == 2
    assert "has rank 2; give less" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
    assert publish(adapter, tmp_path / "o", "--lora-rank", "1", "--evaluation", str(tmp_path)) == 2
    assert "figures of the weights before lora_rank; export with" in capsys.readouterr().err
    both = ("--half", "--lora-rank", "1", "--evaluation", str(tmp_path))
    assert publish(adapter, tmp_path / "o", *both) == 2
    assert "export with half and lora_rank and without eval" in capsys.readouterr().err


def test_the_card_of_a_reduced_lora_has_its_rank_in_the_table_and_says_so_below(
    adapter: Path, tmp_path: Path
) -> None:
    """With the bundled adapter's card, which is made of the template."""
    whole = Path(shutil.copytree(adapter, tmp_path / "whole"))
    bundled = find_bundle("tiny", allow_download=False)
    shutil.copy(bundled / "README.md", whole / "README.md")
    assert publish(whole, tmp_path / "low", "--lora-rank", "2") == 0
    assert publish(tmp_path / "low", tmp_path / "lower", "--lora-rank", "1") == 0
    low, lower = (ModelCard.load(tmp_path / name / "README.md").text for name in ("low", "lower"))
    assert "\n| LoRA | rank 2, alpha 2, targets " in low
    assert "\n| LoRA | rank 1, alpha 1, targets " in lower
    (row,) = re.findall(r"\| weights \|.*", (bundled / "README.md").read_text())
    first, second = "from rank 4 to rank 2 after", "from rank 2 to rank 1 after"
    for text, said in ((low, [first]), (lower, [first, second])):
        assert text.count("| LoRA |") == 1
        assert row in text
        places = [text.index(place) for place in (row, *said, "those of before that", "\n## ")]
        assert places == sorted(places)
        assert text.count("Its LoRA was reduced") == len(said)
        assert text.count("those of before that") == 1


def test_figures_of_other_weights_are_left_out(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, judged = tmp_path / "results.json", tmp_path / "judged"
    file.write_text(json.dumps(figures(adapter)))
    assert publish(adapter, judged, "--evaluation", str(file)) == 0
    capsys.readouterr()
    for name, flags in (("half", ["--half"]), ("low", ["--lora-rank", "2"])):
        assert publish(judged, tmp_path / name, *flags) == 0
        assert "judged figures of the model card are left out" in capsys.readouterr().out
        card = ModelCard.load(tmp_path / name / "README.md")
        assert not {"model-index", "model_name"} & set(card.data.to_dict())
        assert "## Judged pictures" not in card.text
        assert "94.3 %" not in card.text
        assert "# Adapter" in card.text
        assert "## In diffusers" in card.text
    # Weights that are in float16 already are not rounded, so that their figures stay.
    file.write_text(json.dumps(figures(tmp_path / "half")))
    assert publish(tmp_path / "half", tmp_path / "half2", "--evaluation", str(file)) == 0
    assert publish(tmp_path / "half2", tmp_path / "half3", "--half") == 0
    assert "left out" not in capsys.readouterr().out
    assert "94.3 %" in ModelCard.load(tmp_path / "half3" / "README.md").text
    assert publish(judged, tmp_path / "same", "--license", "mit") == 0
    assert "left out" not in capsys.readouterr().out
    card = ModelCard.load(tmp_path / "same" / "README.md")
    assert card.data.eval_results[0].metric_value == 94.3
    assert "94.3 %" in card.text


def test_a_published_adapter_is_published_again_with_each_section_once(
    adapter: Path, tmp_path: Path
) -> None:
    results = figures(adapter)
    for name in ("first", "again", "other"):
        if name == "other":
            results["arms"]["graph"]["relation_accuracy"]["macro"] = 0.5
        source = {"first": adapter, "again": tmp_path / "first", "other": tmp_path / "again"}[name]
        (tmp_path / "results.json").write_text(json.dumps(results))
        flags = ("--evaluation", str(tmp_path / "results.json"))
        assert publish(source, tmp_path / name, *flags) == 0
    first, again, other = (
        ModelCard.load(tmp_path / name / "README.md").text for name in ("first", "again", "other")
    )
    assert first.count("## In diffusers") == first.count("## Judged pictures") == 1
    assert again == first
    assert other == first.replace("94.3 %", "50.0 %")
    assert publish(tmp_path / "other", tmp_path / "plain") == 0
    plain = ModelCard.load(tmp_path / "plain" / "README.md").text
    assert plain.count("## In diffusers") == plain.count("## Judged pictures") == 1
    assert sorted(plain.split()) == sorted(other.split())


def test_half_of_a_bundle_without_digests_and_of_a_damaged_one(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(adapter, tmp_path / "old"))
    description = json.loads((old / "sgflux_adapter.json").read_text())
    digests = description.pop("digests")
    (old / "sgflux_adapter.json").write_text(json.dumps(description))
    assert publish(old, tmp_path / "half", "--half") == 0
    load_bundle(tmp_path / "half")
    digests["weights"]["graph_encoder.safetensors"]["pool.bias"] = "0" * 16
    (old / "sgflux_adapter.json").write_text(json.dumps({**description, "digests": digests}))
    assert publish(old, tmp_path / "damaged", "--half") != 0
    assert "pool.bias" in capsys.readouterr().err
    assert not (tmp_path / "damaged").exists()


def test_weights_beyond_float16_are_refused(adapter: Path, tmp_path: Path) -> None:
    config, state = load_bundle(adapter)
    name = next(name for name in state if name.startswith("conditioner."))
    large = tmp_path / "large"
    save_bundle(
        large,
        config=config,
        state={**state, name: torch.full_like(state[name], 1e6)},
        card="",
        metrics={},
    )
    with pytest.raises(SgfluxError, match="in float16"):
        store_in_half(large)
    file = tmp_path / "lora.safetensors"
    both = ("--half", "--format", "kohya", "--output", str(file))
    assert publish(large, tmp_path / "half", *both) == 2
    assert not file.exists()


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ("nan", "scale must be a finite number, got nan"),
        ("inf", "scale must be a finite number, got inf"),
        ("0", "scale must not be 0, which leaves no LoRA, got 0"),
        ("1e45", "give a smaller scale"),
    ],
)
@pytest.mark.parametrize("layout", ["kohya", "diffusers", "comfyui"])
def test_a_scale_that_leaves_no_numbers_is_refused(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    layout: str,
    scale: str,
    said: str,
) -> None:
    file = tmp_path / "lora.safetensors"
    lora = ("--format", layout, "--output", str(file))
    assert main(["export", "--adapter", str(adapter), *lora, "--scale", scale]) == 2
    assert said in capsys.readouterr().err
    assert not file.exists()


def test_a_place_that_would_destroy_something_is_refused_before_anything_is_written(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(adapter, tmp_path / "own"))
    old = Path(shutil.copytree(adapter, tmp_path / "old"))
    new, other = tmp_path / "new", tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").touch()
    link = tmp_path / "link"
    link.symlink_to(own)
    lora = own / "pytorch_lora_weights.safetensors"
    before = snapshot(tmp_path)
    file = tmp_path / "lora.safetensors"
    for output, folder, said in (
        (old / "lora.safetensors", old, f"is in the folder {old}"),
        (new / "lora.safetensors", new, f"is in the folder {new}"),
        (new / "deeper" / "lora.safetensors", new, f"is in the folder {new}"),
        (file, other, "is no adapter bundle; choose another"),
        (file, own, "is the adapter itself"),
        (file, own / "published", f"is in the folder {own}"),
        (lora, None, "is a file of the adapter itself"),
        (own / "graph_encoder.safetensors", new, "is a file of the adapter itself"),
        (link / lora.name, None, "is a file of the adapter itself"),
    ):
        flags = ["--format", "kohya", "--output", str(output)]
        flags += ["--output-dir", str(folder)] if folder is not None else []
        assert main(["export", "--adapter", str(own), *flags]) == 2
        assert said in capsys.readouterr().err
        assert snapshot(tmp_path) == before
    (old / "inner").mkdir()
    shutil.move(own, old / "inner" / "own")
    assert publish(old / "inner" / "own", old) == 2
    assert f"is in the folder {old}" in capsys.readouterr().err


def test_a_link_to_a_folder_stays_a_link(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert publish(adapter, tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "pipeline.py").is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_published_is_refused_before_the_lora_is_written(
    adapter: Path, tmp_path: Path
) -> None:
    file, results = tmp_path / "lora.safetensors", tmp_path / "results.json"
    results.write_text(json.dumps(figures(adapter, adapter={"fingerprint": "0" * 64})))
    lora = ("--format", "kohya", "--output", str(file))
    assert publish(adapter, tmp_path / "out", *lora, "--evaluation", str(results)) == 2
    assert list(tmp_path.iterdir()) == [results]


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
