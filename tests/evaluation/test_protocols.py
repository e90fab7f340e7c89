"""Whole, chop, ensemble and audit through the command; bicubic scores against an independent twin."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from enlca import Upscaler
from enlca.errors import EvaluationError
from enlca.evaluation.evaluate import evaluate, method_called
from enlca.image.resize import imresize
from enlca.inference.adapters import upscale_rgb
from enlca.inference.transforms import chopped, self_ensemble
from enlca.metrics import psnr

S = 4


def texture(height, width, phase=0.0):
    row, column, channel = np.indices((height, width, 3))
    return (128 + 100 * np.sin(row / 3 + column / 5 + channel + phase)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Mine"
    folder.mkdir()
    for name, phase in (("a", 0.0), ("b", 1.0)):
        Image.fromarray(texture(188, 164, phase)).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("options", "label", "make"),
    [
        ([], "whole", lambda network: network),
        (["--protocol", "chop"], "chop", lambda network: chopped(network, scale=S)),
        (["--ensemble"], "whole+ensemble", self_ensemble),
        (
            ["--protocol", "chop", "--ensemble"],
            "chop+ensemble",
            lambda network: self_ensemble(chopped(network, scale=S)),
        ),
    ],
)
def test_each_protocol_is_scored_and_named(folder, tiny_model, command, tmp_path, options, label, make):
    words = ("evaluate", "--model", tiny_model, "--data", folder, "--scale", S, *options)
    done = command(*words, "--json-file", tmp_path / "x.json", "--csv", tmp_path / "x.csv")
    assert (done.code, done.err) == (0, "")
    up = Upscaler(tiny_model)
    lr = imresize(texture(188, 164), Fraction(1, S))
    expected = psnr(upscale_rgb(make(up.network), lr), texture(188, 164), shave=S)
    body = json.loads((tmp_path / "x.json").read_text())
    assert body["images"][0]["psnr_y"] == expected
    assert (body["protocol"]["name"], body["protocol"]["ensemble"]) == (
        label.split("+")[0],
        label.endswith("+ensemble"),
    )
    assert {row["protocol"] for row in csv.DictReader((tmp_path / "x.csv").open())} == {label}


def test_the_protocols_give_different_pictures(folder, tiny_model):
    scores = {
        (protocol, ensemble): evaluate(
            method_called(str(tiny_model), scale=S, protocol=protocol, ensemble=ensemble), [folder], scale=S
        ).report.datasets()["Mine"]["psnr_y"]
        for protocol in ("whole", "chop")
        for ensemble in (False, True)
    }
    assert len(set(scores.values())) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"protocol": "tiles"}, "unknown protocol 'tiles'; choose from whole, chop"),
        ({"protocol": "chop"}, "bicubic sees whole pictures"),
        ({"ensemble": True}, "bicubic sees whole pictures"),
    ],
)
def test_options_that_mean_nothing_are_refused(words, message):
    with pytest.raises(EvaluationError, match=message):
        method_called("bicubic", scale=S, **words)


def test_one_bad_pair_does_not_stop_the_others(folder, tiny_model, command, tmp_path):
    (folder / "c.png").write_text("not a picture")
    done = command("evaluate", "--model", tiny_model, "--data", folder, "--scale", S)
    assert done.code == 1
    assert "| Mine | x4 | tiny |" in done.out
    assert done.out.rstrip().endswith("| 2 |")
    assert done.err.count("\n") == 1
    assert "c.png" in done.err


def test_upscale_can_average_eight_views(folder, tiny_model, command, tmp_path):
    done = command("upscale", folder / "a.png", "-o", tmp_path / "x.png", "--model", tiny_model, "--ensemble")
    assert done.code == 0
    up = Upscaler(tiny_model)
    expected = upscale_rgb(self_ensemble(up.network), texture(188, 164))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), expected)
    assert torch.equal(
        Upscaler(tiny_model, ensemble=True)(torch.ones(3, 5, 7)),
        self_ensemble(up.network)(torch.ones(1, 3, 5, 7)).clamp(0, 1)[0],
    )


def test_audit_prints_every_convention_of_pictures_matched_by_name(folder, command, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for name in ("a", "b"):
        pixels = np.asarray(Image.open(folder / f"{name}.png")).astype(int)
        Image.fromarray(np.clip(pixels + 5, 0, 255).astype(np.uint8)).save(made / f"{name}_x4_SR.png")
    done = command("audit", made, folder, "--scale", S)
    assert (done.code, done.err) == (0, "")
    assert "| protocol of enlca |" in done.out
    assert "-1.32" in done.out
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    done = command("audit", made, folder, "--scale", S)
    assert done.code == 1
    assert "c.png: has no partner" in done.err


def test_an_audit_of_nothing_is_refused(folder, command, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(texture(20, 20)).save(other / "z.png")
    done = command("audit", other, folder, "--scale", S)
    assert done.code == 2
    assert done.err.count("\n") == 1


@pytest.mark.data
@pytest.mark.parametrize(("dataset", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("Set14", 4)])
def test_bicubic_scores_are_those_of_an_independent_float64_implementation(shared_data, dataset, scale):
    root = shared_data / "test" / dataset
    report = evaluate(method_called("bicubic", scale=scale), [root], scale=scale).report
    expected = []
    for path in sorted((root / f"HR_x{scale}").iterdir()):
        hr = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
        lr = np.asarray(Image.open(root / f"LR_x{scale}" / path.name).convert("RGB"), dtype=np.float64)
        sr = keys_upscaled(keys_upscaled(lr, scale).swapaxes(0, 1), scale).swapaxes(0, 1)
        planes = [(p @ [65.481, 128.553, 24.966] / 255 + 16)[scale:-scale, scale:-scale] for p in (sr, hr)]
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        error = np.mean((planes[0] - planes[1]) ** 2)
        expected.append((10 * np.log10(255**2 / error), structural_similarity(*planes, **window)))
    psnr_y, ssim_y = np.mean(expected, axis=0)
    mean = report.datasets()[dataset]
    assert mean["psnr_y"] == pytest.approx(psnr_y, abs=0.01)
    assert mean["ssim_y"] == pytest.approx(ssim_y, abs=0.0005)


def keys_upscaled(pixels, scale):
    """Keys' cubic along axis 0, sample by sample, rounded: nothing shared with `imresize`."""
    size = len(pixels)
    out = np.empty((size * scale, *pixels.shape[1:]))
    for i in range(size * scale):
        centre = (i + 0.5) / scale - 0.5
        first = int(np.floor(centre)) - 1
        out[i] = 0
        for j in range(first, first + 4):
            x = abs(centre - j)
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            mirrored = -1 - j if j < 0 else 2 * size - 1 - j if j >= size else j
            out[i] += (near if x <= 1 else far) * pixels[mirrored]
    return np.floor(np.clip(out, 0, 255) + 0.5)
