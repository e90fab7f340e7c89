import pytest
import torch

from enlca.inference.feature_cache import FeatureCache
from enlca.inference.tiles import Region


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("limit", [None, 0])
def test_a_cache_has_two_buffers_in_turn_that_keep_what_was_written(dtype, limit, tmp_path):
    with FeatureCache(5, 7, 11, dtype=dtype, limit=limit, folder=tmp_path) as cache:
        first, second = cache.next_buffer(), cache.next_buffer()
        assert cache.next_buffer() is first
        assert cache.next_buffer() is second
        ones, region = torch.ones(1, 5, 7, 11, dtype=dtype), Region(2, 3, 6, 10)
        first.write(Region(0, 0, 7, 11), ones)
        first.write(region, 2 * ones[..., :4, :7])
        held = first.read(Region(0, 0, 7, 11))
        assert held[..., 2:6, 3:10].eq(2).all()
        assert float(held.double().sum()) == 5 * (77 + 28)
        assert torch.equal(first.read(region), held[..., 2:6, 3:10])
