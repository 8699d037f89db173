"""A bundle that was changed is refused, and the message names what was changed.

Broken, an adapter with shuffled, rounded or missing weights is evaluated under its old name.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sgflux.errors import SgfluxError
from sgflux.exporting import export_lora
from sgflux.models.bundle import (
    CONDITIONER_FILE,
    ENCODER_FILE,
    load_bundle,
    save_bundle,
    store_in_half,
)
from sgflux.models.bundle_folder import CONFIG_FILE, LORA_FILE
from sgflux.models.name_features import NameFeatures
from tests.helpers.models import make_model, train_by_chance

Change = Callable[[str, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def saved(flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "final"
    model = make_model(flux_folder, NameFeatures(32), lora_alpha=8.0)
    state = train_by_chance(model)
    save_bundle(folder, config=model.config, state=state, card="", metrics={})
    return folder


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def change_weights(path: Path, change: Change) -> None:
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    weights = {name: change(name, value).contiguous() for name, value in load_file(path).items()}
    save_file(weights, path, metadata=header)


def change_description(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / CONFIG_FILE
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def without_digests(bundle: Path) -> None:
    """As bundles were written before."""
    change_description(bundle, lambda description: description.pop("digests"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_whoever_may_read_the_card_may_read_the_weights(bundle: Path) -> None:
    """safetensors' own writer keeps its files from everybody else, such as who draws."""

    def permissions() -> set[int]:
        return {stat.S_IMODE(path.stat().st_mode) for path in bundle.iterdir()}

    assert len(permissions()) == 1
    store_in_half(bundle)
    assert len(permissions()) == 1


TO_Q = "transformer.transformer_blocks.3.attn.to_q.lora_B.weight"
TO_K = "transformer.transformer_blocks.3.attn.to_k.lora_B.weight"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (CONDITIONER_FILE, lambda n, v: v * 0 if "gate" in n else v, r"2 of its 10 .*\(all zero\)"),
        (LORA_FILE, lambda n, v: v.bfloat16().float(), r"32 of its 32 .*\(values rounded to bfl"),
        (ENCODER_FILE, lambda n, v: v.half().float(), r"\(values rounded to float16\)"),
        (LORA_FILE, lambda n, v: v + 1e-6, r"\(other values\)"),
        (ENCODER_FILE, lambda n, v: v.flip(0), r"\(other values\)"),
    ],
)
def test_changed_weights_are_named(bundle: Path, file: str, change: Change, said: str) -> None:
    change_weights(bundle / file, change)
    with pytest.raises(SgfluxError, match=rf"bundle/{file}: .*{said}") as error:
        load_bundle(bundle)
    assert "copy or download the bundle again" in str(error.value)
    without_digests(bundle)
    load_bundle(bundle)  # the way out for who means it


