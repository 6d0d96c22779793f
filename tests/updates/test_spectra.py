"""What a rank keeps of an update: against the singular values themselves and against real random signs."""

import numpy as np
import pytest
import torch

from labsupport.core.files import LabError
from labsupport.updates import spectra


def test_energy_and_rank():
    values = [3.0, 2.0, 1.0]
    assert spectra.energy_curve(values) == pytest.approx([9 / 14, 13 / 14, 1])
    assert [spectra.rank_for_energy(values, share) for share in (0.1, 9 / 14, 0.65, 13 / 14, 0.95, 1)] == [
        1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
    assert spectra.energy_curve(values[::-1]) == pytest.approx(spectra.energy_curve(values))
    for share in (0, -1, 1.1):
        with pytest.raises(LabError, match="share"):
            spectra.rank_for_energy(values, share)
    with pytest.raises(LabError, match="zero"):
        spectra.energy_curve([0.0, 0.0])


def test_error_is_that_of_the_best_approximation():
    torch.manual_seed(0)
    matrix = torch.randn(20, 30, dtype=torch.float64)
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    for rank in (1, 7, 20):
        error = (matrix - (U[:, :rank] * S[:rank]) @ V[:rank]).norm() / matrix.norm()
        assert spectra.error_at(S, rank) == pytest.approx(error.item(), abs=1e-7)


@pytest.mark.parametrize("shape", [(192, 576), (576, 576), (1536, 576)])
def test_random_spectrum_is_that_of_random_signs(shape):
    signs = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).sign()
    real, law = torch.linalg.svdvals(signs).numpy(), spectra.of_random_signs(*shape)
    assert law.shape == real.shape
    assert law[0] == pytest.approx(real[0], rel=0.02)
    # Single values near the edges scatter from draw to draw; the shares of energy, which are used, do not.
    assert np.abs(spectra.energy_curve(law) - spectra.energy_curve(real)).max() < 0.005
    assert (law**2).sum() == pytest.approx(shape[0] * shape[1], rel=1e-3)
    assert abs(spectra.rank_for_energy(law, 0.9) - spectra.rank_for_energy(real, 0.9)) <= 1


def test_text_keeps_four_digits():
    values = torch.tensor([12.345678, 0.00098761])
    assert spectra.to_text(values) == "1.235e+01 9.876e-04"
    assert spectra.from_text(spectra.to_text(values)) == [12.35, 0.0009876]
