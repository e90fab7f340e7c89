"""Animated PNG, against Pillow's reader and writer."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from enlca.errors import PictureError
from enlca.image.files import open_image, write_rows
from enlca.image.picture import Picture, collect, collect_pages, rows_of

H, W, N = 13, 17, 3


def frames(n_layers, *, dtype=np.uint8):
    """Frames of random pixels whose alpha is all or nothing: of other alpha Pillow's mixture is not PNG's."""
    made = np.random.default_rng(n_layers).integers(0, 256, (N, H, W, n_layers)).astype(dtype)
    if n_layers in (2, 4):
        made[..., -1] = np.where(made[..., -1] > 90, np.iinfo(dtype).max, 0)
    return made


def animation(n_layers, **settings):
    first, *others = (Image.fromarray(one.squeeze()) for one in frames(n_layers))
    options = {"save_all": True, "append_images": others, "duration": [40, 80, 120], "loop": 2}
    first.save(out := io.BytesIO(), "PNG", **options, **settings)
    return out.getvalue()


def shown(data):
    """What Pillow shows of each frame, RGBA without the colours of hidden pixels."""
    made = []
    with Image.open(io.BytesIO(data)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            made.append(visible(np.asarray(image.convert("RGBA"))))
    return made


def visible(layers):
    return np.where(layers[..., -1:] > 0, layers, 0)


def rgba(picture):
    alpha = np.full((H, W), 255, np.uint8) if picture.alpha is None else picture.alpha
    return visible(np.concatenate([picture.rgb, alpha[..., None]], axis=2))


# Pillow cannot put grey frames over others.
WAYS = [(n, dispose, blend) for n in (3, 4) for dispose in (0, 1, 2) for blend in (0, 1)]


@pytest.mark.parametrize(("n_layers", "dispose", "blend"), [(1, 0, 0), (2, 0, 0), *WAYS])
def test_frames_are_composed_as_another_reader_composes_them(n_layers, dispose, blend):
    data = animation(n_layers, disposal=dispose, blend=blend)
    rows = open_image(data, frames="all")
    assert (rows.pages, rows.delays, rows.loop) == (N, (40, 80, 120), 2)
    for made, expected in zip(collect_pages(rows), shown(data), strict=True):
        np.testing.assert_array_equal(rgba(made), expected)


def test_the_first_frame_alone_is_taken_with_a_remark():
    data = animation(3)
    rows = open_image(data)
    assert rows.remarks == ("only the first of 3 frames",)
    np.testing.assert_array_equal(rgba(collect(rows)), shown(data)[0])


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_an_animation_is_written_as_another_reader_reads_it(tmp_path, n_layers):
    data = animation(n_layers)
    write_rows(tmp_path / "x.png", open_image(data, frames="all"))
    np.testing.assert_array_equal(shown((tmp_path / "x.png").read_bytes()), shown(data))
    with Image.open(tmp_path / "x.png") as image:
        assert image.info["loop"] == 2
        for number, delay in enumerate((40, 80, 120)):
            image.seek(number)
            assert image.info["duration"] == delay


def test_16_bits_of_an_animation_come_back(tmp_path):
    pages = [Picture(one) for one in frames(3, dtype=np.uint16) * 257]
    assert write_rows(tmp_path / "x.apng", rows_of(*pages, delays=[10, 70_000, 30])) == ()
    rows = open_image(tmp_path / "x.apng", max_bits=16, frames="all")
    assert rows.delays == (10, 70_000, 30)
    for made, page in zip(collect_pages(rows), pages, strict=True):
        np.testing.assert_array_equal(made.pixels, page.pixels)


def test_pages_are_no_animation(tmp_path):
    pages = [Picture(one) for one in frames(3)]
    with pytest.raises(PictureError, match=r"PNG holds one picture, not 3; choose from .*\.tif"):
        write_rows(tmp_path / "x.png", rows_of(*pages))


@pytest.mark.parametrize("cut", [0.4, 0.7, 0.95])
def test_an_animation_that_is_cut_short_is_damaged(cut):
    data = animation(3)
    with pytest.raises(PictureError, match="damaged or cut short"):
        collect_pages(open_image(data[: int(cut * len(data))], frames="all"))


def test_more_frames_than_may_be_decoded_are_refused_by_the_header():
    with pytest.raises(PictureError, match=f"the header says {W}x{N * H}, more than"):
        open_image(animation(3), frames="all", max_pixels=2 * H * W)


@pytest.mark.parametrize("cut", [41, 43, 45])
def test_a_file_that_ends_inside_a_chunk_of_the_animation_is_damaged(cut):
    with pytest.raises(PictureError, match="damaged or cut short"):
        collect_pages(open_image(animation(3)[:cut], frames="all"))


def test_the_frames_before_the_cut_are_taken_if_asked():
    data = animation(3)
    with pytest.raises(PictureError, match=f" of {N} frames"):
        open_image(data[: len(data) // 2], frames="all")
    rows = open_image(data[: len(data) // 2], frames="all", salvage=True)
    assert 1 <= rows.pages < N
    np.testing.assert_array_equal(rgba(collect_pages(rows)[0]), shown(data)[0])


def test_a_first_frame_that_leaves_the_canvas_bare_leaves_it_transparent():
    data = bytearray(animation(3))
    at = data.index(b"fcTL")
    # One column less, which its pixels have still.
    width = int.from_bytes(data[at + 8 : at + 12], "big")
    data[at + 8 : at + 12] = (width - 1).to_bytes(4, "big")
    data[at + 30 : at + 34] = zlib.crc32(data[at : at + 30]).to_bytes(4, "big")
    first = collect_pages(open_image(bytes(data), frames="all", salvage=True))[0]
    assert first.alpha is not None
    assert (first.alpha[:, :-1] == 255).all()
    assert (first.alpha[:, -1] == 0).all()
