"""FLUX.1 as a family: the one object that :data:`sgflux.bases.families.FAMILIES` names."""

from __future__ import annotations

from diffusers import FluxTransformer2DModel

from sgflux.bases.flux1.network import FluxNetwork


class Flux1:
    """See :class:`~sgflux.bases.base.Family`."""

    transformer = FluxTransformer2DModel

    def network(self, transformer: FluxTransformer2DModel) -> FluxNetwork:
        """See :class:`~sgflux.bases.base.Family`."""
        return FluxNetwork(transformer)
