"""Non-local sparse attention against a literal loop over positions, chunks and rounds."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from enlca.attention.exact import dense_attention
from enlca.attention.lsh import LSHAttend, bucket_attention, bucket_count, hash_codes

B, N, D, E, R, K, L = 2, 59, 13, 5, 3, 2, 7  # distinct primes, but for 2: there are at least two of each
# Last chunk filled up; chunks that fit; two chunks; two, one of them filled up; one; fewer than one holds.
SIZES = [N, 8 * L, 2 * L, 2 * L - 1, L, L - 2]


def embeddings(n: int = N, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(B, c, n, generator=generator, dtype=torch.float64).to(dtype) for c in (D, D, E))


def random_rotations() -> Tensor:
    return torch.randn(R, D, K, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def loop(q: Tensor, k: Tensor, v: Tensor, rotations: Tensor, *, chunk: int) -> Tensor:
    """NLSA, one picture, one round and one position at a time."""
    n = q.shape[-1]
    pictures = []
    for picture in range(q.shape[0]):
        outputs, totals = [], []
        for rotation in rotations:
            sides = [[float(q[picture, :, i].detach() @ axis) for axis in rotation.T] for i in range(n)]
            signed = [[*side, *(-x for x in side)] for side in sides]
            codes = [row.index(max(row)) for row in signed]
            order = sorted(range(n), key=lambda i: (codes[i], i))
            chunks = [order[start : start + chunk] for start in range(0, n, chunk)]
            y, total = [torch.empty(0)] * n, [torch.empty(0)] * n
            for c, queries in enumerate(chunks):
                seen = {c, (c - 1) % len(chunks), (c + 1) % len(chunks)}
                keys = [j for other in seen for j in chunks[other]]
                for i in queries:
                    scores = torch.stack([q[picture, :, i] @ k[picture, :, j] for j in keys])
                    y[i] = v[picture][:, keys] @ scores.softmax(dim=0)
                    total[i] = scores.exp().sum()
            outputs.append(torch.stack(y, dim=-1))
            totals.append(torch.stack(total))
        weights = torch.stack(totals) / torch.stack(totals).sum(dim=0)
        pictures.append(sum(w * y for w, y in zip(weights, outputs, strict=True)))
    return torch.stack(pictures)


class Fixed(LSHAttend):
    """The module, with the rotations of the loop."""

    def rotations(self, dim: int, n_positions: int) -> Tensor:
        return random_rotations()


@pytest.mark.parametrize("n", SIZES)
def test_the_module_is_the_loop_in_value_and_gradient(n):
    inputs = [u.requires_grad_() for u in embeddings(n)]
    slow = loop(*inputs, random_rotations(), chunk=L)
    fast = Fixed(n_hashes=R, chunk=L)(*inputs)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad(fast, inputs, upstream), torch.autograd.grad(slow, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_hash_codes_are_the_nearest_of_the_directions_and_their_opposites():
    q, _, _ = embeddings()
    rotations = random_rotations()
    codes = hash_codes(q, rotations)
    assert codes.shape == (B, R, N)
    directions = torch.cat([rotations, -rotations], dim=-1)
    for b, r, i in [(0, 0, 0), (1, 2, 58), (1, 0, 31)]:
        products = [float(q[b, :, i] @ direction) for direction in directions[r].T]
        assert int(codes[b, r, i]) == max(range(2 * K), key=products.__getitem__)


def test_hashing_is_spherical():
    q, _, _ = embeddings()
    codes = hash_codes(q, random_rotations())
    assert torch.equal(hash_codes(1000 * q, random_rotations()), codes)
    assert torch.equal(hash_codes(-q, random_rotations()), (codes + K) % (2 * K))


def test_the_closer_two_vectors_the_likelier_they_hash_alike():
    generator = torch.Generator().manual_seed(1)
    x, other = torch.randn(2, 1, D, 4001, generator=generator).unbind(0)
    rotations = torch.randn(1, D, 8, generator=generator)
    alike = [
        float((hash_codes(x, rotations) == hash_codes(x + part * other, rotations)).double().mean())
        for part in (0.0, 0.1, 0.5, 2.0)
    ]
    assert alike[0] == 1.0
    # Each step is far beyond the noise of 4001 draws (0.008).
    assert all(near - far > 0.05 for near, far in pairwise(alike))


@pytest.mark.parametrize(
    ("n", "buckets"), [(10_000, 70), (144 * 9, 10), (144 * 9 - 1, 8), (143, 2), (10**6, 128)]
)
def test_buckets_hold_about_a_chunk_and_are_at_most_128(n, buckets):
    assert bucket_count(n, 144) == buckets


def test_with_one_bucket_a_chunk_sees_exactly_itself_and_the_chunks_beside_it():
    q, k, v = embeddings(5 * L)
    found = bucket_attention(q, k, v, torch.zeros(B, 5 * L, dtype=torch.long), chunk=L)
    for c in range(5):
        own = slice(c * L, (c + 1) * L)
        seen = [j for other in (c - 1, c, c + 1) for j in range(other % 5 * L, (other % 5 + 1) * L)]
        torch.testing.assert_close(
            found.y[..., own], dense_attention(q[..., own], k[..., seen], v[..., seen])
        )
        scores = q[..., own].mT @ k[..., seen]
        torch.testing.assert_close(found.log_total[..., own], scores.logsumexp(dim=-1))


@pytest.mark.parametrize("n", [L, L - 2, 3 * L, 3 * L - 4])
def test_where_neighbours_are_all_there_is_it_is_exact_attention(n):
    inputs = [u.requires_grad_() for u in embeddings(n)]
    sparse, dense = LSHAttend(n_hashes=R, chunk=L)(*inputs), dense_attention(*inputs)
    torch.testing.assert_close(sparse, dense)
    upstream = torch.randn_like(dense)
    for a, b in zip(
        torch.autograd.grad(sparse, inputs, upstream),
        torch.autograd.grad(dense, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_many_positions_are_not_exact_attention():
    q, k, v = embeddings()
    assert not torch.allclose(LSHAttend(n_hashes=R, chunk=L)(q, k, v), dense_attention(q, k, v))


def test_positions_of_one_code_keep_to_themselves_where_it_has_three_chunks():
    q, k, v = embeddings(6 * L)
    codes = (torch.arange(6 * L) % 2).expand(B, -1)
    whole = bucket_attention(q, k, v, codes, chunk=L).y
    even = bucket_attention(q, k, torch.where(codes.unsqueeze(1) == 0, v, 1e6), codes, chunk=L).y
    # The middle chunk of code 0 sees its own bucket alone; chunks at the border see the next bucket.
    torch.testing.assert_close(even[..., 2 * L : 4 * L : 2], whole[..., 2 * L : 4 * L : 2])
    assert bool((even[..., : 2 * L : 2] != whole[..., : 2 * L : 2]).all())


def test_the_output_is_an_average_of_values():
    q, k, v = embeddings()
    y = LSHAttend(n_hashes=R, chunk=L)(q, k, v)
    assert bool((y <= v.amax(dim=-1, keepdim=True) + 1e-12).all())
    torch.testing.assert_close(
        LSHAttend(n_hashes=R, chunk=L)(q, k, torch.full_like(v, 3.25)), torch.full_like(v, 3.25)
    )


def test_images_of_a_batch_do_not_influence_each_other():
    module = LSHAttend(n_hashes=R, chunk=L).eval()
    q, k, v = embeddings()
    torch.testing.assert_close(module(q, k, v)[1:], module(q[1:], k[1:], v[1:]))


def test_evaluation_is_deterministic_and_depends_on_the_seed_alone():
    inputs = embeddings()
    module = LSHAttend(chunk=L).eval()
    first = module(*inputs)
    module.train()(*inputs)
    module.redraw_(torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    assert torch.equal(module.eval()(*inputs), first)
    assert torch.equal(LSHAttend(chunk=L).eval()(*inputs), first)
    assert not torch.equal(LSHAttend(chunk=L, seed=1).eval()(*inputs), first)


def test_training_draws_anew_each_time_from_a_generator_that_a_seed_controls():
    inputs = embeddings()
    module = LSHAttend(chunk=L)
    module.redraw_(torch.Generator().manual_seed(3))
    twin = copy.deepcopy(module)
    state = torch.get_rng_state()
    first, second = module(*inputs), module(*inputs)
    assert not torch.equal(first, second)
    assert torch.equal(twin(*inputs), first)
    module.redraw_(torch.Generator().manual_seed(3))
    assert torch.equal(module(*inputs), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_owns_neither_parameters_nor_buffers():
    assert not LSHAttend().state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [6.0**0.5, 200.0])
def test_it_is_finite_in_every_type(dtype, length):
    q, k, v = embeddings(dtype=torch.float32)
    q, k = (length * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    y = LSHAttend(n_hashes=R, chunk=L)(q.to(dtype), k.to(dtype), v.to(dtype))
    assert y.dtype == dtype
    assert bool(y.isfinite().all())


def test_autocast_does_not_reach_the_sums():
    inputs = embeddings(dtype=torch.float32)
    module = LSHAttend(n_hashes=R, chunk=L).eval()
    expected = module(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(*inputs), expected)


@pytest.mark.parametrize("settings", [{"n_hashes": 0}, {"chunk": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        LSHAttend(**settings)


def test_more_rounds_come_closer_to_exact_attention():
    # The sum over 8 seeds: more rounds find more of the close pairs. Keys follow queries, as in NLSA.
    generator = torch.Generator().manual_seed(1)
    q = 3 * torch.randn(1, D, 30 * L, generator=generator, dtype=torch.float64)
    k = q / q.norm(dim=1, keepdim=True)
    v = torch.randn(1, E, 30 * L, generator=generator, dtype=torch.float64)
    exact = dense_attention(q, k, v)
    errors = [
        math.fsum(
            float((LSHAttend(n_hashes=rounds, chunk=L, seed=seed).eval()(q, k, v) - exact).square().mean())
            for seed in range(8)
        )
        for rounds in (1, 4, 16)
    ]
    assert errors[0] > errors[1] > errors[2]
