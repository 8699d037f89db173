"""Vision-language models that answer a question about a picture with one letter.

No text is generated: the probabilities of the letters are read from the logits of the token that
would come first. Any image-text-to-text model of transformers will do that has a chat template.

Shapes: N questions, V tokens of the vocabulary, L letters.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from sgflux.bases.devices import resolve_dtype
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.pretrained import (
    expect_source,
    load,
    load_network,
    model_digest,
    settings_of,
)

LETTERS = ("A", "B", "C")
"""Answers that are read."""

_ROLE = "judge model"
_SPACES = ("", " ", "Ġ", "▁")  # how tokenizers write the space before a word, or none


def answer_tokens(tokenizer: Any, letters: Sequence[str] = LETTERS) -> list[list[int]]:
    """Return the tokens that say each letter alone, with or without a space before it.

    Which of them a model gives depends on its template: after "Assistant:" it is mostly the one
    with the space, after a line break the one without. The probability of a letter is their sum.

    Args:
        tokenizer: A tokenizer of transformers.
        letters: Letters to look for; lower case counts as another letter.

    Raises:
        SgfluxError: naming a letter that no token says.
    """
    vocabulary = tokenizer.get_vocab()
    tokens = [
        [vocabulary[space + letter] for space in _SPACES if space + letter in vocabulary]
        for letter in letters
    ]
    for letter, own in zip(letters, tokens, strict=True):
        if not own:
            raise SgfluxError(
                f"the judge model's tokenizer has no token for the answer {letter!r}, with or "
                "without a space before it; use another model"
            )
    return tokens


class VisionLanguageModel:
    """A processor and a network that read questions about pictures."""

    def __init__(
        self,
        processor: Any,
        network: Any,
        *,
        name: str,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            processor: Processor of the network, with a chat template.
            network: Network of transformers' image-text-to-text kind.
            name: Name of the model in results.
            settings: Settings that the network and the processor were loaded with, as plain JSON;
                they are part of the model's digest, as the chat template is.

        Raises:
            SgfluxError: if the processor has no chat template, or its tokenizer lacks a letter.
        """
        if not getattr(processor, "chat_template", None):
            raise SgfluxError(
                f"judge model {name!r} has no chat template, so it is not known how it is asked; "
                "use a model that was tuned to follow instructions, or put its chat_template.jinja "
                "into the folder"
            )
        self.name = name
        self.sha256: str | None = model_digest(
            network,
            processor.tokenizer,
            {**(settings or {}), "chat_template": processor.chat_template},
        )
        self._processor, self._network = processor, network
        self._tokens = answer_tokens(processor.tokenizer)
        # The answer follows the last token of every row.
        processor.tokenizer.padding_side = "left"
        takes = inspect.signature(network.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @classmethod
    def load(cls, source: str, device: torch.device) -> VisionLanguageModel:
        """Load a folder or hub id, in bf16 on an accelerator and in float32 on the CPU.

        Raises:
            SgfluxError: if it cannot be loaded, or as the constructor.
        """
        expect_source(source, role=_ROLE, example="HuggingFaceTB/SmolVLM2-2.2B-Instruct")
        processor = load(transformers.AutoProcessor, source, role=_ROLE)
        network = load_network(
            transformers.AutoModelForImageTextToText,
            source,
            str(device),
            role=_ROLE,
            dtype=resolve_dtype("auto", device),
        )
        return cls(processor, network, name=source, settings=settings_of(source))

    @torch.inference_mode()
    def answers(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        """Read the answers to questions that are asked at once.

        Args:
            images: N pictures, (H, W, 3) uint8 each.
            questions: N questions, one about each picture.

        Returns:
            Log-probabilities of :data:`LETTERS` as the first token, (N, L) float64.
        """
        chats = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": Image.fromarray(image)},
                        {"type": "text", "text": question},
                    ],
                }
            ]
            for image, question in zip(images, questions, strict=True)
        ]
        inputs = self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self._network.device, self._network.dtype)
        logits = self._network(**inputs, **self._last_only).logits[:, -1]  # (N, V)
        tokens = torch.log_softmax(logits.float(), dim=-1)
        letters = [tokens[:, own].logsumexp(dim=-1) for own in self._tokens]
        return torch.stack(letters, dim=-1).double().cpu().numpy()
