"""The released code's way of computing attention and loss, against ours with the released settings.

`benchmarks.training_step` compares the time of the two, which says something only if they compute the same.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from enlca.attention.block import Embeddings
from enlca.attention.linear import LinearAttend
from enlca.losses import ENLCALoss
from enlca.network.sr import SRNetwork
from enlca.network.zoo import enlcn_tiny, nlan

B, N, D, M, E = 2, 101, 13, 31, 7
AMPLIFICATION = 6.0


@pytest.fixture
def released(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from benchmarks import released

    return released


@pytest.fixture
def training_step(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    from benchmarks import training_step

    return training_step


def embeddings(seed: int, dtype: torch.dtype) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(B, size, N, generator=generator, dtype=dtype) for size in (D, D, E))
    q, k = (AMPLIFICATION**0.5 * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    return Embeddings(*(u.requires_grad_() for u in (q, k, v)))


def network(released) -> SRNetwork:
    """With the released settings, and embeddings so short in its last block that the released eps decides."""
    small = {"channels": 12, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 5, "n_features": 7}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = enlcn_tiny(2, **small, **released.RELEASED_NETWORK)
        embed = made.body[-1].embed
        for convolution in (embed.query, embed.key):
            convolution.weight.data *= 2e-5
            convolution.bias.data.zero_()
        return made


def outcome(network: SRNetwork, loss, *, contrast: bool = True) -> tuple[list[Tensor], Tensor]:
    """The picture and the terms of the loss; and the gradient of all parameters. In double precision."""
    network = network.double()
    generator = torch.Generator().manual_seed(4)
    lr = torch.rand(B, 3, 11, 13, generator=generator, dtype=torch.float64)
    hr = torch.rand(B, 3, 22, 26, generator=generator, dtype=torch.float64)
    sr, seen = network.forward_with_embeddings(lr)
    terms = loss(sr, hr, seen, contrast=contrast)
    gradients = torch.autograd.grad(terms.total, list(network.parameters()))
    return [sr, *terms], torch.cat([gradient.flatten() for gradient in gradients])


def test_attention_is_ours_with_a_floor_in_value_and_gradient(released):
    seen = embeddings(1, torch.float64)
    ours = LinearAttend(D, n_features=M, floor=1e-4, generator=torch.Generator().manual_seed(2))
    twin = released.ReleasedAttend(ours.projection)
    torch.testing.assert_close(twin(*seen), ours(*seen))
    upstream = torch.randn(B, E, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients = [torch.autograd.grad(attend(*seen), seen, upstream) for attend in (twin, ours)]
    for theirs, mine in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, mine)
    # The floor is felt: without it the outputs are others.
    ours.floor = 0.0
    assert (twin(*seen) - ours(*seen)).abs().max() > 1e-4


def test_the_loss_is_ours_with_the_released_ranks_hinge_and_floor_in_value_and_gradient(released):
    blocks = [embeddings(seed, torch.float32) for seed in (1, 2)]
    leaves = [leaf for seen in blocks for leaf in (seen.q, seen.k)]
    sr, hr = torch.rand(2, B, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    theirs = released.ReleasedLoss()(sr, hr, blocks, contrast=True)
    mine = ENLCALoss(**released.RELEASED_LOSS)(sr, hr, blocks, contrast=True)
    torch.testing.assert_close(list(theirs), list(mine))
    # The hinge is felt: some queries have reached the margin.
    assert theirs.contrast > 1 - theirs.gap
    gradients = [torch.autograd.grad(terms.contrast, leaves) for terms in (theirs, mine)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()), rtol=1e-4)


def test_the_loss_is_l1_alone_during_the_warm_up(released):
    sr, hr = torch.rand(2, B, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    seen = [embeddings(1, torch.float32)]
    theirs = released.ReleasedLoss()(sr, hr, seen, contrast=False)
    torch.testing.assert_close(list(theirs), list(ENLCALoss()(sr, hr, seen, contrast=False)))


@pytest.mark.parametrize(("contrast", "tolerance"), [(False, 1e-6), (True, 1e-5)])
def test_a_network_made_released_has_our_pictures_losses_and_gradients(released, contrast, tolerance):
    ours = network(released)
    mine, gradient = outcome(
        ours, ENLCALoss(contrast_weight=1.0, **released.RELEASED_LOSS), contrast=contrast
    )
    theirs, other = outcome(
        released.as_released(ours), released.ReleasedLoss(contrast_weight=1.0), contrast=contrast
    )
    torch.testing.assert_close(theirs, mine, check_dtype=False, rtol=1e-5, atol=1e-6)
    # Our loss is taken in single precision, whatever comes in; and divided by the released eps its gradient
    # for the keys' bias is a small sum of large terms, because Eq. 10 does not mind what all keys share.
    scale = gradient.abs().clamp(min=gradient.abs().max() if contrast else 1e-3)
    assert ((other - gradient).abs() <= tolerance * scale).all()


def test_the_released_eps_is_felt(released):
    ours = network(released)
    [theirs, *_], _ = outcome(released.as_released(ours), released.ReleasedLoss())
    ours.body[-1].embed.eps = 1e-12
    [mine, *_], _ = outcome(ours, ENLCALoss())
    assert (mine - theirs).abs().max() > 1e-4


def test_making_a_network_released_leaves_the_network_alone(released):
    ours = network(released)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    twin = released.as_released(ours)
    assert twin.state_dict().keys() == before.keys()
    for tensor in twin.state_dict().values():
        tensor.zero_()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    assert all(isinstance(block.attend, LinearAttend) for block in ours.body if hasattr(block, "attend"))


def test_other_attentions_have_no_released_form(released):
    exact = nlan(2, channels=8, n_blocks=1, blocks_per_stage=1, embed_channels=4)
    with pytest.raises(ValueError, match="no other attention"):
        released.as_released(exact)


def test_the_benchmark_accepts_what_computes_the_same(training_step):
    training_step.check()


def test_the_benchmark_refuses_a_twin_that_computes_something_else(training_step, released, monkeypatch):
    rank = released.released_contrast
    monkeypatch.setattr(released, "released_contrast", lambda q, k: rank(k, q))
    with pytest.raises(RuntimeError, match="twin computes something else"):
        training_step.check()


def test_the_benchmark_refuses_biased_anchors(training_step, monkeypatch):
    right = training_step.contrastive_loss

    def biased(q, k, *, anchors=None, generator=None):
        terms = right(q, k, anchors=anchors, generator=generator)
        return terms._replace(loss=terms.loss * (1.05 if anchors == training_step.ANCHORS else 1))

    monkeypatch.setattr(training_step, "contrastive_loss", biased)
    with pytest.raises(RuntimeError, match="anchors do not estimate"):
        training_step.check()
