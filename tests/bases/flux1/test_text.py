"""Prompts as features: what a user is told of a prompt that is cut.

If this failed, a prompt would lose its end unseen, or its line would drown in padding.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sgflux.bases.flux1.load import load_text_encoders
from sgflux.settings.model_source import ModelSource


def test_a_cut_prompt_is_named_with_its_rest_and_nothing_else_is_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    encoders = load_text_encoders(ModelSource(model_id="tiny"), device=torch.device("cpu"))
    short = "a photo of a dog"
    encoders.encode([short])
    assert not caplog.records
    words = [f"{name} above a box," for name in ("dog", "cat", "man", "car", "cup", "hat", "tree")]
    long = " ".join(words * 2)
    encoders.encode([short, long, short])
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(
        f"T5 reads 32 tokens of a prompt, and 1 of 3 prompts have more; of '{long}'"
    )
    rest = said.split("does not read '")[1].split("'")[0]
    assert rest
    assert long.endswith(rest)
    assert "<pad>" not in said + "".join(capfd.readouterr())

    # FLUX's T5 reads more than its CLIP: what CLIP alone cuts is named as well.
    caplog.clear()
    dataclasses.replace(encoders, max_sequence_length=128).encode([long])
    (record,) = caplog.records
    assert record.getMessage().startswith("CLIP reads 32 tokens of a prompt, and 1 of 1 prompts")
