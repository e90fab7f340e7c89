"""Every strategy gives the whole picture's result, for every kind of picture, whatever runs out meanwhile."""

import numpy as np
import pytest
import torch
from torch import nn

from enlca.errors import NotFinite
from enlca.inference.execute import Executor
from enlca.inference.pixel_source import DihedralView, RGBView
from enlca.inference.strategy import TILES, Strategy
from enlca.inference.transforms import dihedral
from enlca.inference.upscaler import Upscaler

H, W, S = 37, 53, 4
WHOLE, STREAM = Strategy("whole"), Strategy("stream", 16, cache_limit=0)


def noise(*shape, dtype="float64"):
    values = np.random.default_rng(sum(shape)).random(shape)
    return (
        values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)
    )


@pytest.fixture
def executor(tiny_network):
    return Executor(tiny_network, tiny_network)


def made(executor, picture, strategy):
    bands = list(executor.bands(picture, strategy))
    assert {band.shape[1:] for band in bands} == {(S * picture.shape[1], picture.shape[2])}
    return np.concatenate(bands)


def kinds():
    """Pictures of every number of layers, with alpha that varies and alpha that does not."""
    for layers in (1, 2, 3, 4):
        yield noise(H, W, layers)
    flat = noise(H, W, 4)
    flat[..., 3] = 0.25
    yield flat


@pytest.mark.parametrize(
    ("dtype", "ensemble"), [("float64", False), ("uint8", False), ("uint16", False), ("float64", True)]
)
@pytest.mark.parametrize("kind", range(5))
def test_streamed_is_whole_for_every_kind_of_picture(tiny_network, kind, dtype, ensemble):
    executor = Executor(tiny_network, tiny_network, ensemble=ensemble)
    picture = list(kinds())[kind]
    peak = 1 if dtype == "float64" else np.iinfo(dtype).max
    picture = (picture * peak).astype(dtype)
    whole, streamed = (made(executor, picture, strategy).astype(float) for strategy in (WHOLE, STREAM))
    # Straight colours under little alpha are divided by it: what one sees of them is what must agree.
    if picture.shape[2] in (2, 4):
        whole[..., :-1] *= whole[..., -1:] / peak
        streamed[..., :-1] *= streamed[..., -1:] / peak
    tolerance = 1e-5 if dtype == "float64" else 1.01
    if dtype == "uint16":
        tolerance = 2
    assert np.abs(whole - streamed).max() <= tolerance


@pytest.mark.parametrize("tile", [16, 31])
def test_tiles_that_see_all_that_convolutions_need_are_exact_without_attention(tile):
    from enlca.network.zoo import enlcn_tiny

    torch.manual_seed(0)
    network = enlcn_tiny(2, channels=8, n_blocks=2, blocks_per_stage=1, attention="none").eval()
    executor = Executor(network, network)
    picture = noise(H, W, 3)
    tiled, whole = (
        np.concatenate(list(executor.bands(picture, strategy)))
        for strategy in (Strategy("tiled", tile), WHOLE)
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("index", range(8))
def test_a_dihedral_view_is_the_transformed_picture(index):
    picture = noise(7, 5, 3)
    seen = DihedralView(picture, index)
    expected = dihedral(torch.from_numpy(picture).permute(2, 0, 1)[None], index)[0].permute(1, 2, 0).numpy()
    assert seen.shape == expected.shape
    for rows, columns in ((slice(0, 9), slice(0, 9)), (slice(1, 4), slice(2, 3)), (slice(4, 5), slice(0, 5))):
        np.testing.assert_array_equal(seen[rows, columns], expected[rows, columns])


def test_a_view_over_a_ground_is_the_composite():
    picture = noise(7, 5, 2)
    grey, alpha = picture[..., :1], picture[..., 1:]
    for ground in (0.0, 1.0):
        expected = np.repeat(alpha * grey + ground * (1 - alpha), 3, axis=2)
        np.testing.assert_allclose(RGBView(picture, ground)[0:7, 0:5], expected, atol=1e-6)


class Fails(nn.Module):
    """A stage that fails when it is called for the n-th time, and then never again."""

    def __init__(self, stage, n, error):
        super().__init__()
        self.stage, self.left, self.error = stage, n, error

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.stage(x)


def broken(tiny_network, stage, n, error):
    """The same network with a stage that fails once."""
    from copy import deepcopy

    network = deepcopy(tiny_network)
    setattr(network, stage, Fails(getattr(network, stage), n, error))
    return network


ALLOCATOR = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), ALLOCATOR], ids=["python", "cuda", "cpu"]
)
@pytest.mark.parametrize(
    ("stage", "n", "strategy"),
    [("head", 1, WHOLE), ("fuse", 1, WHOLE), ("head", 9, Strategy("stream", 24, 0)),
     ("upsampler", 1, Strategy("stream", 24, 0)), ("upsampler", 3, Strategy("stream", 32, 0))],
)  # fmt: skip
def test_out_of_memory_goes_on_in_smaller_tiles_with_no_row_wrong_or_twice(
    tiny_network, stage, n, strategy, error
):
    notes, picture = [], noise(H, W, 3)
    network = broken(tiny_network, stage, n, error)
    bands = list(Executor(network, network).bands(picture, strategy, note=notes.append))
    expected = made(Executor(tiny_network, tiny_network), picture, WHOLE)
    np.testing.assert_allclose(np.concatenate(bands), expected, atol=1e-5)
    smaller = max(tile for tile in TILES if strategy.mode == "whole" or tile < strategy.tile)
    assert notes == [f"out of memory: tried again in tiles of {smaller}"]


