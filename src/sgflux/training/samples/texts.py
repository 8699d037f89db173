"""Features of the samples' texts, encoded once, so that the text encoders need not stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.bases.base import Text
from sgflux.errors import SgfluxError
from sgflux.models.name_features import NameFeatures
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.processes.processes import Processes
from sgflux.training.samples.graphs import SampleGraph


@dataclass(frozen=True)
class EncodedTexts:
    """Features of known texts, in the place of text encoders.

    Attributes:
        features: Text -> its features, (1, ...) each, on the CPU in the encoders' dtype.
        max_sequence_length: Number of text tokens of a prompt.
        dim: Number of features of a text token.
    """

    features: Mapping[str, Text]
    max_sequence_length: int
    dim: int

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return torch.device("cpu")

    def encode(self, prompts: Sequence[str]) -> Text:
        """Features of B known prompts."""
        rows = [self.features[prompt] for prompt in prompts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Names are encoded with the data of a run, and no other can be.

        Raises:
            SgfluxError: in any case.
        """
        raise SgfluxError(f"the text encoders are gone, and cannot encode {list(names)}")

    def unreadable(self, names: Iterable[str]) -> Iterator[tuple[str, SgfluxError]]:
        """All names: whoever asks is too late, see :meth:`encode_names`."""
        for name in names:
            yield name, SgfluxError(f"the text encoders are gone, and cannot read {name!r}")

    def cuts(self, prompts: Sequence[str]) -> list[bool]:
        """No prompt: what was cut was said when it was encoded."""
        return [False] * len(prompts)


def encode_samples(
    samples: Sequence[SampleGraph],
    names: Sequence[str],
    encoders: LazyEncoders,
    *,
    known: NameFeatures,
    processes: Processes,
) -> EncodedTexts:
    """Encode the samples' texts, and those of their names that the data do not have.

    The main process encodes; the others get what it found. The data's own names were encoded
    before, so that their features are the same with samples and without.

    Args:
        samples: Graphs that are drawn during the training.
        names: Names and statements whose features are looked up for them.
        encoders: Encoders of the run.
        known: Features of the data's names, which get the missing ones.
        processes: Processes of the run.

    Raises:
        SgfluxError: if an encoder cannot be loaded.
    """
    missing = [name for name in names if name not in known]
    found: list[tuple[dict[str, Text], Tensor | None]] = []
    if processes.is_main:
        text = encoders.text
        features: dict[str, Text] = {
            prompt: {name: part.cpu() for name, part in text.encode([prompt]).items()}
            for prompt in dict.fromkeys(one.prompt for one in samples)
        }
        found.append((features, text.encode_names(missing).cpu() if missing else None))
    ((of_texts, of_names),) = processes.gather(found)
    if of_names is not None:
        known.add(missing, of_names)
    facts = encoders.facts
    return EncodedTexts(of_texts, max_sequence_length=facts.text_tokens, dim=facts.text_dim)
