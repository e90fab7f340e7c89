"""Signs of compression and noise in a picture file, and the hint that `enlca upscale` gives for them."""

import io

import numpy as np
import pytest
from PIL import Image

from enlca.image.artefacts import jpeg_quality, noise_sigma, signs_of_wear


def gradient(height=160, width=176):
    y, x = np.mgrid[:height, :width]
    return 60 + 0.4 * x + 0.3 * y


def noisy(sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (160, 176))
    return np.clip(np.round(gradient() + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 30, 50, 62, 75, 85, 90, 95])
def test_the_quality_of_a_jpeg_is_that_of_its_encoder(quality):
    file = io.BytesIO()
    Image.fromarray(noisy(5.0)).save(file, "JPEG", quality=quality)
    assert jpeg_quality(list(Image.open(file).quantization[0])) == pytest.approx(quality, abs=1)


def test_a_table_that_is_none_is_refused():
    for table in ([1] * 63, [0] * 64):
        with pytest.raises(ValueError, match="a quantisation table has 64 entries above 0"):
            jpeg_quality(table)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 10.0, 25.0])
def test_noise_is_estimated_on_smooth_ground(sigma):
    # Rounding adds a twelfth.
    assert noise_sigma(noisy(sigma)) == pytest.approx((sigma**2 + 1 / 12) ** 0.5, rel=0.1)


def test_no_file_is_mapped(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    Image.fromarray(noisy(10.0)).save(tmp_path / "x.pgm")
    monkeypatch.setattr("mmap.mmap", never)
    assert signs_of_wear(tmp_path / "x.pgm") == "noisy (about 10 levels)"


def test_edges_texture_and_clipping_are_not_noise():
    half = noisy(2.0)
    half[:, 100:] = np.random.default_rng(1).integers(0, 256, (160, 76))
    assert noise_sigma(half) < 3
    lines = np.zeros((160, 176), dtype=np.uint8)
    lines[::40] = 255
    assert noise_sigma(lines) == 0
    assert noise_sigma(np.zeros((5, 7), dtype=np.uint8)) == 0


@pytest.mark.data
def test_clean_photographs_show_no_wear(shared_data):
    files = sorted((shared_data / "validation" / "Kodak24").glob("*.png"))[::3]
    assert {path.name: signs for path in files if (signs := signs_of_wear(path))} == {}


def test_signs_are_found_in_files(tmp_path):
    Image.fromarray(noisy(1.0)).save(tmp_path / "clean.png")
    Image.fromarray(noisy(1.0)).save(tmp_path / "fine.jpg", quality=92)
    Image.fromarray(noisy(1.0)).save(tmp_path / "poor.jpg", quality=60)
    Image.fromarray(noisy(8.0)).save(tmp_path / "noisy.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "noisy.png").read_bytes()[:500])
    found = {path.name: signs_of_wear(path) for path in tmp_path.iterdir()}
    assert found == {
        "clean.png": None,
        "fine.jpg": None,
        "poor.jpg": "compressed (JPEG of quality 60)",
        "noisy.png": "noisy (about 8 levels)",
        "cut.png": None,
    }
    assert signs_of_wear(tmp_path / "gone.png") is None


HINT = "enlca: poor.jpg looks compressed (JPEG of quality 60); --model photo repairs that\n"


@pytest.mark.parametrize(
    ("photo", "model", "terminal", "hint"),
    [
        (True, "enlcn-tiny", True, HINT),
        (False, "enlcn-tiny", True, ""),
        (True, "photo", True, ""),
        (True, "own.safetensors", True, ""),
        (True, "enlcn-tiny", False, ""),
    ],
)
def test_the_hint_is_one_line_where_a_model_for_photographs_is_bundled(
    tmp_path, monkeypatch, capsys, photo, model, terminal, hint
):
    from enlca.checkpoint import store
    from enlca.cli.hints import hint_at_photo
    from enlca.inference.jobs import Job

    monkeypatch.chdir(tmp_path)
    Image.fromarray(noisy(1.0)).save("fine.jpg", quality=92)
    Image.fromarray(noisy(1.0)).save("poor.jpg", quality=60)
    names = ["enlcn-tiny", *["photo"] * photo]
    monkeypatch.setattr(store, "bundled", lambda: [store.Bundled(name, 4, tmp_path) for name in names])
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    jobs = [Job(tmp_path / name, tmp_path / "x.png") for name in ("fine.jpg", "poor.jpg")]
    hint_at_photo(jobs, model)
    assert capsys.readouterr().err == hint


def test_a_hint_is_given_where_a_file_became_many_times_as_large(tmp_path, capsys):
    from enlca.cli.hints import hint_at_size
    from enlca.inference.jobs import Outcome

    (tmp_path / "a.jpg").write_bytes(bytes(100))
    (tmp_path / "a_x4.png").write_bytes(bytes(2000))
    (tmp_path / "b_x4.png").write_bytes(bytes(1900))

    def hinted(source, target):
        return hint_at_size(Outcome(str(tmp_path / source), str(tmp_path / target)))

    assert not hinted("a.jpg", "b_x4.png")
    assert not hinted("a_x4.png", "a_x4.png")
    assert capsys.readouterr().err == ""
    assert hinted("a.jpg", "a_x4.png")
    line = "enlca: a_x4.png is 20 times as large as a.jpg; --format jpg makes smaller files, "
    assert capsys.readouterr().err == f"{line}--format same keeps the format\n"
