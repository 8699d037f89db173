"""Noise levels and guidance of the flow-matching error."""

from __future__ import annotations

from typing import Literal, NamedTuple

from sgflux.settings.checks import (
    ConfigError,
    NotNegative,
    Share,
    expect,
    expect_defaults,
    settings,
)

SigmaScheme = Literal["uniform", "logit_normal", "schnell"]

_SCHNELL = (1.0, 0.75, 0.5, 0.25)


class Band(NamedTuple):
    """Noise levels from ``low`` to ``high``, from which a share of the examples has theirs."""

    low: float
    high: float
    share: float


@settings
class FlowSettings:
    """Noise levels and guidance of the flow-matching error."""

    t_min: float = 0.0
    """Lowest sigma that is trained on; 0 is the image."""
    t_max: float = 1.0
    """Highest sigma that is trained on; 1 is pure noise."""
    sigma_scheme: SigmaScheme = "uniform"
    """Distribution of sigma between --t-min and --t-max. 'schnell' draws only 1, 3/4, 1/2 and 1/4,
    at which FLUX.1-schnell samples."""
    band_share: Share = 0.0
    """Share of the examples whose sigma is drawn evenly between --band-min and --band-max instead.
    Details of small objects take shape at middle noise levels."""
    band_min: float = 0.15
    """Lowest sigma of the examples of --band-share."""
    band_max: float = 0.65
    """Highest sigma of the examples of --band-share."""
    sigma_shift: Literal["auto", "none", "resolution"] = "auto"
    """Shift of sigmas towards noise for larger pictures. 'auto' shifts them if the model samples so
    (FLUX.1-dev does)."""
    flow_scale: float = 1.0
    """Scale of the graph's effect in the flow-matching error. Examples with a graph lead the
    adapter to base(own text) + scale * (data - base(own text)), which saves a graph scale in
    sampling. Scales greater than 1 cost a further forward pass of the base in each step."""
    flow_scale_from: Share = 0.0
    """Lowest sigma at which --flow-scale applies. At less noise the adapter learns the data as they
    are, for the scale also enlarges what it has not learned exactly."""
    object_share: Share = 0.0
    """Share of the flow-matching error that is averaged over the boxes of the rows' objects, where
    each object counts as much, however small it is. The rest is averaged over the whole picture."""
    guidance: NotNegative | None = None
    """Guidance that a guidance-distilled model (FLUX.1-dev) is told in training. By default it is
    1.0 for such a model."""

    @property
    def band(self) -> Band | None:
        """Noise levels from which some of the examples have theirs; None: no example has."""
        return Band(self.band_min, self.band_max, self.band_share) if self.band_share else None

    def __post_init__(self) -> None:
        """Check the range of sigma, and that every value given has an effect."""
        low, high = self.t_min, self.t_max
        if not 0 <= low < high <= 1:
            raise ConfigError(
                f"t_min and t_max must satisfy 0 <= t_min < t_max <= 1, got {low} and {high}"
            )
        expect(self.flow_scale >= 1, "flow_scale", self.flow_scale, "be at least 1")
        if self.flow_scale == 1:
            expect_defaults(self, "with flow_scale 1", "flow_scale_from")
        if not self.band_share:
            expect_defaults(self, "without band_share", "band_min", "band_max")
        elif not low <= self.band_min < self.band_max <= high:
            raise ConfigError(
                "band_min and band_max must satisfy t_min <= band_min < band_max <= t_max, got "
                f"{self.band_min} and {self.band_max} between {low} and {high}"
            )
        if self.sigma_scheme != "schnell":
            return
        if self.band_share:
            raise ConfigError(
                "band_share has no effect with sigma_scheme 'schnell', whose levels are fixed"
            )
        if not any(low <= level <= high for level in _SCHNELL):
            raise ConfigError(
                f"sigma_scheme 'schnell' draws from {', '.join(f'{one:g}' for one in _SCHNELL)}, "
                f"and none of them lies between t_min ({low}) and t_max ({high})"
            )
        if self.sigma_shift == "resolution":
            raise ConfigError(
                "sigma_shift 'resolution' has no effect with sigma_scheme 'schnell', whose levels "
                "are fixed"
            )
