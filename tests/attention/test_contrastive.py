"""The contrastive loss against Eq. 8-10 as printed: a full sort and means of exponentials."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from enlca.attention.contrastive import contrastive_loss, rank_ranges, relevance

B, N, D = 2, 101, 13
AMPLIFICATION = 6.0


def unit(seed: int, n: int = N) -> Tensor:
    u = torch.randn(B, D, n, generator=torch.Generator().manual_seed(seed))
    return AMPLIFICATION**0.5 * u / u.norm(dim=1, keepdim=True)


def literal(
    q: Tensor, k: Tensor, *, count: int, first: int, b: float, hinge: bool = False, floor: float = 0.0
) -> Tensor:
    """Eq. 8-10: sort every row, exponentiate, average, take the logarithm of the quotient."""
    t = AMPLIFICATION * torch.cosine_similarity(q.mT[:, :, None], k.mT[:, None, :], dim=-1)
    ranked = t.sort(dim=-1, descending=True).values.exp()
    positive = ranked[..., :count].sum(dim=-1) / count
    negative = ranked[..., first : first + count].sum(dim=-1) / count
    terms = -torch.log(positive / (negative + floor)) + b
    return (terms.relu() if hinge else terms).mean()


def test_scores_are_amplified_cosines():
    q, k = unit(1), unit(2)
    expected = AMPLIFICATION * torch.cosine_similarity(q.mT[:, :, None], k.mT[:, None, :], dim=-1)
    torch.testing.assert_close(relevance(q, k), expected)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_the_loss_is_eq_10_in_value_and_gradient(margin):
    q, k = unit(1).requires_grad_(), unit(2).requires_grad_()
    fast = contrastive_loss(q, k, relevant=0.03, start=0.08, margin=margin).loss
    slow = literal(q, k, count=3, first=8, b=margin)
    torch.testing.assert_close(fast, slow)
    for u, a, b in zip(
        (q, k), torch.autograd.grad(fast, (q, k)), torch.autograd.grad(slow, (q, k)), strict=True
    ):
        # Eq. 8 divides by the lengths; ours are sqrt(k) by construction, so only tangential parts count.
        radial = u / u.norm(dim=1, keepdim=True)
        tangential = a - (a * radial).sum(dim=1, keepdim=True) * radial
        torch.testing.assert_close(tangential, b, atol=1e-7, rtol=1e-4)


def test_the_released_form_has_fixed_ranks_a_hinge_and_a_floor():
    q, k = unit(1), unit(2)
    fast = contrastive_loss(q, k, relevant=15, start=50, hinge=True, irrelevant_floor=1e-6).loss
    torch.testing.assert_close(fast, literal(q, k, count=15, first=50, b=1.0, hinge=True, floor=1e-6))
    # The hinge does something here: without it the loss is lower.
    assert float(fast) > float(contrastive_loss(q, k, relevant=15, start=50).loss)


def test_the_gap_is_the_margin_less_the_loss():
    result = contrastive_loss(unit(1), unit(2), margin=1.0)
    torch.testing.assert_close(result.gap, 1.0 - result.loss)


def chosen(q: Tensor, k: Tensor, **settings) -> Tensor:
    """Which queries of each image the loss was taken over, `B N`: those that it has a gradient for."""
    q = q.detach().requires_grad_()
    [gradient] = torch.autograd.grad(contrastive_loss(q, k, **settings).loss, q)
    return gradient.abs().sum(dim=1) > 0


@pytest.mark.parametrize("hinge", [False, True])
def test_over_many_seeds_anchors_estimate_the_full_loss_and_gap_without_bias(hinge):
    q, k = unit(1), unit(2)
    # A margin that half of the queries have reached, so that the hinge is felt.
    settings = {"margin": 1.8, "hinge": hinge}
    draws = [
        contrastive_loss(q, k, anchors=7, generator=torch.Generator().manual_seed(seed), **settings)
        for seed in range(400)
    ]
    full = contrastive_loss(q, k, **settings)
    for estimates, exact in zip(zip(*draws, strict=True), full, strict=True):
        estimates = torch.stack(estimates).double()
        error = float(estimates.std()) / math.sqrt(len(estimates))
        assert 0 < abs(float(estimates.mean() - exact)) < 4 * error


def test_the_mean_over_all_sets_of_anchors_is_the_full_loss_in_value_and_gradient():
    n, anchors = 7, 2
    q, k = (unit(seed, n)[:1].requires_grad_() for seed in (1, 2))
    settings = {"relevant": 2, "start": 3}

    def results(**more) -> list[Tensor]:
        terms = contrastive_loss(q, k, **settings, **more)
        return [*terms, *torch.autograd.grad(terms.loss, (q, k))]

    seen = {}
    for seed in range(400):
        found = results(anchors=anchors, generator=torch.Generator().manual_seed(seed))
        queries = tuple(found[2][0].abs().sum(dim=0).nonzero().flatten().tolist())
        seen[queries] = found
    # Every subset of two has come up, and each one always with the same loss.
    assert len(seen) == math.comb(n, anchors)
    for parts, whole in zip(zip(*seen.values(), strict=True), results(), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), whole)


def test_each_query_is_chosen_equally_often_and_each_image_chooses_for_itself():
    images, anchors = 600, 7
    q, k = (unit(seed)[:1].expand(images, -1, -1) for seed in (1, 2))
    picks = chosen(q, k, anchors=anchors, generator=torch.Generator().manual_seed(3))
    assert (picks.sum(dim=1) == anchors).all()
    assert len(picks.unique(dim=0)) == images
    share = anchors / N
    deviations = (picks.sum(dim=0) - images * share) / math.sqrt(images * share * (1 - share))
    assert deviations.abs().max() < 4


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that was made, in the forward pass and in the backward."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


@pytest.mark.parametrize(("anchors", "growth"), [(7, 2), (None, 4)])
def test_memory_is_linear_in_the_positions_with_anchors_and_quadratic_without(anchors, growth):
    def largest(n: int) -> int:
        q, k = unit(1, n).requires_grad_(), unit(2, n).requires_grad_()
        with Largest() as made:
            generator = torch.Generator().manual_seed(1)
            loss = contrastive_loss(q, k, anchors=anchors, generator=generator).loss
            torch.autograd.grad(loss, (q, k))
        return made.elements

    assert largest(2 * N) == growth * largest(N)
    assert (largest(N) < N * N) == (anchors is not None)


def test_all_queries_as_anchors_is_the_full_loss():
    q, k = unit(1), unit(2)
    assert contrastive_loss(q, k, anchors=N).loss == contrastive_loss(q, k).loss


def test_anchors_are_a_function_of_the_generator():
    q, k = unit(1), unit(2)

    def draw(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return float(contrastive_loss(q, k, anchors=7, generator=generator).loss)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_separating_relevant_from_irrelevant_keys_lowers_the_loss():
    # Half of the keys are one direction, half its opposite: a wide gap, against no gap at all.
    e = torch.zeros(1, D, N)
    e[:, 0] = AMPLIFICATION**0.5
    signs = torch.ones(N)
    signs[5:] = -1
    separated = contrastive_loss(e, e * signs, relevant=5, start=5)
    uniform = contrastive_loss(e, e, relevant=5, start=5)
    assert float(uniform.loss) == pytest.approx(1.0)
    assert float(separated.loss) == pytest.approx(1.0 - 2 * AMPLIFICATION)


@pytest.mark.parametrize(
    ("n", "relevant", "start", "expected"),
    [
        (784, 0.02, 0.08, (16, 63)),
        (576, 0.02, 0.08, (12, 46)),
        (784, 15, 50, (15, 50)),
        (10, 0.02, 0.08, (1, 1)),
    ],
)
def test_ranks_are_shares_of_the_positions_or_counts(n, relevant, start, expected):
    assert rank_ranges(n, relevant, start) == expected


def test_too_few_positions_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"ranks up to 65.*only 49 positions"):
        contrastive_loss(unit(1, 49), unit(2, 49), relevant=15, start=50)
