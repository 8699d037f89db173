"""CLIP alignment (Radford et al. 2021, arXiv:2103.00020) as a judge of who does what to whom.

It is here because papers report it. CLIP reads a caption much like a bag of words (Yuksekgonul et
al. 2023, arXiv:2210.01936), so it hardly tells a statement from the swapped one; ``sgflux eval
calibrate`` shows by how little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import (
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
    asked_of,
    refuse_equal_names,
    without_numbers,
)
from sgflux.evaluation.judges.pretrained import (
    expect_source,
    load,
    load_network,
    load_tokenizer,
    model_digest,
    settings_of,
)
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple

_ROLE = "judge model"


class ClipJudge:
    """A statement holds if the picture is nearer to its caption than to that of the swapped one."""

    def __init__(self, source: str, device: str = "cpu", *, batch_size: int = 8) -> None:
        """Load the network.

        Args:
            source: Folder, or hub id such as "openai/clip-vit-large-patch14".
            device: Device on which the network runs, in float32.
            batch_size: Number of pictures that are read at once.

        Raises:
            SgfluxError: if it is no CLIP model or cannot be loaded.
        """
        expect_source(source, role=_ROLE, example="openai/clip-vit-large-patch14")
        kind = load(transformers.AutoConfig, source, role=_ROLE).model_type
        if kind != "clip":
            raise SgfluxError(f"judge model {source!r} is a model of the kind {kind!r}, not 'clip'")
        self._processor = load(transformers.CLIPImageProcessorPil, source, role=_ROLE)
        self._tokenizer = load_tokenizer(source, role=_ROLE)
        self._network = load_network(transformers.CLIPModel, source, device, role=_ROLE)
        self._batch_size = batch_size
        digest = model_digest(self._network, self._tokenizer, settings_of(source))
        self.identity = JudgeIdentity("clip", digest, model=source)

    def covers(self, predicate: str) -> bool:
        """See :meth:`Judge.covers`; a symmetric or unknown predicate has no swapped statement."""
        return DEFAULT_VOCABULARY.is_asymmetric(predicate)

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`."""
        refuse_equal_names((asked_of(graph, self.covers) for graph in graphs), self.identity.name)

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`; the scores are CLIP's logits."""
        readings: list[Reading] = []
        for start in range(0, len(images), self._batch_size):
            window = slice(start, start + self._batch_size)
            readings += self._read_batch(images[window], statements[window])
        return readings

    def _read_batch(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        pairs = [
            {triple: (caption(triple), swapped_caption(triple)) for triple in own}
            for own in statements
        ]
        captions = list(dict.fromkeys(c for own in pairs for pair in own.values() for c in pair))
        if not captions:
            return [Reading({}) for _ in images]
        logits = self._logits(images, captions)
        readings = []
        for own, row in zip(pairs, logits, strict=True):
            score = dict(zip(captions, row.tolist(), strict=True))
            verdicts = {
                triple: Verdict(
                    Outcome.HOLDS if score[stated] > score[swapped] else Outcome.CONTRADICTED,
                    score=score[stated],
                )
                for triple, (stated, swapped) in own.items()
            }
            used: dict[str, Any] = {c: round(score[c], 4) for pair in own.values() for c in pair}
            readings.append(Reading(verdicts, evidence={"alignment": used}))
        return readings

    @torch.inference_mode()
    def _logits(self, images: Images, captions: Sequence[str]) -> np.ndarray:
        """Return the logits of N pictures and T captions, (N, T) float32."""
        device = self._network.device
        pixels = self._processor(images=list(images), return_tensors="pt").to(device)
        text = self._tokenizer(
            list(captions),
            padding=True,
            truncation=True,
            max_length=self._network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(device)
        out = self._network(
            input_ids=text.input_ids,
            attention_mask=text.attention_mask,
            pixel_values=pixels.pixel_values,
        )
        return out.logits_per_image.cpu().numpy()


def caption(triple: Triple) -> str:
    """Return "a photo of man riding horse"."""
    return prompts_for_graph(SceneGraph.from_triple(without_numbers(triple)), "relational")


def swapped_caption(triple: Triple) -> str:
    """Return the caption with subject and object exchanged."""
    return caption(Triple(triple.object, triple.predicate, triple.subject))
