"""Exponentials without a shift: used at all lengths of embeddings, never where digits would be lost."""

import pytest
import torch
from torch import Tensor

from enlca.attention import chunked
from enlca.attention.chunked import read_forward, summarise_forward
from enlca.attention.features import log_features, orthogonal_gaussian
from enlca.attention.linear import read, summarise

N, D, M, E = 613, 64, 127, 7


def inputs(amplification: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """F and q, k, v; a third of the keys and queries lie along a row of F, a third against it."""
    generator = torch.Generator().manual_seed(1)
    f = orthogonal_gaussian(M, D, generator=generator)
    q, k, v = (torch.randn(2, c, N, generator=generator) for c in (D, D, E))
    for u in (q, k):
        u[..., : N // 3] = f[0].unsqueeze(-1)
        u[..., N // 3 : 2 * N // 3] = -f[0].unsqueeze(-1)
        u.mul_(amplification**0.5 / u.norm(dim=1, keepdim=True))
    return f, q, k, v


@pytest.fixture
def verdicts(monkeypatch):
    """What the two unshifted functions returned, in order: whether numbers were in range."""
    found: list[bool] = []

    def noted(function):
        def call(*arguments):
            found.append(function(*arguments))
            return found[-1]

        return call

    for name in ("_summarise_unshifted", "_read_unshifted"):
        monkeypatch.setattr(chunked, name, noted(getattr(chunked, name)))
    return found


def attend(f: Tensor, q: Tensor, k: Tensor, v: Tensor, floor: float = 0.0) -> Tensor:
    return read_forward(q, *summarise_forward(k, v, f, floor), f, floor)


def shifted(f: Tensor, q: Tensor, k: Tensor, v: Tensor, floor: float = 0.0) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_summarise_unshifted", "_read_unshifted"):
            patch.setattr(chunked, name, lambda *_: False)
        return attend(f, q, k, v, floor)


def error(y: Tensor, f: Tensor, q: Tensor, k: Tensor, v: Tensor, floor: float = 0.0) -> float:
    """Relative to the largest value, against the formulas in float64."""
    f, q, k, v = (u.double() for u in (f, q, k, v))
    exact = read(log_features(q, f, floor=floor), summarise(log_features(k, f, floor=floor), v))
    return float((y - exact).abs().max() / exact.abs().max())


def rounding(amplification: float) -> float:
    """Rounding of sums of products in float32, or four times that of the largest exponent."""
    return max(3e-6, 4 * 2**-24 * (11 * amplification**0.5 + amplification / 2))


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("amplification", [0.5, 1, 6, 10])
def test_embeddings_of_every_amplification_in_use_need_no_shift(amplification, floor, verdicts):
    given = inputs(amplification)
    assert error(attend(*given, floor), *given, floor) <= rounding(amplification)
    assert verdicts == [True, True]


OUT_OF_RANGE = {
    "long keys and queries": (400.0, 1.0),
    "so long that nothing is finite": (1e60, 1.0),
    "values that would overflow in sums": (6.0, 1e36),
    "values whose products would lose digits": (6.0, 1e-30),
    "no values at all": (6.0, 0.0),
}


@pytest.mark.parametrize(("amplification", "scale"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_numbers_out_of_range_take_the_shifted_path_to_the_bit(amplification, scale, verdicts):
    f, q, k, v = inputs(1.0)
    given = f, q * amplification**0.5, k * amplification**0.5, v * scale
    y = attend(*given)
    assert verdicts == [False, False]
    assert torch.equal(y, shifted(*given))
    if scale > 0 and amplification < 1e30:
        assert error(y, *given) <= rounding(amplification)


def test_one_far_query_is_detected_and_a_far_key_changes_no_other(verdicts):
    f, q, k, v = inputs(6.0)
    far = q.clone()
    far[1, :, 5] = 1e30
    others = [attend(f, u, k, v)[..., 6:] for u in (far, q)]
    assert float((others[0] - others[1]).abs().max()) <= rounding(6.0) * float(others[1].abs().max())
    # |k|^2 is infinite and phi zero, as it should be.
    assert error(attend(f, q, far, v), f, q, far, v) <= rounding(6.0)
    assert verdicts == [True, False, True, True, True, True]


def test_features_far_from_all_keys_are_detected(verdicts):
    # Totals of 1e-30: what underflows beside them would count.
    f, q, _, v = inputs(6.0)
    along = f[:1] / f[0].norm()
    keys = (-along.mT * 8).expand(2, D, N)
    y = attend(10 * along, q, keys, v)
    assert verdicts[0] is False
    assert error(y, 10 * along, q, keys, v) <= rounding(64.0)
