"""Files that hold several pictures: the pages of a TIFF, the frames of a GIF or a WebP."""

import io

import numpy as np
import pytest
import pyvips
from odd import png, seen, smooth
from odd_cases import H, W
from PIL import Image

S = 4


def pages(*sizes, n_layers=3):
    """A TIFF with a page of each size."""
    made = [
        Image.fromarray(smooth(height, width, n_layers)[::-1] if n % 2 else smooth(height, width, n_layers))
        for n, (height, width) in enumerate(sizes)
    ]
    made[0].save(out := io.BytesIO(), "TIFF", save_all=True, append_images=made[1:])
    return out.getvalue()


def test_all_pages_of_a_tiff_become_pages_and_elsewhere_the_first_is_taken_and_that_is_said(
    upscale, tmp_path
):
    files = {"x.tif": pages((H, W), (H, W), (H, W))}
    [line] = upscale(files, "--format", "png")
    assert "only the first of 3 pages" in line
    upscale({"first.png": png(smooth(H, W, 3)), "second.png": png(smooth(H, W, 3)[::-1])})
    first, second = (seen(tmp_path / "out" / f"{name}_x4.png") for name in ("first", "second"))
    np.testing.assert_array_equal(seen(tmp_path / "out" / "x_x4.png"), first)
    [line] = upscale(files, "--format", "tif")
    with Image.open(tmp_path / "out" / "x_x4.tif") as image:
        assert getattr(image, "n_frames", 1) == 3
        for number, expected in enumerate((first, second, first)):
            image.seek(number)
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_pages_of_different_sizes_are_refused_and_the_first_alone_is_not(
    command, tmp_path, monkeypatch, tiny_model
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tif").write_bytes(pages((H, W), (W, H)))
    done = command("upscale", "x.tif", "--model", tiny_model, "--format", "tif")
    [line] = done.err.splitlines()
    assert done.code == 1
    assert "pages differ in size" in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]
    assert "only the first of 2 pages" in command("upscale", "x.tif", "--model", tiny_model).out


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_all_frames_become_an_animation_with_the_same_delays_and_loop(upscale, tmp_path, suffix):
    frames = [Image.fromarray(np.roll(smooth(H, W, 3), 3 * number, axis=0)) for number in range(3)]
    ways = {"save_all": True, "append_images": frames[1:], "duration": [40, 80, 120], "loop": 2}
    frames[0].save(
        out := io.BytesIO(), suffix.upper(), **ways, **({"lossless": True} if suffix == "webp" else {})
    )
    for ending in ("gif", "webp"):
        upscale({f"x.{suffix}": out.getvalue()}, "--frames", "all", "-o", f"out.{ending}")
        with Image.open(tmp_path / f"out.{ending}") as image:
            assert (image.size, getattr(image, "n_frames", 1)) == ((S * W, S * H), 3)
            # How often it is shown: a GIF says how often again, a WebP how often at all.
            again = 1 if ending == "gif" else 0
            assert image.info["loop"] + again == 2 + (suffix == "gif")
            delays = []
            for number in range(3):
                image.seek(number)
                image.load()
                delays.append(image.info["duration"])
        made = pyvips.Image.new_from_buffer((tmp_path / f"out.{ending}").read_bytes(), "", n=-1)
        assert made.get("delay") == [40, 80, 120], delays


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_that_keeps_its_format_keeps_its_frames(upscale, tmp_path, suffix):
    frames = [Image.fromarray(np.roll(smooth(H, W, 3), 3 * number, axis=0)) for number in range(3)]
    ways = {"save_all": True, "append_images": frames[1:], "duration": [40, 80, 120]}
    frames[0].save(out := io.BytesIO(), suffix.upper(), **ways)
    upscale({f"x.{suffix}": out.getvalue()}, "--format", suffix)
    with Image.open(tmp_path / "out" / f"x_x4.{suffix}") as image:
        assert (image.size, getattr(image, "n_frames", 1)) == ((S * W, S * H), 3)
    other = "webp" if suffix != "webp" else "gif"
    [line] = upscale({f"x.{suffix}": out.getvalue()}, "--format", other)
    assert "only the first of 3 frames" in line
