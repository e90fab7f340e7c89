import numpy as np
import pytest
import torch

from enlca.inference.store import Store, spooled
from enlca.inference.tiles import Region


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("limit", [None, 0])
def test_a_store_has_two_maps_in_turn_that_keep_what_was_written(dtype, limit, tmp_path):
    with Store(5, 7, 11, dtype=dtype, limit=limit, folder=tmp_path) as store:
        first, second = store.turn(), store.turn()
        assert store.turn() is first
        assert store.turn() is second
        ones, region = torch.ones(1, 5, 7, 11, dtype=dtype), Region(2, 3, 6, 10)
        first.write(Region(0, 0, 7, 11), ones)
        first.write(region, 2 * ones[..., :4, :7])
        held = first.read(Region(0, 0, 7, 11))
        assert held[..., 2:6, 3:10].eq(2).all()
        assert float(held.double().sum()) == 5 * (77 + 28)
        assert torch.equal(first.read(region), held[..., 2:6, 3:10])


def test_rows_that_come_once_become_a_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    with spooled((pixels[top : top + 3] for top in range(0, 20, 3)), folder=tmp_path) as gathered:
        np.testing.assert_array_equal(gathered, pixels)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="same width, got 17 and 16"), spooled([pixels, pixels[:, 1:]]):
        pass
    with pytest.raises(ValueError, match="at least one row"), spooled([]):
        pass
