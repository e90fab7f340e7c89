"""`--lr float`: LR that is made here and not rounded, a part of the protocol."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.image.resize import imresize, to_uint8
from enlca.metrics import psnr
from enlca.network.interface import SRModel

S = 2


@pytest.fixture
def folder(tmp_path):
    """A benchmark folder whose LR file is black: it is used, or it is not."""
    rows, columns, channels = np.indices((44, 52, 3))
    hr = (128 + 90 * np.sin(rows / 3 + columns / 5 + channels)).astype(np.uint8)
    for name, pixels in (("HR_x2", hr), ("LR_x2", np.zeros((22, 26, 3), np.uint8))):
        (tmp_path / "Mine" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "Mine" / name / "a.png")
    return tmp_path / "Mine"


def hr_of(folder):
    return np.asarray(Image.open(folder / "HR_x2" / "a.png"))


def test_bicubic_of_float_lr_is_rounded_once_at_the_end_and_recorded(folder, tmp_path, command):
    done = command(
        *("evaluate", folder, "--model=bicubic", "--scale", S, "--lr", "float"),
        *("--json-file", tmp_path / "x.json", "--csv", tmp_path / "x.csv"),
    )
    assert (done.code, done.err) == (0, "")
    hr = hr_of(folder)
    sr = to_uint8(imresize(imresize(hr.astype(np.float64), Fraction(1, S)), Fraction(S)))
    body = json.loads((tmp_path / "x.json").read_text())
    assert body["images"][0]["psnr_y"] == psnr(sr, hr, shave=S)
    protocol = body["protocol"]
    assert (protocol["lr_type"], protocol["lr_source"]) == ("float", "matlab-bicubic")
    assert "neither rounded nor clipped" in protocol["lr"]
    [row] = csv.DictReader((tmp_path / "x.csv").open())
    assert row["protocol"] == "whole+float-lr"


def test_by_default_the_lr_files_are_used_and_the_record_says_so(folder, tmp_path, command):
    done = command("evaluate", folder, "--model=bicubic", "--scale", S, "--json-file", tmp_path / "x.json")
    assert (done.code, done.err) == (0, "")
    body = json.loads((tmp_path / "x.json").read_text())
    assert body["images"][0]["psnr_y"] == psnr(np.zeros((44, 52, 3), np.uint8), hr_of(folder), shave=S)
    assert (body["protocol"]["lr_type"], body["protocol"]["lr_source"]) == ("uint8", "files")
    assert "rounded to uint8 after each axis" in body["protocol"]["lr"]


class Keep(SRModel):
    """Nearest neighbour; remembers its input."""

    scale = S

    def forward(self, lr):
        self.lr = lr
        return lr.repeat_interleave(S, dim=2).repeat_interleave(S, dim=3)


def test_a_network_sees_the_float_picture_in_0_to_1(folder):
    from enlca.evaluation.evaluate import evaluate, method_called

    network = Keep()
    evaluate(method_called(network, scale=S, device="cpu"), [folder], scale=S, lr="float")
    expected = imresize(hr_of(folder).astype(np.float64), Fraction(1, S)) / 255
    found = network.lr[0].permute(1, 2, 0)
    torch.testing.assert_close(found, torch.from_numpy(expected).float())
    assert not torch.equal((found * 255).round(), found * 255)


@pytest.mark.data
@pytest.mark.slow
def test_the_published_lapsrn_scores_what_it_prints_from_lr_that_was_not_rounded(shared_data, command):
    weights = shared_data / "peers" / "LapSRN" / "LapSRN_x4.mat"
    if not weights.exists():
        pytest.skip(f"no published weights at {weights}")
    for lr, expected in (("uint8", 31.529), ("float", 31.539)):
        words = ("evaluate", shared_data / "test" / "Set5", "--scale", 4, "--model", weights, "--lr", lr)
        done = command(*words, "--device", "cpu")
        assert (done.code, done.err) == (0, "")
        assert float(done.out.splitlines()[2].split(" | ")[3]) == pytest.approx(expected, abs=0.01)
