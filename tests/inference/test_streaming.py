"""Streamed is whole: in float64 to rounding, so that a halo one pixel too small is seen, and in float32."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from enlca.errors import StoreError, StreamingError
from enlca.inference.bilinear import tap_weights, upscale_axis
from enlca.inference.execute import Executor, tiled
from enlca.inference.reach import Features, halo_of
from enlca.inference.strategy import Strategy
from enlca.inference.streaming import stream
from enlca.inference.tiles import Region, cut
from enlca.network.sr import SRConfig, SRNetwork
from enlca.runtime.concurrency import Passes

FLOAT32 = {"rtol": 0, "atol": 1e-5}
FLOAT64 = {"rtol": 0, "atol": 1e-12}


def network(**settings: object) -> SRNetwork:
    """A small random one whose branches weigh much, so that nothing hides."""
    torch.manual_seed(0)
    sizes = {"channels": 7, "n_blocks": 4, "blocks_per_stage": 2, "embed_channels": 3, "n_features": 5}
    loud = {"scale": 2, "res_scale": 1.0, "attention_scale": 1.0}
    return SRNetwork(SRConfig(**{**sizes, **loud, **settings})).eval()  # pyright: ignore[reportArgumentType]


def picture(height: int, width: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(height).random((height, width, 3)).astype(dtype)


@torch.inference_mode()
def whole(net: SRNetwork, pixels: np.ndarray) -> Tensor:
    lr = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return net(lr.to(net.mean) / (255 if lr.dtype == torch.uint8 else 1))[0]


def assembled(piece: Features, pixels: np.ndarray, tile: int) -> Tensor:
    """The SR picture, made of its pieces."""
    rows = []
    for band in cut(Region(0, 0, *pixels.shape[:2]), tile, pixels.shape[1]):
        rows.append(torch.cat([piece(region)[0] for region in cut(band, tile, tile)], dim=2))
    return torch.cat(rows, dim=1)


def streamed(net: SRNetwork, pixels: np.ndarray, tile: int, **settings) -> Tensor:
    with stream(net, pixels, tile=tile, **settings) as piece:
        return assembled(piece, pixels, tile)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("upsampler", "skip"), [("stepwise", "none"), ("direct", "bilinear")])
@pytest.mark.parametrize(
    ("attention", "kernel"), [("linear", 1), ("linear", 3), ("none", 1), ("exact", 3), ("window", 3)]
)
def test_streamed_is_whole_for_every_kind_of_network(scale, upsampler, skip, attention, kernel):
    net = network(scale=scale, upsampler=upsampler, skip=skip, attention=attention, embed_kernel=kernel)
    pixels = picture(19, 37) if attention != "exact" else picture(19, 23)
    torch.testing.assert_close(streamed(net.double(), pixels, 16), whole(net, pixels), **FLOAT64)


SIZES = [(37, 53), (37, 53), (37, 53), (37, 53), (33, 17), (1, 61), (47, 1), (1, 1), (5, 3)]
TILES = [16, 17, 36, 64, 16, 16, 17, 16, 17]


# 36 and 16 leave remainders of one pixel.
@pytest.mark.parametrize("features", ["positive", "sharp"])
@pytest.mark.parametrize(("size", "tile"), list(zip(SIZES, TILES, strict=True)))
def test_streamed_is_whole_at_every_size_of_picture_and_tile(size, tile, features):
    net, pixels = network(skip="bilinear", embed_kernel=3, features=features).double(), picture(*size)
    torch.testing.assert_close(streamed(net, pixels, tile), whole(net, pixels), **FLOAT64)


@pytest.mark.parametrize(("window", "halo"), [(8, 4), (5, 7), (3, 0)])
@pytest.mark.parametrize(("size", "tile"), list(zip(SIZES, TILES, strict=True)))
def test_streamed_windows_lie_where_those_of_the_whole_picture_lie(size, tile, window, halo):
    net = network(attention="window", window=window, halo=halo, amplification=24.0).double()
    pixels = picture(*size)
    torch.testing.assert_close(streamed(net, pixels, tile), whole(net, pixels), **FLOAT64)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_streamed_is_whole_in_float32(tiny_network, memory_format, dtype):
    pixels = (255 * picture(37, 41)).astype(dtype)
    pixels = pixels if dtype == np.uint8 else pixels / np.float32(255)
    for net in (tiny_network, network(scale=3, channels=9), network(features="sharp")):
        net.to(memory_format=memory_format)
        torch.testing.assert_close(streamed(net, pixels, 16), whole(net, pixels), **FLOAT32)
        net.to(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("features", ["centred", "balanced", "sharp"])
@pytest.mark.parametrize("amplification", [6.0, 24.0])
def test_statistics_of_tiles_fit_the_features_of_the_whole(features, amplification):
    net = network(features=features, amplification=amplification, embed_channels=5, n_features=29)
    pixels = picture(83, 97)
    torch.testing.assert_close(
        streamed(net, pixels.astype(np.float32), 32), whole(net, pixels.astype(np.float32)), **FLOAT32
    )
    torch.testing.assert_close(streamed(net.double(), pixels, 32), whole(net, pixels), **FLOAT64)


def test_the_parts_of_half_precision_are_fitted_in_float32():
    net, pixels = network(features="sharp"), picture(37, 41, np.float32)
    half = streamed(net, pixels, 16, half=torch.bfloat16).float()
    assert float((half - whole(net, pixels)).square().mean().sqrt()) < 0.02


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(3, 4001), (2003, 2)])
def test_the_bilinear_part_rounds_as_the_whole_does_far_from_the_corner(scale, size):
    net = network(scale=scale, skip="bilinear", channels=1, n_blocks=1, blocks_per_stage=1)
    torch.testing.assert_close(
        streamed(net, picture(*size, np.float32), 512), whole(net, picture(*size, np.float32)), **FLOAT32
    )


def test_an_upscaled_axis_is_that_of_interpolate():
    line = torch.rand(1, 1, 1, 11)
    weights = tap_weights(11, 3, like=line)
    part = upscale_axis(line[..., 3:9].mT, weights, scale=3, owned=(4, 8), held=(3, 9)).mT
    expected = interpolate(line, scale_factor=(1.0, 3.0), mode="bilinear", align_corners=False)
    torch.testing.assert_close(part, expected[..., 12:24])


def test_a_halo_is_the_reach_of_the_convolutions():
    eight = network(n_blocks=8, blocks_per_stage=8)
    assert halo_of(eight.head) == 1
    assert halo_of(eight.body[1]) == 16
    assert [halo_of(network(scale=scale).upsampler) for scale in (2, 3, 4)] == [2, 2, 2]
    assert halo_of(network(upsampler="direct").upsampler) == 1


@pytest.mark.parametrize("strategy", [Strategy("stream", 16), Strategy("tiled", 8)], ids=["stream", "tiled"])
def test_bands_come_from_top_to_bottom_in_the_picture_s_width_outside_of_inference_mode(strategy):
    net, pixels = network(scale=4), picture(37, 20, np.float32)
    shapes = []
    for band in Executor(net, net).bands(pixels, strategy):
        shapes.append(band.shape)
        assert not torch.is_inference_mode_enabled()
        band.clip(0, 1, out=band)
    assert shapes == [(32, 80, 3)] * 4 + [(20, 80, 3)]


def test_rounded_bands_are_the_rounded_pixels_of_the_whole():
    net, pixels = network(), (255 * picture(21, 18)).astype(np.uint8)
    streamed, whole = (
        np.concatenate(list(Executor(net, net).bands(pixels, strategy)))
        for strategy in (Strategy("stream", 16), Strategy("whole"))
    )
    assert streamed.dtype == np.uint8
    assert np.abs(streamed.astype(int) - whole).max() <= 1


def test_the_mean_of_eight_streamed_views_is_that_of_whole_views_where_features_are_fitted():
    net, pixels = network(features="sharp"), picture(21, 18, np.float32)
    executor = Executor(net, net, ensemble=True)
    streamed, whole = (
        np.concatenate(list(executor.bands(pixels, strategy)))
        for strategy in (Strategy("stream", 16), Strategy("whole"))
    )
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-5)


def test_a_mapped_picture_is_read_as_it_is(tmp_path):
    pixels = (255 * picture(20, 17)).astype(np.uint8)
    pixels.tofile(tmp_path / "rgb")
    mapped = np.memmap(tmp_path / "rgb", np.uint8, "r", shape=pixels.shape)
    net = network()
    assert torch.equal(streamed(net, mapped, 16), streamed(net, pixels, 16))


@pytest.mark.parametrize("features", ["positive", "sharp"])
def test_progress_hears_of_every_pass_in_order_and_ends_at_its_total(features):
    calls, net = [], network(features=features)
    executor, strategy = Executor(net, net), Strategy("stream", 16)
    passes = executor.passes(
        strategy,
        has_alpha=False,
        pages=1,
        progress=lambda what, done, total: calls.append((what, done, total)),
    )
    list(executor.bands(picture(20, 17, np.float32), strategy, passes=passes))
    expected = [
        "stage 1 of 5, statistics",
        "stage 1 of 5, summary",
        "stage 2 of 5",
        "stage 3 of 5, statistics",
        "stage 3 of 5, summary",
        "stage 4 of 5",
        "stage 5 of 5, statistics",
        "stage 5 of 5, summary",
        "upscaling",
    ]
    heard = [what for what in expected if features == "sharp" or "statistics" not in what]
    assert list(dict.fromkeys(what for what, _, _ in calls)) == heard
    shares = [done / total for _, done, total in calls]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1


def traces(folder: Path) -> list[str]:
    """Files in a folder, and open or mapped ones that have no name there any more."""
    open_files = []
    if sys.platform == "linux":
        for number in os.listdir("/proc/self/fd"):
            try:
                open_files.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:
                continue
        open_files += Path("/proc/self/maps").read_text().splitlines()
    return [str(path) for path in folder.iterdir()] + [line for line in open_files if str(folder) in line]


def test_features_past_the_limit_live_in_files_that_are_gone_afterwards(tmp_path):
    net, pixels = network(), picture(37, 20, np.float32)
    expected = streamed(net, pixels, 16)
    one_map = 7 * 37 * 20 * 4
    for limit, in_files in ((0, 2), (one_map, 1), (2 * one_map, 0)):
        with stream(net, pixels, tile=16, cache_limit=limit, folder=tmp_path) as piece:
            if sys.platform == "linux":
                assert len(traces(tmp_path)) == in_files
            assert torch.equal(assembled(piece, pixels, 16), expected)
        assert traces(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "when"),
    [(KeyboardInterrupt, "stage 2 of 5"), (MemoryError, "stage 4 of 5"), (KeyboardInterrupt, "upscaling")],
)
def test_nothing_is_left_when_it_is_stopped(tmp_path, error, when):
    def stop(what, done, total):
        if what == when:
            raise error

    net, strategy = network(), Strategy("stream", 16, cache_limit=0)
    bands = Executor(net, net, folder=tmp_path).bands(
        picture(37, 20, np.float32), strategy, passes=Passes(stop), note=lambda remark: None
    )
    # After a MemoryError smaller tiles are tried, and stopped in the same way.
    with pytest.raises(error):
        list(bands)
    assert traces(tmp_path) == []


def test_nothing_is_left_when_the_rest_is_not_read(tmp_path):
    net, strategy = network(), Strategy("stream", 16, cache_limit=0)
    bands = Executor(net, net, folder=tmp_path).bands(picture(37, 20, np.float32), strategy)
    next(bands)
    bands.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert traces(tmp_path) == []


def test_a_full_disk_is_an_error_that_says_where_and_how_much(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StoreError, match=r"no room for 0\.00 GiB of features \(No space left"):
        streamed(network(), picture(20, 17, np.float32), 16, cache_limit=0, folder=tmp_path)
    assert traces(tmp_path) == []


def test_nlsa_cannot_be_streamed_and_says_what_can_be_done():
    with pytest.raises(StreamingError, match=r"'lsh' sorts all positions .*; upscale the picture whole, or"):
        streamed(network(attention="lsh"), picture(5, 5), 16)


@pytest.mark.parametrize(
    ("pixels", "tile", "message"),
    [
        (picture(5, 5), 0, "at least 1 x 1, got 0 x 0"),
        (np.zeros((0, 5, 3)), 16, "must be uint8 or floating point, got float64"),
        (np.zeros((5, 5, 3), dtype=np.int64), 16, "must be uint8 or floating point, got int64"),
    ],
)
def test_what_is_no_picture_or_tile_is_refused_at_once(pixels, tile, message):
    with pytest.raises(ValueError, match=message):
        streamed(network(), pixels, tile)


def test_ordinary_tiles_are_exact_where_the_overlap_holds_all_that_a_network_sees():
    net, pixels = network(attention="none"), picture(37, 53, np.float32)

    def in_tiles(net, overlap):
        return assembled(tiled(net, pixels, scale=2, overlap=overlap, device=None), pixels, 16)

    torch.testing.assert_close(in_tiles(net, 16), whole(net, pixels), **FLOAT32)
    for narrow, overlap in ((net, 3), (network(), 16)):
        assert float((in_tiles(narrow, overlap) - whole(narrow, pixels)).abs().max()) > 1e-4
    with pytest.raises(ValueError, match="overlap must be at least 0, got -1"):
        in_tiles(net, -1)
