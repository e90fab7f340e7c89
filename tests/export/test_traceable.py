"""The exported formulas give the network's values, at sizes that are no multiple of a block."""

import pytest
import torch

from enlca.attention.block import NonLocalBlock
from enlca.attention.linear import LinearAttend
from enlca.errors import ExportError
from enlca.export.attends import BLOCK, TraceableLinear
from enlca.export.traceable import TraceableBlock, traceable
from enlca.network.sr import SRConfig, SRNetwork


# Exact attention and windows are compiled wherever they run: test_parity runs them as they are exported.
@pytest.mark.parametrize("size", [(1, 1), (1, 13), (17, 1), (13, 17), (37, 61)])
@pytest.mark.parametrize("kind", ["linear", "released", "sharp", "fitted", "centred", "none"])
@torch.no_grad()
def test_the_traceable_copy_computes_what_the_network_computes(kind, size, small_network):
    network = small_network(kind)
    lr = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(traceable(network)(lr), network(lr), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_network_itself_is_left_as_it_was(small_network):
    network = small_network("linear").double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    traceable(network)
    assert any(isinstance(stage, NonLocalBlock) for stage in network.body)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("n_positions", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@torch.no_grad()
def test_positions_that_fill_up_a_block_have_no_weight(n_positions):
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(5, n_positions, generator=generator) for _ in range(2))
    v = torch.randn(3, n_positions, generator=generator)
    attend = LinearAttend(5, n_features=11, generator=generator)
    expected = attend.double()(q[None].double(), k[None].double(), v[None].double())[0].float()
    found = TraceableLinear(attend.float())(q.mT[None], k.mT[None], v.mT[None])[0].mT
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_million_positions_lose_no_digits():
    generator = torch.Generator().manual_seed(2)
    attend = LinearAttend(5, n_features=11, generator=generator)
    spot = torch.randn(5, 1, generator=generator)
    k = (spot + 1e-3 * torch.randn(5, 1_000_003, generator=generator)).contiguous()
    v = 1 + 0.1 * torch.rand(3, 1_000_003, generator=generator)
    expected = attend.double()(k[None, :, :7].double(), k[None].double(), v[None].double())[0]
    found = TraceableLinear(attend.float())(k[:, :7].mT[None], k.mT[None], v.mT[None])[0].mT.double()
    assert float((found / expected - 1).abs().max()) < 2e-6


@torch.no_grad()
def test_scores_that_overflow_an_exponential_stay_finite():
    q = 100 * torch.randn(1, 29, 5, generator=torch.Generator().manual_seed(2))
    attend = LinearAttend(5, n_features=11, generator=torch.Generator().manual_seed(2))
    found = TraceableLinear(attend)(q, q, q)
    assert found.isfinite().all()
    assert found.abs().max() <= q.abs().max() * (1 + 1e-6)


def test_nlsa_is_refused_in_one_line_that_says_why():
    network = SRNetwork(SRConfig(scale=2, channels=8, n_blocks=1, blocks_per_stage=1, attention="lsh"))
    says = r"^networks with attention lsh \(NLSA\) cannot be exported: .*hash"
    with pytest.raises(ExportError, match=says):
        traceable(network)


def test_every_other_attention_has_a_form_for_export(small_network):
    kinds = ("linear", "released", "sharp", "fitted", "exact", "window")
    blocks = [m for kind in kinds for m in traceable(small_network(kind)).modules()]
    assert not any(isinstance(block, NonLocalBlock) for block in blocks)
    assert sum(isinstance(block, TraceableBlock) for block in blocks) == 2 * len(kinds)
