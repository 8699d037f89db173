"""The flow's mathematics, by worked numbers and against diffusers' scheduler.

If one of these failed, training and sampling would follow another flow than FLUX was trained on.
"""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from sgflux.flow_matching import (
    denoised,
    euler_step,
    inference_sigmas,
    noise_latents,
    resolution_shift,
    sample_sigmas,
    shifted,
    sigma_grid,
    velocity_target,
)
from sgflux.settings.flow import Band


def test_a_share_of_the_levels_lies_in_the_band_and_the_rest_everywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    band = Band(0.2, 0.3, 0.5)
    sigma = sample_sigmas(8000, t_min=0.1, band=band, generator=generator)
    inside = ((sigma >= 0.2) & (sigma <= 0.3)).float().mean().item()
    assert inside == pytest.approx(0.5 + 0.5 / 9, abs=0.02)
    assert sigma.min() < 0.12
    assert sigma.max() > 0.98
    none = sample_sigmas(9, band=Band(0.2, 0.3, 0.0), generator=generator.manual_seed(1))
    plain = sample_sigmas(9, generator=generator.manual_seed(1))
    assert torch.equal(none, plain)


def test_the_grid_is_the_middles_of_equal_parts() -> None:
    assert sigma_grid(4) == (0.125, 0.375, 0.625, 0.875)
    assert sigma_grid(1, t_min=0.5, t_max=0.7) == (0.6,)


def test_worked_numbers() -> None:
    latents, noise = torch.tensor([[2.0], [2.0], [2.0]]), torch.tensor([[6.0], [6.0], [6.0]])
    sigma = torch.tensor([0.0, 0.25, 1.0])
    assert noise_latents(latents, noise, sigma).tolist() == [[2.0], [3.0], [6.0]]
    assert velocity_target(latents, noise).tolist() == [[4.0]] * 3
    assert euler_step(noise, velocity_target(latents, noise), 1.0, 0.75).tolist() == [[5.0]] * 3


def test_the_true_velocity_leads_back_to_the_image_and_out_to_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 16, 6, 8, generator=generator)
    noise = torch.randn(4, 16, 6, 8, generator=generator)
    sigma = torch.rand(4, generator=generator)
    noisy, velocity = noise_latents(latents, noise, sigma), velocity_target(latents, noise)
    torch.testing.assert_close(denoised(noisy, velocity, sigma), latents)
    torch.testing.assert_close(euler_step(noisy, velocity, sigma, torch.ones(4)), noise)


@pytest.mark.parametrize("steps", [1, 3, 4, 28])
def test_sampling_levels_and_steps_are_those_of_flux_schnell(steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1 / steps, steps).tolist())
    levels = inference_sigmas(steps)
    torch.testing.assert_close(levels, scheduler.sigmas)
    ours = theirs = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = torch.tanh(ours)
        ours = euler_step(ours, velocity, levels[index], levels[index + 1])
        theirs = scheduler.step(velocity, timestep, theirs).prev_sample
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scheme", ["uniform", "logit_normal"])
def test_sigmas_fill_their_interval_and_come_from_the_generator_alone(scheme: str) -> None:
    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return sample_sigmas(4000, scheme=scheme, t_min=0.2, t_max=0.6, generator=generator)

    sigma = draw()
    assert sigma.dtype == torch.float32
    assert torch.equal(sigma, draw())
    assert 0.2 <= sigma.min() < 0.24
    assert 0.56 < sigma.max() <= 0.6
    # Standard deviation of U(0, 1) and of the sigmoid of a standard normal, times the width 0.4.
    expected = {"uniform": 0.2887, "logit_normal": 0.2083}[scheme] * 0.4
    assert sigma.mean().item() == pytest.approx(0.4, abs=0.01)
    assert sigma.std().item() == pytest.approx(expected, abs=0.004)


def test_schnells_own_levels_are_drawn_alike_and_kept_within_their_limits() -> None:
    def draw(**limits: float) -> dict[float, int]:
        generator = torch.Generator().manual_seed(3)
        sigma = sample_sigmas(4000, scheme="schnell", shift=3.0, generator=generator, **limits)
        values, counts = sigma.unique(return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    found = draw()
    assert list(found) == [0.25, 0.5, 0.75, 1.0]
    assert all(count == pytest.approx(1000, abs=100) for count in found.values())
    assert list(draw(t_min=0.3, t_max=0.8)) == [0.5, 0.75]
    with pytest.raises(ValueError, match=r"lies between 0\.3 and 0\.4"):
        draw(t_min=0.3, t_max=0.4)


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_the_shift_is_that_of_flux_dev(tokens: int) -> None:
    """Against diffusers' pipeline and scheduler, for pictures of several sizes."""
    config = {"shift": 3.0, "use_dynamic_shifting": True}
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    levels = torch.linspace(1.0, 0.1, 10)
    scheduler.set_timesteps(sigmas=levels.tolist(), mu=calculate_shift(tokens))
    ours = shifted(levels, resolution_shift(tokens))
    torch.testing.assert_close(ours, scheduler.sigmas[:-1])
    assert shifted(levels, 1.0) is levels


def test_shifted_draws_stay_within_their_limits_and_move_towards_noise() -> None:
    def mean(shift: float) -> float:
        generator = torch.Generator().manual_seed(3)
        sigma = sample_sigmas(4000, t_min=0.2, t_max=0.6, shift=shift, generator=generator)
        assert 0.2 <= sigma.min() <= sigma.max() <= 0.6
        return sigma.mean().item()

    # For u uniform, E[3u / (1 + 2u)] = 3/2 - 3/4 ln 3.
    assert mean(3.0) == pytest.approx(0.2 + 0.4 * (1.5 - 0.75 * 1.0986), abs=0.01)
    assert mean(1.0) == pytest.approx(0.4, abs=0.01)
    with pytest.raises(ValueError, match="shift must be > 0, got 0"):
        shifted(torch.ones(1), 0.0)


def test_bad_arguments_are_refused_with_their_values() -> None:
    latents = torch.zeros(2, 3)
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"\(2,\).*got \(3,\)"):
        noise_latents(latents, latents, torch.zeros(3))
    with pytest.raises(ValueError, match=r"noise \(2, 4\)"):
        velocity_target(latents, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="cosine"):
        sample_sigmas(2, scheme="cosine", generator=generator)
    with pytest.raises(ValueError, match=r"0\.9 and 0\.1"):
        sample_sigmas(2, t_min=0.9, t_max=0.1, generator=generator)
    with pytest.raises(ValueError, match="got 0"):
        inference_sigmas(0)
