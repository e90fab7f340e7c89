"""Each row of weights against the N x N matrix that it is a row of, and against attention's own output."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from enlca.analysis.approximation import attend_with
from enlca.analysis.correlation import (
    CHUNK,
    View,
    exact_weights,
    linear_weights,
    own_weights,
    redraw_spread,
    sparse_weights,
    sparsity,
    view_of,
)
from enlca.attention.exact import ExactAttend
from enlca.attention.features import orthogonal_gaussian, positive_features
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.attention.sharp import SharpAttend
from enlca.network.sr import SRNetwork
from enlca.network.zoo import enlcn_tiny

N, D, M, E, R, L = 59, 13, 31, 5, 3, 7  # distinct primes: a swapped axis cannot hide
SMALL = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 11}


def view(attend: nn.Module | None = None, *, n: int = N, amplification: float = 6.0) -> View:
    generator = torch.Generator().manual_seed(5)

    def unit() -> Tensor:
        u = torch.randn(D, n, generator=generator, dtype=torch.float64)
        return amplification**0.5 * u / u.norm(dim=0)

    return View(unit(), unit(), 1, n, attend or ExactAttend())


def values(n: int = N) -> Tensor:
    return torch.randn(E, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def projection() -> Tensor:
    return orthogonal_gaussian(M, D, generator=torch.Generator().manual_seed(7))


def dense(seen: View, *, floor: float = 0.0) -> Tensor:
    """All of ENLA's weights, with the exponentials as Eq. 4 prints them."""
    f = projection().double()
    phi_q, phi_k = (positive_features(u[None], f, floor=floor)[0] for u in (seen.q, seen.k))
    weights = phi_q.mT @ phi_k
    return weights / weights.sum(dim=1, keepdim=True)


def network(attention: str = "linear") -> SRNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return enlcn_tiny(2, attention=attention, chunk=L, **SMALL).eval()


def picture(height: int = 11, width: int = 7) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_the_exact_row_is_a_row_of_the_softmax():
    seen = view()
    rows = (seen.q.mT @ seen.k).softmax(dim=1)
    for at in range(N):
        torch.testing.assert_close(exact_weights(seen, at), rows[at], atol=1e-12, rtol=0)


# One chunk, several with a last one that is not full, and one position per chunk.
@pytest.mark.parametrize("chunk", [CHUNK, 17, 1])
@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_the_linear_row_is_a_row_of_the_same_features_written_out(floor, chunk):
    seen = view()
    rows = dense(seen, floor=floor)
    for at in (0, 31, N - 1):
        torch.testing.assert_close(
            linear_weights(seen, at, attend_with(projection(), floor=floor), chunk=chunk),
            rows[at],
            atol=1e-6,
            rtol=0,
        )


@pytest.mark.parametrize("at", [0, 31, N - 1])
@pytest.mark.parametrize(
    "attend",
    [
        ExactAttend(),
        LinearAttend(D, n_features=M),
        LinearAttend(D, n_features=M, floor=1e-4),
        SharpAttend(D, n_features=M),
    ],
    ids=["exact", "linear", "linear with a floor", "sharp"],
)
def test_the_row_times_the_values_is_the_output_of_attention(attend, at):
    seen, v = view(attend), values()
    output = attend(seen.q[None], seen.k[None], v[None])[0, :, at]
    torch.testing.assert_close(v @ own_weights(seen, at), output, atol=1e-6, rtol=1e-5)


# Many chunks, the last filled up; chunks that fit; three; two; two, one filled up; one; fewer than it holds.
@pytest.mark.parametrize("n", [N, 8 * L, 3 * L - 2, 2 * L, 2 * L - 3, L, L - 2, 1])
def test_the_sparse_row_times_the_values_is_the_output_of_nlsa_everywhere(n):
    attend = LSHAttend(n_hashes=R, chunk=L, seed=11).eval()
    seen, v = view(attend, n=n), values(n)
    rows = torch.stack([own_weights(seen, at) for at in range(n)])
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(n, dtype=torch.float64))
    output = attend(seen.q[None], seen.k[None], v[None])[0]
    torch.testing.assert_close(v @ rows.mT, output)


def test_the_sparse_row_rests_on_three_chunks_a_round_at_most():
    attend = LSHAttend(n_hashes=R, chunk=L, seed=11).eval()
    for at in range(N):
        assert 0 < int((sparse_weights(view(attend), at, attend) > 0).sum()) <= 3 * L * R