def test_where_even_the_smallest_tiles_do_not_fit_there_is_a_clear_end(tiny_network, monkeypatch):
    def full(self, picture, strategy, passes, share):
        tried.append(strategy.tile)
        raise MemoryError
        yield

    tried, notes = [], []
    monkeypatch.setattr(Executor, "_attempt", full)
    with pytest.raises(MemoryError):
        list(Executor(tiny_network, tiny_network).bands(noise(H, W, 3), WHOLE, note=notes.append))
    assert tried == [0, *TILES]
    assert len(notes) == len(TILES)


def test_errors_of_another_kind_are_not_tried_again(tiny_network):
    network = broken(tiny_network, "head", 1, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(Executor(network, network).bands(noise(H, W, 3), WHOLE))


class Overflows(nn.Module):
    """Infinite in half precision only, from the n-th call on."""

    def __init__(self, stage, n):
        super().__init__()
        self.stage, self.left = stage, n

    def forward(self, x):
        self.left -= 1
        out = self.stage(x)
        return out * float("inf") if self.left <= 0 and torch.is_autocast_enabled("cpu") else out


@pytest.mark.parametrize(("strategy", "n"), [(WHOLE, 1), (STREAM, 1), (STREAM, 5)])
def test_what_is_not_finite_in_half_precision_is_computed_again_in_fp32(tiny_network, strategy, n):
    from copy import deepcopy
    from dataclasses import replace

    network, notes, picture = deepcopy(tiny_network), [], noise(H, W, 3)
    network.upsampler = Overflows(network.upsampler, n)  # pyright: ignore[reportAttributeAccessIssue]
    bands = Executor(network, network).bands(
        picture, replace(strategy, half=torch.bfloat16), note=notes.append
    )
    expected = made(Executor(tiny_network, tiny_network), picture, WHOLE)
    # Rows that were out already stay as they are, in half precision.
    np.testing.assert_allclose(np.concatenate(list(bands)), expected, atol=1e-5 if n == 1 else 0.1)
    assert notes == ["its numbers were not finite in half precision: computed again in fp32"]


def test_what_is_not_finite_in_fp32_is_refused(tiny_network):
    from copy import deepcopy

    network = deepcopy(tiny_network)
    network.upsampler[0].bias.data[0] = float("nan")
    with pytest.raises(NotFinite, match="not finite"):
        list(Executor(network, network).bands(noise(H, W, 3), STREAM))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strategy", [WHOLE, STREAM], ids=["whole", "stream"])
def test_half_precision_is_near_the_picture(strategy, half):
    from dataclasses import replace

    bundled = Upscaler("enlcn-tiny", scale=S, device="cpu").network
    executor, picture = Executor(bundled, bundled), noise(H, W, 3)
    exact, near = made(executor, picture, strategy), made(executor, picture, replace(strategy, half=half))
    off = np.abs(exact - near)
    assert 0 < off.max() < 0.05
    assert off.mean() < 0.003


def test_auto_keeps_the_levels_of_deep_and_of_transparent_pictures(tiny_model, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    for precision, layers, dtype, expected in (
        ("auto", 3, np.uint8, torch.bfloat16),
        ("auto", 1, np.uint8, torch.bfloat16),
        ("auto", 4, np.uint8, None),
        ("auto", 2, np.uint8, None),
        ("auto", 3, np.uint16, None),
        ("bf16", 3, np.uint16, torch.bfloat16),
        ("bf16", 4, np.uint8, torch.bfloat16),
    ):
        up = Upscaler(tiny_model, device="cpu", precision=precision)
        assert up.strategy(np.zeros((H, W, layers), dtype)).half == expected


def test_rows_in_rows_out(tiny_model):
    up = Upscaler(tiny_model, device="cpu")
    picture = noise(H, W, 4, dtype="uint8")
    bands = list(up.stream(picture[top : top + 5] for top in range(0, H, 5)))
    np.testing.assert_array_equal(np.concatenate(bands), up(picture))
    with pytest.raises(ValueError, match="uint8, uint16 or floating"):
        next(up.stream([picture.astype(np.int32)]))


@pytest.mark.parametrize("mode", ["stream", "tiled"])
def test_a_mode_that_is_asked_for_is_taken(tiny_model, mode, monkeypatch):
    seen = []
    bands = Executor.bands
    monkeypatch.setattr(
        Executor, "bands", lambda self, picture, strategy, **rest: seen.append(strategy.mode)
        or bands(self, picture, strategy, **rest)
    )  # fmt: skip
    Upscaler(tiny_model, device="cpu", mode=mode)(noise(H, W, 3, dtype="uint8"))
    assert seen == [mode]
    with pytest.raises(ValueError, match="mode must be one of auto, whole, stream, tiled; got 'chop'"):
        Upscaler(tiny_model, device="cpu", mode="chop")


def test_batches_that_do_not_fit_go_one_by_one(tiny_model, monkeypatch):
    up = Upscaler(tiny_model, device="cpu")
    batch = torch.rand(2, 3, H, W)
    expected = up(batch)
    monkeypatch.setattr("enlca.runtime.device.used_memory", lambda device: 0)
    up.max_memory = 3 << 20
    assert up.strategy(noise(H, W, 3)).mode == "stream"
    torch.testing.assert_close(up(batch), expected, atol=1e-5, rtol=0)
