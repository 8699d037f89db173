"""LoRA weights of a transformer under diffusers' names, each layer with its own alpha.

Shapes: A is (r, in), B is (out, r); a layer adds alpha / r * B A x to what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.errors import SgfluxError


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """LoRA of any layers of a transformer.

    Attributes:
        weights: ``transformer_blocks.7.attn.to_q.lora_A.weight`` -> (r, in), ``…lora_B.weight`` ->
            (out, r).
        alphas: ``transformer_blocks.7.attn.to_q`` -> alpha, one for each layer.

    Raises:
        SgfluxError: if a layer lacks a part, its two parts do not fit together, or its alpha is
            missing, zero or not finite.
    """

    weights: Mapping[str, Tensor]
    alphas: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check that every layer is whole."""
        if not self.weights:
            raise SgfluxError("there is no LoRA weight")
        for name, value in self.weights.items():
            layer, _, ending = name.rpartition(".lora_")
            if not layer or ending not in ("A.weight", "B.weight"):
                raise SgfluxError(f"{name} is no LoRA weight of a layer")
            other = f"{layer}.lora_{'B' if ending[0] == 'A' else 'A'}.weight"
            if other not in self.weights:
                raise SgfluxError(f"{name} has no {other} beside it")
            if value.ndim != 2:
                raise SgfluxError(f"{name} is {tuple(value.shape)}, expected a matrix")
        for module, rank in self.ranks.items():
            up = self.weights[f"{module}.lora_B.weight"]
            if up.shape[1] != rank or rank < 1:
                raise SgfluxError(
                    f"{module}.lora_B.weight is {tuple(up.shape)}, but the rank of its lora_A is "
                    f"{rank}"
                )
        if set(self.alphas) != set(self.modules):
            different = sorted(set(self.alphas) ^ set(self.modules))
            raise SgfluxError(f"alphas and weights are of different layers: {different[0]}")
        for module, alpha in self.alphas.items():
            if not math.isfinite(alpha) or alpha == 0:
                raise SgfluxError(
                    f"{module}: alpha is {alpha:g}, expected a finite number other than 0"
                )

    @classmethod
    def with_alpha(cls, weights: Mapping[str, Tensor], alpha: float) -> LoraWeights:
        """Weights whose layers all have the same alpha."""
        modules = dict.fromkeys(name.rpartition(".lora_")[0] for name in weights)
        return cls(weights=weights, alphas=dict.fromkeys(modules, alpha))

    @property
    def modules(self) -> tuple[str, ...]:
        """The layers that have a LoRA, in the order of the weights."""
        return tuple(dict.fromkeys(name.rpartition(".lora_")[0] for name in self.weights))

    @property
    def ranks(self) -> dict[str, int]:
        """Layer -> r."""
        return {m: self.weights[f"{m}.lora_A.weight"].shape[0] for m in self.modules}

    @property
    def rank(self) -> int:
        """The rank that all layers have.

        Raises:
            SgfluxError: if they have several.
        """
        found = set(self.ranks.values())
        if len(found) != 1:
            raise SgfluxError(f"its layers have different ranks: {sorted(found)}")
        return found.pop()

    @property
    def alpha(self) -> float:
        """The alpha that all layers have.

        Raises:
            SgfluxError: if they have several.
        """
        found = set(self.alphas.values())
        if len(found) != 1:
            raise SgfluxError(f"its layers have different alphas: {sorted(found)}")
        return found.pop()

    def in_float32(self) -> LoraWeights:
        """The same in float32."""
        weights = {name: value.float() for name, value in self.weights.items()}
        return LoraWeights(weights=weights, alphas=self.alphas)

    def scaled(self, factor: float) -> LoraWeights:
        """The same with ``factor`` times the effect: B is multiplied, alpha stays.

        Some programs take an alpha of 0, or none, for the rank; in B the factor acts in all.
        """
        return self._with_factors(dict.fromkeys(self.alphas, factor), self.alphas)

    def folded(self) -> LoraWeights:
        """The same effect with alpha = rank in every layer: what alpha said is in B."""
        ranks = self.ranks
        factors = {module: alpha / ranks[module] for module, alpha in self.alphas.items()}
        return self._with_factors(factors, {module: float(r) for module, r in ranks.items()})

    def at_alpha(self, alpha: float) -> LoraWeights:
        """The same effect with ``alpha`` in every layer; the difference goes into B."""
        factors = {module: own / alpha for module, own in self.alphas.items()}
        return self._with_factors(factors, dict.fromkeys(self.alphas, float(alpha)))

    def at_rank(self, rank: int) -> tuple[LoraWeights, dict[str, float]]:
        """The nearest change of every layer's matrix that has a smaller rank, by SVD.

        Args:
            rank: New rank, which is alpha as well. A layer whose rank is not greater keeps it.

        Returns:
            The weights, and by layer the share of the change that is kept, from 0 to 1: the sum of
            the squared numbers of the new change over that of the old one. A layer that changes
            nothing counts as kept.
        """
        folded = self.folded()
        weights, alphas, kept = dict(folded.weights), dict(folded.alphas), {}
        for module, own in folded.ranks.items():
            kept[module] = 1.0
            if own <= rank:
                continue
            a, b = (f"{module}.lora_{part}.weight" for part in "AB")
            # Of thin matrices: the change itself has the size of the layer's matrix.
            left, upper = torch.linalg.qr(weights[b].to(torch.float64))
            right, lower = torch.linalg.qr(weights[a].to(torch.float64).T)
            u, values, v = torch.linalg.svd(upper @ lower.T)
            whole = float(values.square().sum())
            if whole > 0:
                kept[module] = float(values[:rank].square().sum()) / whole
            roots = values[:rank].sqrt()
            weights[a] = (roots[:, None] * v[:rank] @ right.T).to(weights[a].dtype)
            weights[b] = (left @ u[:, :rank] * roots).to(weights[b].dtype)
            alphas[module] = float(rank)
        return LoraWeights(weights=weights, alphas=alphas), kept

    def _with_factors(
        self, factors: Mapping[str, float], alphas: Mapping[str, float]
    ) -> LoraWeights:
        weights = dict(self.weights)
        for module, factor in factors.items():
            if factor != 1:
                name = f"{module}.lora_B.weight"
                own = weights[name]
                weights[name] = (own.to(torch.float64) * factor).to(own.dtype)
        return LoraWeights(weights=weights, alphas=dict(alphas))


def reduced(kept: Mapping[str, float], *, before: int, after: int) -> str:
    """What :meth:`LoraWeights.at_rank` kept, in a sentence with the rank before and after."""
    worst = min(kept, key=kept.__getitem__)
    mean = sum(kept.values()) / len(kept)
    return (
        f"Its LoRA was reduced from rank {before} to rank {after} after training, which keeps "
        f"{100 * mean:.1f} % of a layer's squared change on average, and {100 * kept[worst]:.1f} % "
        f"at worst ({worst})."
    )
