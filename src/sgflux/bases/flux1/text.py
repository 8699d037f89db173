"""FLUX's two text encoders: prompts and names as features.

Shapes: B batch, L text tokens, D_t5 and D_clip the text encoders' widths.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import Tensor
from torch.nn import functional as F

from sgflux.bases.base import Text
from sgflux.bases.name_tokens import (
    name_ids,
    special_ids,
    statement_parts,
    unreadable,
    unreadable_names,
)
from sgflux.errors import SgfluxError
from sgflux.graphs.names import is_statement
from sgflux.terminal.quiet import only_errors

_LOGGER = logging.getLogger(__name__)

# What warns of a cut prompt with the padding of all others of its batch.
_TELLING_OF_CUTS = (
    "diffusers.pipelines.flux.pipeline_flux",
    "transformers.tokenization_utils_base",
)
_BATCH = 256  # statements encoded at once
_LONGEST_TEXT = 512  # tokens; FluxPipeline takes no longer prompts
_USUAL_TEXT = 256  # tokens, where nobody asks for another length


def text_length(wanted: int | None, tokenizer_length: float, *, model: str) -> int:
    """T5's tokens of a prompt.

    Args:
        wanted: Number of tokens asked for; None: what the tokenizer allows, at most 256.
        tokenizer_length: ``model_max_length`` of the second tokenizer.
        model: Name of the model, for the message.

    Raises:
        SgfluxError: if the number is out of range.
    """
    longest = int(min(_LONGEST_TEXT, tokenizer_length))
    tokens = min(_USUAL_TEXT, longest) if wanted is None else wanted
    if not 1 <= tokens <= longest:
        raise SgfluxError(
            f"max_sequence_length must lie between 1 and {longest} for {model!r}, got {tokens}"
        )
    return tokens


@dataclass(frozen=True, eq=False)
class TextEncoders:
    """FLUX's two text encoders: CLIP (``text_encoder``) and T5 (``text_encoder_2``)."""

    tokenizer: Any
    text_encoder: Any
    tokenizer_2: Any
    text_encoder_2: Any
    max_sequence_length: int
    device: torch.device
    dtype: torch.dtype

    @property
    def dim(self) -> int:
        """D_t5."""
        return int(self.text_encoder_2.config.d_model)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """Encode B prompts exactly as ``FluxPipeline.encode_prompt`` does (it does the work).

        Longer prompts than ``max_sequence_length`` are cut, with a warning that shows the rest of
        the first one. Where T5 reads all prompts whole, the warning is of those that CLIP cuts.

        Returns:
            ``hidden``: T5's output, (B, L, D_t5); ``pooled``: CLIP's pooled output, (B, D_clip);
            both in the encoders' dtype.
        """
        pipeline = FluxPipeline(
            scheduler=None,
            vae=None,
            transformer=None,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
        )
        self._warn_of_cuts(prompts)
        with only_errors(*_TELLING_OF_CUTS):
            hidden, pooled, _ = pipeline.encode_prompt(
                prompt=list(prompts),
                device=self.device,
                max_sequence_length=self.max_sequence_length,
            )
        return {"hidden": hidden, "pooled": pooled}

    def _warn_of_cuts(self, prompts: Sequence[str]) -> None:
        readers = (
            ("T5", self.tokenizer_2, self.max_sequence_length),
            ("CLIP", self.tokenizer, self.tokenizer.model_max_length),
        )
        for name, tokenizer, limit in readers:
            tokens = _whole_ids(tokenizer, prompts)
            cut = [index for index, own in enumerate(tokens) if len(own) > limit]
            if cut:
                _LOGGER.warning(
                    "%s reads %d tokens of a prompt, and %d of %d prompts have more; of %r it does "
                    "not read %r (write it shorter)",
                    name,
                    limit,
                    len(cut),
                    len(prompts),
                    prompts[cut[0]],
                    tokenizer.decode(tokens[cut[0]][limit - 1 : -1]),
                )
                return

    def unreadable(self, names: Iterable[str]) -> Iterator[tuple[str, SgfluxError]]:
        """See :class:`~sgflux.bases.family.TextEncoders`."""
        length = self.max_sequence_length
        return unreadable_names(self.tokenizer_2, names, max_sequence_length=length)

    def cuts(self, prompts: Sequence[str]) -> list[bool]:
        """Whether T5 reads each prompt only in part, since it has too many tokens."""
        ids = _whole_ids(self.tokenizer_2, prompts)
        return [len(own) > self.max_sequence_length for own in ids]

    @torch.no_grad()
    def encode_names(self, names: Sequence[str]) -> Tensor:
        """One feature a name, from T5's output and its word embeddings, over the name's own tokens.

            norm(mean of outputs) + norm(mean of embeddings),  norm: zero mean, unit variance

        Every name is read alone, without padding; its end token is read but not averaged. Read
        alone, words come out alike (tiny-flux: "holding" and "wearing" at a cosine of 0.98); their
        embeddings keep them apart.

        A name with marks around a part of it (:func:`sgflux.graphs.names.names_in_context`) is read
        as the prompt STATEMENT has it; its feature is the plain mean of T5's outputs over that
        part's tokens, in the same space as a prompt's.

        Returns:
            (n, D_t5) float32 on ``device``.

        Raises:
            SgfluxError: if a name has no token, or more than the tokenizer allows.
        """
        specials = special_ids(self.tokenizer_2)
        marked = [index for index, name in enumerate(names) if is_statement(name)]
        rows: dict[int, list[tuple[int, list[int]]]] = {}
        for index, name in enumerate(names):
            if is_statement(name):
                continue
            ids = name_ids(self.tokenizer_2, name)
            own = [token for token in ids if token not in specials]
            if all(token == self.tokenizer_2.unk_token_id for token in own):
                _LOGGER.warning("the text encoder knows no part of the name %r", name)
            rows.setdefault(len(ids), []).append((index, ids))
        embeddings = self.text_encoder_2.get_input_embeddings()
        width = int(embeddings.weight.shape[1])
        features = torch.empty(len(names), width, dtype=torch.float32, device=self.device)
        ignored = torch.tensor(sorted(specials), device=self.device)
        for group in rows.values():  # names of equal length share a batch, so nobody is padded
            tokens = torch.tensor([entry[1] for entry in group], device=self.device)
            hidden = self.text_encoder_2(tokens)[0].float()
            is_own = ~torch.isin(tokens, ignored)
            share = (is_own / is_own.sum(1, keepdim=True))[..., None]
            said = F.layer_norm((hidden * share).sum(1), (width,))
            meant = F.layer_norm((embeddings(tokens).float() * share).sum(1), (width,))
            features[[entry[0] for entry in group]] = said + meant
        for start in range(0, len(marked), _BATCH):
            chunk = marked[start : start + _BATCH]
            features[chunk] = self._encode_marked([names[index] for index in chunk])
        return features

    def _encode_marked(self, names: Sequence[str]) -> Tensor:
        """Mean T5 output over the marked part of every prompt, (n, D_t5) float32."""
        prompts, spans = statement_parts(names)
        encoded = self.tokenizer_2(
            prompts,
            padding="max_length",
            max_length=self.max_sequence_length,
            truncation=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        starts, ends = encoded["offset_mapping"].unbind(-1)
        first, last = torch.tensor(spans).unbind(-1)
        inside = (ends > first[:, None]) & (starts < last[:, None]) & (ends > starts)
        if not inside.any(1).all():
            lost = names[int((~inside.any(1)).nonzero()[0])]
            raise unreadable(lost, max_sequence_length=self.max_sequence_length)
        hidden = self.text_encoder_2(encoded["input_ids"].to(self.device))[0].float()
        share = (inside / inside.sum(1, keepdim=True))[..., None].to(self.device)
        return (hidden * share).sum(1)


def _whole_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of each prompt, however many there are; equal prompts are read once."""
    ids = {
        prompt: tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
        for prompt in dict.fromkeys(prompts)
    }
    return [ids[prompt] for prompt in prompts]
