"""One picture over several devices is the picture of one device, whatever its size and the network."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import enlca
from enlca.errors import DeviceError, NotFinite, StreamingError
from enlca.inference.execute import Executor
from enlca.inference.reach import needed
from enlca.inference.spread import Spread, _Meeting, band_of, bands_of_rank, bands_on_devices
from enlca.inference.strategy import Strategy
from enlca.inference.streaming import Share, stream
from enlca.inference.tiles import Region, cut
from enlca.network.sr import SRConfig, SRNetwork

STREAM = Strategy("stream", tile=16)


def network(**settings: object) -> SRNetwork:
    """Three local stages and four global ones, whose branches weigh much, so that nothing hides."""
    torch.manual_seed(0)
    sizes = {"channels": 7, "n_blocks": 6, "blocks_per_stage": 2, "embed_channels": 3, "n_features": 5}
    loud = {"scale": 2, "res_scale": 1.0, "attention_scale": 1.0}
    return SRNetwork(SRConfig(**{**sizes, **loud, **settings})).eval()  # pyright: ignore[reportArgumentType]


def picture(height: int, width: int, layers: int = 3) -> np.ndarray:
    return np.random.default_rng(height).random((height, width, layers))


def shared(net: SRNetwork, pixels: np.ndarray, n: int, tile: int) -> Tensor:
    """The SR picture, each of `n` threads streaming its band, in the network's type."""
    meeting, whole = _Meeting(n), Region(0, 0, *pixels.shape[:2])

    def rows(rank: int) -> Tensor:
        own = band_of(rank, n, *pixels.shape[:2])
        share = Share(own, lambda sums: meeting.gather(rank, sums))
        with stream(net, pixels, tile=tile, share=share) as piece:
            parts = [piece(region)[0] for region in cut(own, tile, whole.width)]
        return torch.cat(parts, dim=1)

    with ThreadPoolExecutor(n) as pool:
        return torch.cat(list(pool.map(rows, range(n))), dim=1)


KINDS = [{}, {"embed_kernel": 3, "skip": "bilinear"}, {"features": "sharp"}, {"attention": "none"}]
KINDS += [{"attention": "window", "window": 5, "halo": 3}, {"scale": 3, "upsampler": "direct"}]


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_bands_with_halos_and_combined_sums_are_the_whole_in_float64(settings):
    net, pixels = network(**settings).double(), picture(47, 17)
    with torch.inference_mode():
        whole = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(shared(net, pixels, 3, 16), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2), (3, 41), (37, 1), (53, 5)])
def test_at_every_size(size):
    net, pixels = network(embed_kernel=3).double(), picture(*size)
    with torch.inference_mode():
        whole = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(shared(net, pixels, 2, 17), whole, rtol=0, atol=1e-12)


def test_a_halo_that_is_one_pixel_too_small_would_be_seen(monkeypatch):
    net, pixels = network().double(), picture(61, 23)
    expected = shared(net, pixels, 2, 16)

    def too_small(network, own, whole):
        first, *others = needed(network, own, whole)
        # Inside the picture only; the cache keeps its size, and zeros where nothing is written.
        return [first, *(Region(r.top + (r.top > 0), 0, r.bottom - (r.top == 0), 23) for r in others)]

    monkeypatch.setattr("enlca.inference.streaming.needed", too_small)
    assert not torch.allclose(shared(net, pixels, 2, 16), expected, rtol=0, atol=1e-6)


def test_less_is_computed_on_each_device_than_on_one():
    whole = Region(0, 0, 400, 100)
    held = needed(network(), band_of(0, 2, 400, 100), whole)[0]
    assert held.top == 0
    # 3 stages of 2 residual blocks of 2 convolutions, the last convolution, and the upsampler.
    assert held.bottom == 200 + 3 * 2 * 2 + 1 + 2


@pytest.mark.parametrize(("layers", "dtype"), [(1, np.uint16), (3, np.uint8), (4, np.uint8)])
def test_devices_of_one_process_give_the_levels_of_one_device(layers, dtype):
    net = network()
    executor = Executor(net, net)
    pixels = (picture(29, 13, layers) * np.iinfo(dtype).max).astype(dtype)
    one = np.concatenate(list(executor.bands(pixels, STREAM)))
    several = np.concatenate(list(bands_on_devices([executor] * 3, pixels, STREAM)))
    # One level where a number lies between two of them; 1e-5 of 16 bits is 0.66 levels.
    np.testing.assert_allclose(several.astype(int), one.astype(int), atol=1)
    assert (several != one).mean() < 0.02


