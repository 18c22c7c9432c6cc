import pytest
import torch

from training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(16, 144), (64, 16), (32, 32)])
def test_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix, steps=5))
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(16, 144), (64, 16), (384, 3456)])
def test_is_the_newton_schulz_iteration_as_published(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix[0] = 1e-3 * matrix[1]  # a direction that is almost not there
    x = matrix.double() / matrix.norm().double()
    x = x.T if shape[0] > shape[1] else x
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    wanted = x.T if shape[0] > shape[1] else x
    found = orthogonalise(matrix, steps=3)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_keeps_the_singular_vectors():
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalise(matrix, 3) @ v.T
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-4


def test_a_step_has_the_same_relative_size_whatever_the_gradient():
    sizes = []
    for scale in (1e-3, 1e3):
        weight = torch.nn.Parameter(
            torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(1))
        )
        weight.grad = scale * torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(2))
        Muon([weight], lr=0.0, momentum=0.6, newton_schulz=3).step()
        before = weight.detach().clone()
        assert before.norm().item() == pytest.approx(16**0.5, rel=1e-5)
        Muon([weight], lr=0.1, momentum=0.6, newton_schulz=3).step()
        sizes.append((weight - before).norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
