"""The scaling law is recovered where it holds exactly, and says how far it can be trusted where it does not."""

import numpy as np
import pytest

from astray.errors import ConfigurationError
from astray.explain.sae_scaling import ScalingGrid, fit_scaling, train_grid
from astray.explain.sae_training import SaeRecipe
from test_explain_sae_training import SITE, sparse_data

LATENTS, KS = zip(*[(n, k) for n in (64, 128, 256) for k in (2, 4, 8)], strict=True)
COEFFICIENTS = (-0.5, 0.26, -0.3, -0.042)


def law(latents: int, k: int) -> float:
    alpha, beta_k, beta_n, gamma = COEFFICIENTS
    return float(np.exp(alpha) * k**beta_k * latents**beta_n * np.exp(gamma * np.log(k) * np.log(latents)))


EXACT = [law(n, k) for n, k in zip(LATENTS, KS, strict=True)]


def test_a_law_that_holds_is_recovered() -> None:
    fitted = fit_scaling(LATENTS, KS, EXACT)
    assert (fitted.alpha, fitted.beta_k, fitted.beta_n, fitted.gamma) == pytest.approx(COEFFICIENTS)
    assert fitted.r_squared == pytest.approx(1)
    assert fitted.left_out_error < 1e-9
    assert fitted.unexplained(1024, 16) == pytest.approx(law(1024, 16))


def test_the_left_out_error_is_that_of_fits_without_the_point() -> None:
    noisy = [
        value * float(np.exp(noise))
        for value, noise in zip(EXACT, np.random.default_rng(0).normal(0, 0.1, 9), strict=True)
    ]
    errors = []
    for left_out in range(9):
        others = [index for index in range(9) if index != left_out]
        without = fit_scaling(
            [LATENTS[one] for one in others], [KS[one] for one in others], [noisy[one] for one in others]
        )
        errors.append(np.log(noisy[left_out]) - np.log(without.unexplained(LATENTS[left_out], KS[left_out])))
    fitted = fit_scaling(LATENTS, KS, noisy)
    assert fitted.left_out_error == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))))
    assert fitted.r_squared < 1


def test_a_grid_of_trainings_gives_points_that_improve_with_k() -> None:
    recipe = SaeRecipe(latents=16, k=1, tokens=20_480, batch_size=256, learning_rate=4e-3)
    points = train_grid(
        sparse_data(10_000), ScalingGrid(recipe=recipe, latents=(16, 32, 64), ks=(1, 3)), site=SITE, model_id="toy"
    )
    assert [(point.latents, point.k) for point in points] == [(16, 1), (16, 3), (32, 1), (32, 3), (64, 1), (64, 3)]
    assert all(point.quality.tokens == 1000 for point in points)
    left = {(point.latents, point.k): 1 - point.quality.explained_variance for point in points}
    assert left[16, 1] > left[16, 3]
    assert left[64, 1] > left[64, 3]
    assert left[16, 3] > left[64, 3]
    fitted = fit_scaling([point.latents for point in points], [point.k for point in points], list(left.values()))
    assert 0 < fitted.r_squared <= 1


@pytest.mark.parametrize(
    ("latents", "ks", "errors", "complaint"),
    [
        (LATENTS[:5], KS[:5], EXACT[:5], "six points or more; there are 5 widths"),
        (LATENTS, KS, EXACT[:-1], "9 widths, 9 values of k, 8 errors"),
        ([64] * 9, KS, EXACT, "do not vary width and k independently"),
        (LATENTS, KS, [0.0, *EXACT[1:]], "An unexplained share of 0 has no logarithm"),
    ],
)
def test_points_that_determine_no_law_are_refused(
    latents: list[int], ks: list[int], errors: list[float], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        fit_scaling(latents, ks, errors)