def test_rows_stay_finite_where_the_features_themselves_overflow():
    weights = linear_weights(view(amplification=1e4), 0, attend_with(projection()))
    assert bool(weights.isfinite().all())
    assert float(weights.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("features", ["positive", "sharp"])
def test_the_spread_over_redraws_is_mean_and_deviation_of_the_rows(features):
    seen, draws, (one, again) = view(), 5, (torch.Generator().manual_seed(1) for _ in range(2))
    spread = redraw_spread(seen, 3, n_features=M, draws=draws, generator=one, features=features)
    attends = [
        attend_with(orthogonal_gaussian(M, D, generator=again), features=features) for _ in range(draws)
    ]
    rows = torch.stack([linear_weights(seen, 3, attend) for attend in attends])
    torch.testing.assert_close(spread.mean, rows.mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(spread.deviation, rows.std(dim=0), atol=1e-6, rtol=1e-5)


def test_a_spread_takes_two_draws():
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        redraw_spread(view(), 0, n_features=M, draws=1, generator=torch.Generator())


@pytest.mark.parametrize("n", [1, N, 997])
def test_equal_weights_are_as_many_as_there_are(n):
    found = sparsity(torch.full((n,), 0.25))
    assert found.entropy == pytest.approx(math.log2(n))
    assert found.effective == pytest.approx(n)
    assert found.top_share == pytest.approx(math.ceil(n / 100) / n)


def test_a_single_weight_is_one_with_no_entropy():
    weights = torch.zeros(997)
    weights[31] = 1.0
    assert sparsity(weights) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("attention", ["linear", "exact", "window", "lsh"])
def test_the_view_holds_the_embeddings_that_the_block_computes(attention):
    net, lr = network(attention), picture()
    with torch.inference_mode():
        _, embeddings = net.forward_with_embeddings(lr)
    for block, expected in enumerate(embeddings):
        seen = view_of(net, lr, block=block)
        assert torch.equal(seen.q, expected.q[0])
        assert torch.equal(seen.k, expected.k[0])
        assert (seen.height, seen.width) == lr.shape[2:]
        output = net.non_local_blocks[block].attended(expected, width=seen.width)[0, :, 31]
        torch.testing.assert_close(expected.v[0] @ own_weights(seen, 31), output)


def test_the_rows_of_the_package_s_own_network_are_its_output():
    from enlca.checkpoint.store import WEIGHTS, load

    assert Path(WEIGHTS).is_dir()
    net, lr = load("enlcn-tiny", scale=4), picture(17, 13)
    with torch.inference_mode():
        embeddings = net.forward_with_embeddings(lr)[1][1]
    seen = view_of(net, lr, block=1)
    output = seen.attend(*embeddings)[0, :, 101]
    torch.testing.assert_close(embeddings.v[0] @ own_weights(seen, 101), output, atol=1e-5, rtol=1e-5)


def test_amplifying_multiplies_every_product_and_one_over_k_undoes_k():
    seen = view(amplification=6.0)
    torch.testing.assert_close(seen.amplified(2.5).q.mT @ seen.amplified(2.5).k, 2.5 * seen.q.mT @ seen.k)
    unit = seen.amplified(1 / 6)
    torch.testing.assert_close(unit.q.norm(dim=0), torch.ones(N, dtype=torch.float64))


def test_positions_count_row_by_row():
    seen = view_of(network(), picture(11, 7), block=0)
    assert [seen.position(*at) for at in ((0, 0), (0, 6), (1, 0), (10, 6))] == [0, 6, 7, 76]


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (0, -1), (11, 0), (0, 7)])
def test_positions_outside_the_picture_are_refused(row, column):
    seen = view_of(network(), picture(11, 7), block=0)
    with pytest.raises(ValueError, match="outside a picture of 11 rows and 7 columns"):
        seen.position(row, column)


@pytest.mark.parametrize(
    ("attention", "block", "count"), [("linear", 3, 3), ("linear", -1, 3), ("none", 0, 0)]
)
def test_blocks_that_are_not_there_are_refused(attention, block, count):
    with pytest.raises(ValueError, match=f"no attention block {block}: this network has {count}"):
        view_of(network(attention), picture(), block=block)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_factor_that_is_not_positive_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be positive"):
        view().amplified(factor)