def test_weights_that_stand_under_each_others_names_are_named(bundle: Path) -> None:
    weights = load_file(bundle / LORA_FILE)
    change_weights(
        bundle / LORA_FILE, lambda n, v: weights[{TO_Q: TO_K, TO_K: TO_Q}.get(n, n)].clone()
    )
    with pytest.raises(SgfluxError, match=rf"2 of its 32 .*{TO_K} \(the values of {TO_Q}\)"):
        load_bundle(bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", [LORA_FILE, CONDITIONER_FILE, ENCODER_FILE])
def test_weights_that_are_no_numbers_are_refused_everywhere(
    bundle: Path, tmp_path: Path, file: str, value: float
) -> None:
    def change(name: str, weights: torch.Tensor) -> torch.Tensor:
        weights = weights.clone()
        weights.view(-1)[0] = value
        return weights

    change_weights(bundle / file, change)
    without_digests(bundle)
    with pytest.raises(SgfluxError, match=rf"{file}: .* not finite"):
        load_bundle(bundle)
    with pytest.raises(SgfluxError, match="not finite"):
        export_lora(bundle, tmp_path / "a.safetensors", layout="diffusers")


def test_what_is_no_number_is_neither_saved_nor_loaded(
    flux_folder: Path, names: NameFeatures, tmp_path: Path
) -> None:
    model = make_model(flux_folder, names)
    before = {name: value.clone() for name, value in model.trainable_state().items()}
    state = {name: value * float("nan") for name, value in before.items()}
    with pytest.raises(SgfluxError, match="not finite"):
        save_bundle(tmp_path / "nan", config=model.config, state=state, card="", metrics={})
    assert not list(tmp_path.iterdir())
    with pytest.raises(SgfluxError, match="not finite"):
        model.load_trainable_state(state)
    assert all(torch.equal(value, before[n]) for n, value in model.trainable_state().items())


def test_an_alpha_that_contradicts_the_weights_is_named(bundle: Path) -> None:
    change_description(bundle, lambda d: d["adapter"].update(lora_alpha=160.0))
    with pytest.raises(SgfluxError, match=r"settings \(alpha, .* not those that were saved"):
        load_bundle(bundle)
    # Before there were digests, the LoRA file itself had the alpha.
    without_digests(bundle)
    with safe_open(bundle / LORA_FILE, framework="pt") as file:
        header = dict(file.metadata())
    key = "lora_adapter_metadata"
    header[key] = json.dumps({**json.loads(header[key]), "transformer.lora_alpha": 3.0})
    save_file(load_file(bundle / LORA_FILE), bundle / LORA_FILE, metadata=header)
    with pytest.raises(SgfluxError, match=r"alpha of \S+ is 3, which contradicts lora_alpha 160"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(max_sequence_length="24"), "max_sequence_length must be a whole.*'24'"),
        (lambda a: a.update(block_start=0.0), r"block_start must be a whole number, got 0\.0"),
        (lambda a: a.update(lora_rank=True), "lora_rank must be a whole number, got True"),
        (lambda a: a.update(lora_alpha="16"), "lora_alpha must be a finite number, got '16'"),
        (
            lambda a: a.update(tokens_per_triple=10**6),
            r"graph_local_proj.weight is \(96, 48\), but",
        ),
        (
            lambda a: a.update(lora_rank=10**6),
            r"lora_A.weight is \(4, 32\), but .* \(1000000, 32\)",
        ),
        (lambda a: a.update(block_end=6), r"transformer_blocks\.5\S+ is missing, but the settings"),
        (
            lambda a: a.update(block_end=4),
            r"transformer_blocks\.4\.\S+ is \(.*\), but the settings in \S+ need none",
        ),
        (lambda a: a.update(graph_mode="temb"), r"gate_temb is missing"),
        (lambda a: a.update(encoder=None), "encoder must be a table, got None"),
        (lambda a: a.update(base=None), "base must be a table, got None"),
        (lambda a: a.update(base=[]), r"base must be a table, got \[\]"),
        (lambda a: a["base"].update(num_layers="8"), "base's num_layers must be a whole.*'8'"),
        (lambda a: a["base"].update(inner_dim=10**6), r"\(4, 32\), but .* \(4, 1000000\)"),
        (lambda a: a["base"].update(identity=3), "identity must be a table of digests, got 3"),
        (
            lambda a: a["encoder"].update(hidden_dim="256"),
            r"got `str` - at `\$\.hidden_dim",
        ),
        (lambda a: a["encoder"].update(hidden_dim=10**6), "hidden_dim is 1000000, which does not"),
        (lambda a: a["encoder"].update(layers=10**9), "layers is 1000000000, which does not fit"),
        (
            lambda a: a["encoder"].update(layers=3),
            r"layers\.2\.\S+ is missing, but the settings .*, or of another version of sgflux: ",
        ),
        (
            lambda a: a["encoder"].update(text_dim=None),
            r"got `null` - at `\$\.text_dim",
        ),
        (
            lambda a: a["encoder"].update(number_triples=1),
            r"got `int` - at `\$\.number_tr",
        ),
    ],
)
def test_settings_of_the_wrong_type_or_size_are_named_before_anything_is_made(
    bundle: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    change_description(bundle, lambda description: change(description["adapter"]))
    with pytest.raises(SgfluxError, match=said):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(adapter=None), "settings must be a table, got None"),
        (lambda d: d.pop("adapter"), "adapter"),
        (lambda d: d.update(format=None), "has the format None, and this sgflux reads 1; use"),
        (lambda d: d.update(digests=[]), "digests are damaged"),
        (lambda d: d["digests"].update(weights=None), "digests are damaged"),
    ],
)
def test_a_damaged_description_is_named(
    bundle: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    change_description(bundle, change)
    with pytest.raises(SgfluxError, match=said):
        load_bundle(bundle)


def test_weights_in_another_precision_are_refused_by_name(bundle: Path) -> None:
    change_weights(bundle / LORA_FILE, lambda n, v: v.bfloat16())
    without_digests(bundle)
    with pytest.raises(SgfluxError, match=r"lora_A\.weight is stored as BF16, but an adapter's"):
        load_bundle(bundle)


def test_weights_that_are_cut_off_are_named_with_what_to_do(bundle: Path) -> None:
    path = bundle / LORA_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SgfluxError, match=rf"{LORA_FILE}: ends within its header.*download"):
        load_bundle(bundle)


def test_a_bundle_of_before_loads_without_digests(bundle: Path) -> None:
    _, state = load_bundle(bundle)
    without_digests(bundle)
    _, again = load_bundle(bundle)
    assert all(torch.equal(value, again[name]) for name, value in state.items())


def test_a_bundle_whose_replacement_was_cut_short_is_found(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, _ = load_bundle(bundle)
    bundle.rename(bundle.with_name(f".{bundle.name}.{'0' * 32}.old"))
    assert load_bundle(bundle)[0] == config
    assert "its replacement was cut short" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"of another adapter"])
def test_what_an_adapter_was_trained_on_is_not_exchanged(
    saved: Path, tmp_path: Path, content: bytes | None
) -> None:
    """Else test data among it would pass as new."""
    config, state = load_bundle(saved)
    bundle = tmp_path / "bundle"
    files = {"seen_data.safetensors": b"digests"}
    save_bundle(bundle, config=config, state=state, card="", metrics={}, files=files)
    load_bundle(bundle)
    path = bundle / "seen_data.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(SgfluxError, match=r"seen_data\.safetensors.* (is not the file|cannot be)"):
        load_bundle(bundle)
