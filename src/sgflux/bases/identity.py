"""What a base model is: one digest for each part that its pictures depend on.

Two bases are the same if all their parts are. A part of weights (transformer, text encoders,
autoencoder) is the set of its tensors under diffusers' and transformers' names, their values, and
the settings that weights do not show (number of heads, latent scaling, ...). So the digest does not
change

- with the files: one file or several shards, diffusers' layout or the original single file, a
  folder or the links of a hub cache;
- with a lossless change of precision: bf16 weights saved as float32 are the same weights;
- with how the model is loaded: digests are taken of the files, so quantisation, offloading and the
  run's precision play no role.

It does change with any value: a merged LoRA, a fine-tune, and also weights that were rounded to
another precision (float32 saved as bf16, bf16 saved as float16). A tokenizer is its vocabulary and
how it splits a fixed text; a scheduler is those of its settings that have an effect.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sgflux.errors import SgfluxError

_SHOWN = 12  # hex digits of a digest in a message


@dataclass(frozen=True)
class BaseIdentity:
    """The digests of a base model's parts.

    Attributes:
        parts: part -> SHA-256, 64 hex digits; one of them is the transformer.

    Raises:
        SgfluxError: if the transformer is missing, or a digest is none.
    """

    parts: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check that every digest is one."""
        for part, digest in {"transformer": None, **self.parts}.items():
            if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise SgfluxError(
                    f"a base's identity needs a SHA-256 for {part}, got {digest!r} "
                    f"(parts: {', '.join(map(str, self.parts))})"
                )

    @property
    def fingerprint(self) -> str:
        """One digest of all parts, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, str]:
        """Part -> digest; :meth:`from_json` reads it back to an equal identity."""
        return dict(self.parts)

    @classmethod
    def from_json(cls, parts: Any) -> BaseIdentity:
        """Read :meth:`to_json`'s form.

        Raises:
            SgfluxError: if it is something else.
        """
        if not isinstance(parts, Mapping):
            raise SgfluxError(f"a base's identity must be a table of digests, got {parts!r}")
        return cls(dict(parts))

    def difference(self, other: BaseIdentity) -> tuple[str, ...]:
        """Names of the parts that differ, in a fixed order; none for the same base."""
        names = dict.fromkeys((*self.parts, *other.parts))
        return tuple(name for name in names if self.parts.get(name) != other.parts.get(name))

    def described_difference(self, other: BaseIdentity, *, mine: str, others: str) -> str:
        """The parts that differ, with both digests.

        Args:
            other: another base.
            mine: Name of this base's owner in the message.
            others: the same of the other base.
        """
        return "; ".join(
            f"{name} differs: {mine} {_short(self.parts.get(name))}, "
            f"{others} {_short(other.parts.get(name))}"
            for name in self.difference(other)
        )


BaseStatus = Literal["same", "other", "unverified"]


@dataclass(frozen=True)
class BaseCheck:
    """Whether an adapter runs on the base that it was trained on.

    Attributes:
        status: ``same``; ``other``: it is known to be another one, and that was allowed;
            ``unverified``: the adapter was saved without its base's identity, or the base's is
            unknown.
        difference: names of the parts that differ.
        text: the finding as a sentence.
    """

    status: BaseStatus
    difference: tuple[str, ...] = ()
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"status": self.status, "difference": list(self.difference), "text": self.text}


def check_identity(
    trained_on: BaseIdentity | None,
    here: BaseIdentity | None,
    *,
    what: str = "the adapter",
    allow_other: bool = False,
) -> BaseCheck:
    """Compare the base that something was made on with the one at hand.

    Args:
        trained_on: the base of that something; None: it does not say.
        here: the base at hand; None: nobody knows.
        what: names that something in messages.
        allow_other: take another base.

    Raises:
        SgfluxError: if it is another base and that is not allowed; both sides are named for each
            part.
    """
    if trained_on is None or here is None:
        lacking = (
            f"{what} was saved without its base's identity"
            if trained_on is None
            else "the identity of the base at hand is unknown"
        )
        return BaseCheck("unverified", text=f"base not verified: {lacking}")
    parts = trained_on.difference(here)
    if not parts:
        return BaseCheck("same", text=f"the base is the one that {what} was trained on")
    described = trained_on.described_difference(here, mine=what.removeprefix("the "), others="here")
    if not allow_other:
        raise SgfluxError(
            f"{what} was trained on another base: {described}. If that is intended (a merge, a "
            "fine-tune, or the same weights rounded to another precision), add --allow-other-base"
        )
    return BaseCheck("other", parts, f"another base than {what} was trained on: {described}")


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:_SHOWN]