SIZES = ((37, 53), (3, 5), (61, 1))
SCRIPT = """
import sys, datetime
import numpy as np, torch, torch.distributed as dist
import enlca
from enlca.inference.execute import Executor
from enlca.inference.spread import bands_of_rank
from enlca.inference.strategy import Strategy
folder = sys.argv[1]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=1, world_size=2,
                        timeout=datetime.timedelta(seconds=60))
for features in ("positive", "sharp"):
    net = enlca.load(f"{folder}/{features}.safetensors")
    for height, width in ((37, 53), (3, 5), (61, 1)):
        pixels = np.random.default_rng(height).random((height, width, 3)).astype(np.float32)
        bands = bands_of_rank(Executor(net, net), pixels, Strategy("stream", tile=17))
        np.save(f"{folder}/{features}-{height}.npy", np.concatenate(list(bands)))
dist.destroy_process_group()
"""


def test_two_processes_are_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    nets = {features: network(features=features) for features in ("positive", "sharp")}
    for features, net in nets.items():
        enlca.save(net, tmp_path / f"{features}.safetensors")
    other = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    limit = timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=2, timeout=limit
    )
    try:
        found = {}
        for features, net in nets.items():
            for size in SIZES:
                pixels = picture(*size).astype(np.float32)
                found[features, size] = list(bands_of_rank(Executor(net, net), pixels, STREAM))
    finally:
        dist.destroy_process_group()
    assert other.wait(60) == 0
    for (features, size), bands in found.items():
        net, pixels = nets[features], picture(*size).astype(np.float32)
        one = np.concatenate(list(Executor(net, net).bands(pixels, Strategy())))
        rest = np.load(tmp_path / f"{features}-{size[0]}.npy")
        assert len(rest) > 0
        np.testing.assert_allclose(np.concatenate([*bands, rest]), one, rtol=0, atol=1e-5)


def test_an_error_on_one_device_ends_all_and_is_the_one_that_is_raised():
    good, bad = network(), network()
    with torch.no_grad():
        bad.upsampler[-1].bias.fill_(torch.nan)
        early = network()
        early.body[1][0].register_forward_pre_hook(_fail)
    pixels, before = picture(61, 23), threading.active_count()
    for broken, kind in ((bad, NotFinite), (early, ZeroDivisionError)):
        executors = [Executor(good, good), Executor(broken, broken)]
        for order in (executors, executors[::-1]):
            with pytest.raises(kind):
                list(bands_on_devices(order, pixels, STREAM))
    assert threading.active_count() == before


def _fail(*_: object) -> None:
    raise ZeroDivisionError


def test_a_consumer_that_stops_ends_all_threads():
    net, before = network(), threading.active_count()
    bands = bands_on_devices([Executor(net, net)] * 2, picture(200, 23), STREAM)
    next(bands)
    bands.close()
    assert threading.active_count() == before


def test_an_upscaler_of_several_devices_shares_what_has_enough_rows():
    net = network()
    one, two = enlca.Upscaler(net, device="cpu", mode="stream"), enlca.Upscaler(net, devices=["cpu", "cpu"])
    assert isinstance(two.executor, Spread)
    large, small = picture(67, 31).astype(np.float32), picture(9, 31).astype(np.float32)
    assert two.executor.shares(67, 31)
    assert not two.executor.shares(9, 31)
    assert not two.executor.shares(1, 31)
    for pixels in (large, small):
        np.testing.assert_allclose(two(pixels), one(pixels), rtol=0, atol=1e-5)
    tensor = torch.from_numpy(large).permute(2, 0, 1)
    torch.testing.assert_close(two(tensor), one(tensor), rtol=0, atol=1e-5)


def test_what_devices_cannot_share_is_refused():
    for settings in ({"attention": "exact"}, {"attention": "lsh", "embed_kernel": 3}):
        with pytest.raises(StreamingError, match="cannot be shared by devices"):
            enlca.Upscaler(network(**settings), devices=["cpu", "cpu"])
    for options in ({"ensemble": True}, {"mode": "whole"}, {"device": "cpu"}):
        with pytest.raises(ValueError, match="devices go with mode auto or stream"):
            enlca.Upscaler(network(), devices=["cpu", "cpu"], **options)
    with pytest.raises(DeviceError, match="cuda:9"):
        enlca.Upscaler(network(), devices=["cpu", "cuda:9"])
    exact = network(attention="exact")
    share = Share(Region(0, 0, 4, 9), lambda sums: [sums])
    with (
        pytest.raises(StreamingError, match="use one device"),
        stream(exact, picture(8, 9), tile=4, share=share),
    ):
        pass
    with pytest.raises(ValueError, match="1 rows cannot be divided among 2 devices"):
        band_of(0, 2, 1, 9)
