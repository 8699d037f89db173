"""Prompts that the text encoder reads only in part are counted, arm by arm.

If one of these failed, an arm whose prompts are cut would look worse than it is, and nothing
would say why.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoTokenizer

from sgflux.bases.flux1.text import TextEncoders
from sgflux.bases.hub import resolve_model_id
from sgflux.evaluation.arms import Arm, make_items, plan_pictures
from sgflux.evaluation.cut_prompts import prompts_cut
from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.graph_examples import example

EXAMPLES = [
    example("man, riding, horse", number=0),
    example("cat, above, box; box, around/near, tree; cat, touching, tree", number=1),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(f"{resolve_model_id('tiny')}/tokenizer_2")


def encoders(tokenizer: Any, limit: int) -> TextEncoders:
    return TextEncoders(
        None, None, tokenizer, None, limit, torch.device("cpu"), torch.float32
    )  # fmt: skip


def test_a_prompt_is_cut_where_its_tokens_are_more_than_are_read(tokenizer: Any) -> None:
    prompt = "a photo of man riding horse"
    count = len(tokenizer(prompt)["input_ids"])
    assert encoders(tokenizer, count).cuts([prompt, prompt]) == [False, False]
    assert encoders(tokenizer, count - 1).cuts([prompt, "a photo"]) == [True, False]


def test_cut_prompts_of_each_arm(tokenizer: Any) -> None:
    items = make_items(EXAMPLES, range(2), seed=0)
    plan = {
        arm: plan_pictures(items, arm, seeds_per_item=2, seed=0)
        for arm in (Arm.BASE_NEUTRAL, Arm.BASE_RELATIONAL)
    }
    longest = {
        arm: max(len(tokenizer(request.prompt)["input_ids"]) for request in requests)
        for arm, requests in plan.items()
    }
    limit = longest[Arm.BASE_NEUTRAL]
    assert limit < longest[Arm.BASE_RELATIONAL], "relations are words, too"
    pipeline = SimpleNamespace(text_encoders=encoders(tokenizer, limit))
    found = prompts_cut(cast(SceneGraphFluxPipeline, pipeline), plan)
    assert found == {
        "limit": limit,
        "arms": {
            "base_neutral": {"pictures": 4, "cut": 0},
            "base_relational": {
                "pictures": 4,
                "cut": 2,
                "example": plan[Arm.BASE_RELATIONAL][2].prompt,
            },
        },
    }
    assert prompts_cut(None, plan) is None, "a generator without text encoders cuts nothing"
