"""Features of texts in less space: how much, how exactly, and that no two forms are mixed up.

If one of these failed, a cache would need more space than the manual says, change a training
without a word, or give one form's entries to a run that asked for another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from sgflux.data.cache.arrays import text_key
from sgflux.data.cache.encoding import Encoders, EncodingPlan
from sgflux.data.cache.store import CacheStore
from sgflux.data.cache.text_formats import LARGEST_ERROR, packed, packed_bytes, rank, unpacked
from sgflux.errors import SgfluxError
from sgflux.settings.data import DataSettings
from sgflux.settings.shared import TextFormat
from tests.helpers.rows import example, write_picture

FORMS: tuple[TextFormat, ...] = get_args(TextFormat)


def features_of(prompts: list[str], *, tokens: int = 64, width: int = 192) -> dict[str, Tensor]:
    """Three tokens a word, then padding whose rows differ by a few smooth waves."""
    generator = torch.Generator().manual_seed(0)
    padding, *waves = torch.randn(4, width, generator=generator)
    places = torch.arange(tokens).unsqueeze(1) / tokens
    hidden = []
    for prompt in prompts:
        rows = padding + sum(0.2 * wave * places**n for n, wave in enumerate(waves, start=1))
        count = 3 * len(prompt.split())
        own = torch.Generator().manual_seed(len(prompt))
        rows[:count] = 3 * torch.randn(count, width, generator=own)
        hidden.append(rows)
    pooled = torch.randn(len(prompts), 16, generator=generator)
    return {"hidden": torch.stack(hidden).bfloat16(), "pooled": pooled.bfloat16()}


def error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    difference = found["hidden"].float() - wanted["hidden"].float()
    return float(difference.norm() / wanted["hidden"].float().norm())


PROMPTS = ["a photo of man and horse", "man riding horse"]


def test_each_form_is_as_exact_as_it_says() -> None:
    features = features_of(PROMPTS)
    found = {form: unpacked(packed(features, PROMPTS, form=form)) for form in FORMS}
    for form, own in found.items():
        assert own.keys() == features.keys(), form
        assert all(tensor.dtype == torch.bfloat16 for tensor in own.values()), form
        assert torch.equal(own["pooled"], features["pooled"]), form
    assert torch.equal(found["bf16"]["hidden"], features["hidden"])
    assert 0 < error(found["int8"], features) < 0.01
    assert 0 < error(found["low_rank"], features) < 0.015


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_takes_the_space_that_is_reckoned_with(form: TextFormat) -> None:
    features = features_of(PROMPTS)
    tensors = packed({"hidden": features["hidden"]}, PROMPTS, form=form)
    size = sum(tensor.nbytes for tensor in tensors.values()) // len(PROMPTS)
    assert size == packed_bytes(64, 192, form=form)


def test_a_hundred_thousand_prompts_of_flux_fit_sixty_gigabytes() -> None:
    pooled, key_and_checksum = 2 * 768, 80
    entry = packed_bytes(256, 4096, form="low_rank") + pooled + key_and_checksum
    assert entry <= 600_000
    assert 100_000 * entry <= 60e9
    assert packed_bytes(256, 4096, form="bf16") > 2_000_000


def test_values_that_stand_out_do_not_coarsen_the_others() -> None:
    """T5 has features that are a hundred times larger than the rest."""
    features = features_of(PROMPTS)
    features["hidden"][..., 5] *= 100
    rest = {"hidden": features["hidden"][..., 64:]}
    found = unpacked(packed(features, PROMPTS, form="int8"))["hidden"][..., 64:]
    assert error({"hidden": found}, rest) < 0.01


def test_zeros_stay_zeros() -> None:
    features = {"hidden": torch.zeros(1, 8, 128, dtype=torch.bfloat16)}
    assert torch.equal(unpacked(packed(features, [""], form="int8"))["hidden"], features["hidden"])


def test_a_text_that_fills_its_prompt_is_refused_by_its_words() -> None:
    long = " ".join(["horse"] * (rank(64) // 3 + 4))
    with pytest.raises(SgfluxError, match=f"the text '{long}'.*allowed {LARGEST_ERROR:.0%}.*int8"):
        packed(features_of([*PROMPTS, long]), [*PROMPTS, long], form="low_rank")
    packed(features_of([long]), [long], form="int8")


def test_keys_tell_the_forms_apart_and_the_first_one_has_its_old_keys() -> None:
    keys = [text_key("man", max_sequence_length=8, identity="t5", form=form) for form in FORMS]
    assert len(set(keys)) == len(FORMS)
    assert keys[0] == text_key("man", max_sequence_length=8, identity="t5")
    assert keys[0] == "8fc6ad0a256eae4c38c53da4835d549cace0b50af2d011059e14f3d23a97eb77"


@pytest.fixture
def plans(tmp_path: Path) -> dict[TextFormat, EncodingPlan]:
    """One data set, to be kept in each of the forms."""
    write_picture(tmp_path / "a.png")
    settings: dict[str, Any] = {
        "images_dir": tmp_path,
        "height": 8,
        "width": 8,
        "encoder_identity": "vae",
        "text_identity": "t5",
        "max_sequence_length": 64,
    }
    rows = [example("man, on, box")]
    return {form: EncodingPlan(rows, text_format=form, **settings) for form in FORMS}


def test_a_cache_holds_several_forms_and_gives_each_run_its_own(
    plans: dict[TextFormat, EncodingPlan], tmp_path: Path
) -> None:
    encoders = Encoders(
        images=lambda images: (images[:, :1, ::8, ::8], images[:, :1, ::8, ::8]), text=features_of
    )
    store = CacheStore(tmp_path / "cache")
    plans["low_rank"].fill(store, encoders)
    with pytest.raises(SgfluxError, match="entries are not in the cache"):
        plans["bf16"].opened(store)
    for plan in plans.values():
        plan.fill(store, encoders)
    opened = CacheStore(tmp_path / "cache")
    wanted = plans["bf16"].in_memory(encoders)
    rows, kinds = torch.tensor([0]), torch.tensor([0])
    for form, plan in plans.items():
        found = plan.opened(opened).text(rows, kinds)
        assert found.keys() == {"hidden", "pooled"}, form
        exact = torch.equal(found["hidden"], wanted.text(rows, kinds)["hidden"])
        assert exact == (form == "bf16"), form
        assert error(found, wanted.text(rows, kinds)) < LARGEST_ERROR


def test_a_form_without_a_cache_has_no_effect_and_is_refused() -> None:
    with pytest.raises(SgfluxError, match=r"text_cache .* has no effect without latent_cache_dir"):
        DataSettings(train_jsonl=Path("a.jsonl"), text_cache="int8")
