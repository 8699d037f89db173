"""The Fréchet distance of benchmarks/four_steps.py, against its formula.

If one of these failed, the distance between two sets of pictures would be another quantity than
the one that is cited.
"""

from __future__ import annotations

import numpy as np
import pytest
from frechet import frechet_distance


def test_frechet_distance_of_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4000, 3))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T))).T
    assert frechet_distance(base, base) == pytest.approx(0.0, abs=1e-9)
    # moved by (1, 2, 0): |m|^2 = 5; twice as wide along one axis: (2 - 1)^2 = 1
    moved = base + np.array([1.0, 2.0, 0.0])
    assert frechet_distance(moved, base) == pytest.approx(5.0)
    assert frechet_distance(moved * np.array([2.0, 1.0, 1.0]), base) == pytest.approx(8.0 + 1.0)
    # covariances that do not commute, against the matrix root of their product
    mix, other = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    one, two = base @ mix.T, base @ other.T
    roots = np.sqrt(np.linalg.eigvals(np.cov(one.T) @ np.cov(two.T)).astype(complex)).real.sum()
    expected = np.trace(np.cov(one.T)) + np.trace(np.cov(two.T)) - 2 * roots
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 3), (5, 2), (5,)])
def test_frechet_distance_refuses_what_has_no_covariance(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, D\)|at least two"):
        frechet_distance(np.zeros(shape), np.zeros((5, 3)))
