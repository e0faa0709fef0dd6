"""Conjugate gradients and Lanczos on Q_Zᵀ Q_Z for many row sets Z at once, through the shared basis alone."""

from __future__ import annotations

import torch
from torch import Tensor


def conjugate_gradients(basis: Tensor, mask: Tensor, right: Tensor, steps: int) -> Tensor:
    """Solve (Qᵀ diag(mask) Q) x = right for every problem by a fixed number of steps from zero.

    Args:
        basis: Q, shape (d, k).
        mask: Shape (p, d), 0 or 1 in the dtype of the basis.
        right: Shape (p, k); solved in the dtype of the basis, returned in its own.
        steps: Products with the matrix.
    """
    tiny = torch.finfo(basis.dtype).tiny
    size = torch.linalg.vector_norm(right, dim=1, keepdim=True)
    residual = (right / size.clamp_min(torch.finfo(right.dtype).tiny)).to(basis.dtype)
    solution, direction = torch.zeros_like(residual), residual
    energy = (residual * residual).sum(1, keepdim=True)
    for step in range(steps):
        across = (direction @ basis.T).mul_(mask)
        # |Q_Z p|² is pᵀ(Q_ZᵀQ_Z)p, so that the last step needs no second product.
        if step + 1 == steps:
            power = torch.linalg.vector_norm(across, dim=1, keepdim=True).square_()
            solution = torch.addcmul(solution, energy / power.clamp_min_(tiny), direction)
            break
        image = across @ basis
        length = energy / (direction * image).sum(1, keepdim=True).clamp_min(tiny)
        solution = torch.addcmul(solution, length, direction)
        residual = torch.addcmul(residual, length, image, value=-1)
        before, energy = energy, (residual * residual).sum(1, keepdim=True)
        direction = torch.addcmul(residual, energy / before.clamp_min(tiny), direction)
    scaled: Tensor = solution.to(right.dtype) * size
    return scaled


def smallest_eigenvalue(basis: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Estimate the smallest eigenvalue of Qᵀ diag(mask) Q by Lanczos from a random start, shape (p,).

    A singular matrix among eigenvalues of order one shows itself after a few steps unless the start is all but
    orthogonal to its null space.
    """
    steps = min(steps, basis.shape[1])
    # Drawn on the CPU: the same start on every device.
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(basis.shape[1], generator=generator, dtype=basis.dtype).to(basis.device)
    vector = (start / torch.linalg.vector_norm(start)).expand(mask.shape[0], -1)
    previous, link = torch.zeros_like(vector), vector.new_zeros(mask.shape[0], 1)
    triangle = basis.new_zeros(mask.shape[0], steps, steps)
    for step in range(steps):
        image = ((vector @ basis.T).mul_(mask)) @ basis - link * previous
        weight = (vector * image).sum(1, keepdim=True)
        triangle[:, step, step] = weight[:, 0]
        image = image - weight * vector
        link = torch.linalg.vector_norm(image, dim=1, keepdim=True)
        if step + 1 < steps:
            triangle[:, step, step + 1] = triangle[:, step + 1, step] = link[:, 0]
        previous, vector = vector, image / link.clamp_min(torch.finfo(basis.dtype).eps)
    values: Tensor = torch.linalg.eigvalsh(triangle)
    return values[:, 0]
