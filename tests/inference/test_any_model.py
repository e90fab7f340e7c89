"""A model of ten lines goes through everything that a picture goes through: the seam of `SRModel` is real."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.errors import CheckpointError
from enlca.evaluation.evaluate import evaluate, method_called
from enlca.image.picture import Picture, read_image, write_image
from enlca.inference import batch
from enlca.inference.execute import Executor, padded
from enlca.inference.outputs import plan
from enlca.inference.strategy import TILES, MemoryFootprint, Strategy, choose_strategy
from enlca.inference.target_size import Size
from enlca.inference.upscaler import Upscaler
from enlca.network.interface import SRModel
from enlca.network.sr import SRConfig, SRNetwork

H, W, S = 13, 11, 3
CPU = torch.device("cpu")


class Nearest(SRModel):
    """Repeat each pixel."""

    scale, input_multiple, smallest_input, tile_overlap = S, 4, 8, 2

    def forward(self, lr):
        assert lr.shape[-2] % 4 == lr.shape[-1] % 4 == 0
        assert min(lr.shape[-2:]) >= 8
        return lr.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def repeated(pixels):
    return pixels.repeat(S, axis=0).repeat(S, axis=1)


@pytest.fixture
def up():
    return Upscaler(Nearest(), device="cpu")


@pytest.mark.parametrize("mode", ["auto", "whole", "stream", "tiled"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_mode_and_depth_repeats_the_pixels(mode, dtype, layers, recwarn):
    up, pixels = Upscaler(Nearest(), device="cpu", mode=mode), noise(H, W, layers, dtype=dtype)
    np.testing.assert_array_equal(up(pixels), repeated(pixels))
    remarks = [str(warning.message) for warning in recwarn]
    assert remarks == (
        ["Nearest cannot be streamed: ordinary tiles, which do not see each other"]
        if mode == "stream"
        else []
    )


@pytest.mark.parametrize("layers", [2, 4])
def test_transparency_and_what_shows_through_are_upscaled(up, layers):
    pixels = noise(H, W, layers)
    made = up(pixels)
    np.testing.assert_array_equal(made[..., -1], repeated(pixels[..., -1]))
    shown, expected = (one[..., :-1] * (one[..., -1:] / 255) for one in (made, repeated(pixels)))
    assert np.abs(shown - expected).max() <= 1


def test_tensors_and_pil_images_and_rows_are_upscaled(up):
    pixels = noise(H, W, 3)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    torch.testing.assert_close(up(tensor), tensor.repeat_interleave(S, -2).repeat_interleave(S, -1))
    np.testing.assert_array_equal(np.asarray(up(Image.fromarray(pixels))), repeated(pixels))
    np.testing.assert_array_equal(np.concatenate(list(up.stream([pixels[:5], pixels[5:]]))), repeated(pixels))


def test_convolutions_of_three_dimensions_have_no_order_of_channels_and_are_left_alone():
    model = Nearest()
    model.flat, model.deep = torch.nn.Conv2d(3, 5, 3), torch.nn.Conv3d(3, 5, 3)
    network = Upscaler(model, device="cpu").network
    assert network.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.deep.weight.is_contiguous()


def test_the_self_ensemble_of_an_equivariant_model_is_the_model():
    pixels = noise(H, W, 3)
    for mode in ("whole", "tiled"):
        made = Upscaler(Nearest(), device="cpu", mode=mode, ensemble=True)(pixels)
        np.testing.assert_array_equal(made, repeated(pixels))


def test_a_folder_of_pictures_is_upscaled(up, tmp_path):
    for name in "ab":
        write_image(tmp_path / f"{name}.png", Picture(noise(H, W, 3)))
    size = Size(scale=Fraction(S))
    jobs, _ = plan([tmp_path], tmp_path / "out", size=size)
    outcomes = list(batch.run(jobs, lambda scale: up.rows, size=size, scales=[S]))
    assert [outcome.error for outcome in outcomes] == [None, None]
    for job in jobs:
        np.testing.assert_array_equal(read_image(job.target).pixels, repeated(noise(H, W, 3)))


@pytest.mark.parametrize("protocol", ["whole", "chop"])
def test_it_is_evaluated_by_name_and_scored(tmp_path, protocol):
    (tmp_path / "Two").mkdir()
    for name in "ab":
        write_image(tmp_path / "Two" / f"{name}.png", Picture(repeated(noise(31, 29, 3)).copy()))
    method = method_called(Nearest(), scale=S, device="cpu", protocol=protocol)
    result = evaluate(method, [tmp_path / "Two"], scale=S)
    assert result.failures == []
    assert result.report.model == {"name": "Nearest"}
    assert [(row.model, row.image) for row in result.report.images] == [("Nearest", "a"), ("Nearest", "b")]
    assert all(row.psnr_y > 10 for row in result.report.images)


def test_the_planner_takes_it_whole_if_that_fits_else_the_largest_tiles_that_fit():
    footprint = MemoryFootprint(Nearest(), 2000, 3000)
    whole = footprint.peak_bytes(Strategy("whole"))
    # At least the input and the output of the network.
    assert whole >= 4 * 3 * (1 + S**2) * 2000 * 3000
    assert choose_strategy(footprint, whole)[0].mode == "whole"
    strategy, _ = choose_strategy(footprint, whole // 2)
    assert (strategy.mode, strategy.tile) == ("tiled", TILES[0])
    small, _ = choose_strategy(footprint, footprint.peak_bytes(strategy) - 1)
    assert (small.mode, small.tile) == ("tiled", TILES[1])


def test_out_of_memory_is_followed_by_smaller_tiles():
    model, notes, pixels = Nearest(), [], noise(700, 600, 3)

    def forward(lr):
        if lr.shape[-1] * lr.shape[-2] > 400**2:
            raise MemoryError
        return padded(model)(lr)

    executor = Executor(model, forward)
    bands = executor.bands(pixels[:600, :600], Strategy("whole"), note=notes.append)
    np.testing.assert_array_equal(np.concatenate(list(bands)), repeated(pixels[:600, :600]))
    assert notes == [f"out of memory: tried again in tiles of {tile}" for tile in TILES[:2]]


def test_a_model_that_16_bits_do_not_suit_stays_in_float32_unless_asked(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    pixels = noise(H, W, 3)

    class Careful(Nearest):
        half_safe = False

    assert Upscaler(Nearest(), device="cpu").strategy(pixels).half == torch.bfloat16
    assert Upscaler(Careful(), device="cpu").strategy(pixels).half is None
    assert Upscaler(Careful(), device="cpu", precision="bf16").strategy(pixels).half == torch.bfloat16


def test_a_scale_that_it_has_not_is_refused():
    with pytest.raises(CheckpointError, match="Nearest: upscales by 3, not by 4"):
        Upscaler(Nearest(), scale=4, device="cpu")


@pytest.mark.parametrize(
    ("attention", "name", "streamable"),
    [("linear", "ENLCN", True), ("exact", "NLAN", True), ("none", "EDSR", True), ("lsh", "NLSN", False)],
)
def test_our_networks_say_the_same_facts(attention, name, streamable):
    network = SRNetwork(SRConfig(scale=2, channels=8, n_blocks=1, blocks_per_stage=1, attention=attention))
    assert (network.scale, network.name, network.streamable) == (2, name, streamable)
    assert (network.input_multiple, network.smallest_input, network.half_safe) == (1, 1, True)


def test_the_counted_memory_of_our_networks_is_no_less_than_the_measured():
    network = SRNetwork(
        SRConfig(scale=4, channels=16, n_blocks=2, blocks_per_stage=1, skip="bilinear")
    ).eval()
    assert 0 < network.measure_elements() <= 2 * network.elements_per_pixel + network.workspace_elements
    assert network.measure_elements(gradient=True) > network.measure_elements()
