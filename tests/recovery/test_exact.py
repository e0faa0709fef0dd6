"""Planted sparse noise on low-rank spans: undone, found and certified; and what must never be certified."""

import pytest
import torch

from depurate.recovery import exact_recovery
from depurate.spans import Span


def planted(rank=6, fan_in=80, kernels=12, share=0.1, dtype=torch.float64, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator).double()  # noqa: E731
    directions = torch.linalg.qr(normal(fan_in, rank)).Q
    anchor = (normal(kernels, fan_in) / fan_in**0.5).to(dtype)
    clean = (anchor.double() + normal(kernels, rank) @ directions.T).to(dtype)
    hits = torch.rand(kernels, fan_in, generator=generator) < share
    suspect = torch.where(hits, clean + scale * normal(kernels, fan_in).to(dtype), clean)
    span = Span(directions, torch.full((rank,), 1 / rank).double())
    return span, suspect, anchor, clean, hits


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e6])
def test_planted_noise_is_undone_found_and_certified(scale):
    span, suspect, anchor, clean, hits = planted(scale=scale)
    fit = exact_recovery(span, suspect, anchor, 1e-11)
    assert bool(fit.certified.all())
    assert torch.equal(fit.hits, hits)
    torch.testing.assert_close(fit.kernels, clean, rtol=1e-9, atol=1e-9)
    assert torch.equal(fit.kernels[~hits], suspect[~hits])
    assert float(fit.gap.max()) < 1e-9
    assert float(fit.margin.max()) < 1
    assert fit.rank == 6


def test_float32_weights_are_recovered_to_their_rounding():
    span, suspect, anchor, clean, hits = planted(dtype=torch.float32)
    fit = exact_recovery(span, suspect, anchor, 1e-5)
    assert fit.kernels.dtype == torch.float32
    assert bool(fit.certified.all())
    assert torch.equal(fit.hits, hits)
    torch.testing.assert_close(fit.kernels, clean, rtol=1e-5, atol=1e-5)
    assert torch.equal(fit.kernels[~hits], suspect[~hits])


def test_no_noise_no_change():
    span, suspect, anchor, clean, _ = planted(share=0.0)
    fit = exact_recovery(span, suspect, anchor, 1e-11)
    assert torch.equal(fit.kernels, clean)
    assert not fit.hits.any()
    assert bool(fit.certified.all())


def test_a_span_that_is_everything_is_never_certified():
    fan_in = 8
    span = Span(torch.eye(fan_in).double(), torch.full((fan_in,), 1 / fan_in).double())
    suspect = torch.randn(5, fan_in).double()
    suspect[0] = 0
    fit = exact_recovery(span, suspect, torch.zeros_like(suspect), 1e-11)
    assert not fit.certified.any()
    assert torch.equal(fit.kernels, suspect)


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_noise_that_is_not_sparse_is_never_certified(share):
    span, suspect, anchor, _, _ = planted(share=share, fan_in=40, kernels=8)
    assert not exact_recovery(span, suspect, anchor, 1e-11).certified.any()


def test_an_update_outside_the_span_is_never_certified():
    span, _, anchor, _, _ = planted(fan_in=40, kernels=8)
    suspect = anchor + torch.randn(8, 40, generator=torch.Generator().manual_seed(9)).double()
    assert not exact_recovery(span, suspect, anchor, 1e-11).certified.any()


def test_hit_and_lost_kernels_are_told_apart():
    span, suspect, anchor, clean, _ = planted(kernels=12)
    suspect[6:] = torch.randn(6, 80, generator=torch.Generator().manual_seed(5)).double()
    fit = exact_recovery(span, suspect, anchor, 1e-11)
    assert fit.certified.tolist() == [True] * 6 + [False] * 6
    torch.testing.assert_close(fit.kernels[:6], clean[:6])


def test_recovery_past_the_rank_breaks_down_without_a_false_certificate():
    """Every certificate given over the phase transition must be true."""
    given = 0
    for seed, share in enumerate((0.1, 0.3, 0.7)):
        span, suspect, anchor, clean, _ = planted(rank=12, fan_in=48, share=share, kernels=8, seed=seed)
        fit = exact_recovery(span, suspect, anchor, 1e-11)
        error = (fit.kernels - clean).abs().amax(1)
        assert bool((error[fit.certified] < 1e-8).all())
        given += int(fit.certified.sum())
    assert 8 <= given < 24


@pytest.mark.parametrize(
    ("rounding", "fan_in", "rank", "kernels"), [(1e-2, 65, 20, 16), (5e-2, 65, 20, 8), (1e-3, 300, 20, 16)]
)
@pytest.mark.parametrize("misfit", [1.0, 0.3])
def test_residuals_within_rounding_by_accident_certify_nothing(rounding, fan_in, rank, kernels, misfit):
    """Coarse weights put some residuals of any fit below their rounding; that is no sparse noise."""
    span, suspect, anchor, _, _ = planted(rank=rank, fan_in=fan_in, kernels=kernels, share=0.0)
    suspect = (
        suspect + misfit * torch.randn(kernels, fan_in, generator=torch.Generator().manual_seed(3)).double()
    )
    fit = exact_recovery(span, suspect, anchor, rounding)
    assert bool(((~fit.hits).sum(1) > fit.rank).any()), (
        "the case must be one that invites a false certificate"
    )
    assert not fit.certified.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_planted_noise_in_half_precision_is_still_certified(dtype):
    span, suspect, anchor, clean, _ = planted(fan_in=200, kernels=6)
    rounding = {torch.float16: 1e-2, torch.bfloat16: 5e-2}[dtype]
    suspect, anchor = suspect.to(dtype).double(), anchor.to(dtype).double()
    fit = exact_recovery(span, suspect, anchor, rounding)
    assert bool(fit.certified.all())
    assert float((fit.kernels - clean).norm() / clean.norm()) < rounding


def test_rows_outside_the_reach_of_the_span_are_no_evidence():
    generator = torch.Generator().manual_seed(4)
    design = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    design[:20] = 0  # pixels that are black in every image: always fitted, whatever the coefficients
    directions = torch.linalg.qr(design[20:]).Q
    span = Span(torch.cat([torch.zeros(20, 6).double(), directions]), torch.full((6,), 1 / 6).double())
    clean = (span.directions @ torch.randn(6, 200, generator=generator, dtype=torch.float64)).T
    hit = torch.rand(clean.shape, generator=generator) < 0.45
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    fit = exact_recovery(span, torch.where(hit, clean + noise, clean), torch.zeros_like(clean), 1e-11)
    wrong = (fit.kernels - clean).abs().amax(1) > 1e-9
    assert wrong.any()
    assert not (wrong & fit.certified).any()
