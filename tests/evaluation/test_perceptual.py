"""Metrics of what the eye sees: columns where they are asked for, weights from files of the user."""

import csv
import hashlib
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from enlca.errors import EvaluationError
from enlca.evaluation.learned import Dists, Lpips, named
from enlca.evaluation.perceptual import metrics_called


def smooth(seed, height=180, width=184):
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def noisy(image, sigma):
    return np.clip(image + np.random.default_rng(3).normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Mine", "fine", "rough"):
        (tmp_path / name).mkdir()
    for number in range(2):
        hr = smooth(number)
        Image.fromarray(hr).save(f"Mine/{number}.png")
        Image.fromarray(noisy(hr, 4)).save(f"fine/{number}.png")
        Image.fromarray(noisy(hr, 25)).save(f"rough/{number}.png")
    return tmp_path


COLUMNS = {"ms-ssim": "ms_ssim_y", "ssimulacra2": "ssimulacra2", "flip": "flip"}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_metric_prefers_the_finer_image_and_knows_equal_ones(name):
    pytest.importorskip({"flip": "flip_evaluator"}.get(name, "numpy"))
    pytest.importorskip({"ssimulacra2": "ssimulacra2"}.get(name, "numpy"))
    [metric] = metrics_called([name])
    hr = smooth(0)
    equal, fine, rough = (metric.compute(sr, hr, 2) for sr in (hr, noisy(hr, 4), noisy(hr, 25)))
    assert equal == pytest.approx({"ssimulacra2": 100, "flip": 0, "ms-ssim": 1}[name], abs=1e-6)
    assert (equal > fine > rough) == metric.higher_is_better
    assert (equal < fine < rough) != metric.higher_is_better


def test_further_columns_are_in_csv_json_and_tables_where_asked_for(folders, command):
    words = ("score", "fine", "Mine", "--scale", 2, "--metrics", "ms-ssim")
    done = command(*words, "--csv", "x.csv", "--json-file", "x.json")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader((folders / "x.csv").read_text().splitlines()))
    body = json.loads((folders / "x.json").read_text())
    assert list(rows[0])[-1] == "ms_ssim_y"
    mean = sum(float(row["ms_ssim_y"]) for row in rows) / 2
    assert body["datasets"]["Mine"]["ms_ssim_y"] == pytest.approx(mean)
    assert "Wang et al. 2003" in body["protocol"]["ms_ssim_y"]
    assert "| MS-SSIM-Y | images |\n|---|---|---|---|---|---|---|\n" in done.out
    assert f"| {mean:.4f} | 2 |" in done.out
    assert "MS-SSIM" not in command(*words[:-2]).out


def test_compare_has_the_columns_too(folders, command):
    words = ("compare", "--model", "rough", "--model", "fine", "--data", "Mine", "--scale", 2)
    done = command(*words, "--metrics", "ms-ssim", "--csv", "x.csv", "--json-file", "x.json")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader((folders / "x.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} == {"rough", "fine"}
    assert all(0 < float(row["ms_ssim_y"]) < 1 for row in rows)
    rough, fine = (
        result["datasets"]["Mine"] for result in json.loads((folders / "x.json").read_text())["results"]
    )
    assert fine["ms_ssim_y"] > rough["ms_ssim_y"]
    header, rule, *lines = done.out.splitlines()
    assert {line.count("|") for line in (header, rule, *lines)} == {11}


def test_equal_images_are_compared_by_a_package_through_the_command(folders, command):
    pytest.importorskip("flip_evaluator")
    done = command("evaluate", "--model", "bicubic", "--data", "Mine", "--scale", 2, "--metrics", "flip")
    assert (done.code, done.err) == (0, "")
    assert "| FLIP ↓ |" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ssim"], "unknown metric 'ssim'; there are ms-ssim, ssimulacra2, flip, lpips=FILE, dists=FILE"),
        (["ms-ssim", "ms-ssim"], "the metric ms-ssim is asked for twice"),
        (["ms-ssim=x"], "the metric ms-ssim needs no file; leave out =x"),
        (["lpips"], r"lpips needs weights, which enlca does not download: lpips=FILE\[,FILE\]"),
    ],
)
def test_metrics_that_cannot_be_are_refused(words, message):
    with pytest.raises(EvaluationError, match=message):
        metrics_called(words)


def test_a_picture_too_small_is_a_failure_of_its_own(folders, command):
    for folder in ("Mine", "fine"):
        Image.new("RGB", (100, 100)).save(f"{folder}/small.png")
    done = command("score", "fine", "Mine", "--scale", 2, "--metrics", "ms-ssim")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "small" in done.err


def alex():
    """The layers of torchvision's AlexNet, by their numbers."""
    convs = [nn.Conv2d(3, 64, 11, 4, 2), nn.Conv2d(64, 192, 5, padding=2), nn.Conv2d(192, 384, 3, padding=1)]
    convs += [nn.Conv2d(384, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1)]
    pool = nn.MaxPool2d(3, 2)
    layers = [convs[0], nn.ReLU(), pool, convs[1], nn.ReLU(), pool]
    for conv in convs[2:]:
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers)


def vgg():
    """The layers of torchvision's VGG16."""
    layers, channels = [], 3
    for out in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()] if out else [nn.MaxPool2d(2)]
        channels = out or channels
    return nn.Sequential(*layers)


def backbone(make):
    torch.manual_seed(5)
    network = make()
    return network, {f"features.{name}": tensor for name, tensor in network.state_dict().items()}


WIDTHS = {alex: (64, 192, 384, 256, 256), vgg: (64, 128, 256, 512, 512)}
TAPS = {alex: (1, 4, 7, 9, 11), vgg: (3, 8, 15, 22, 29)}


def heads(make):
    generator = torch.Generator().manual_seed(1)
    widths = WIDTHS[make]
    return {
        f"lin{k}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for k, w in enumerate(widths)
    }


@pytest.fixture
def images():
    return torch.rand(2, 1, 3, 67, 71, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("make", [alex, vgg])
def test_lpips_is_its_definition_over_torchvisions_layers(make, images):
    network, tensors = backbone(make)
    lins = heads(make)
    metric = Lpips(named(tensors | lins), where="here")
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    wanted = torch.zeros(())
    with torch.no_grad():
        sides = [(2 * x - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for x in images]
        for number, layer in enumerate(network):
            sides = [layer(side) for side in sides]
            if number in TAPS[make]:
                x, y = (nn.functional.normalize(side, dim=1) for side in sides)
                lin = lins[f"lin{TAPS[make].index(number)}.model.1.weight"]
                wanted = wanted + nn.functional.conv2d((x - y) ** 2, lin).mean()
        torch.testing.assert_close(metric(*images), wanted, rtol=1e-4, atol=1e-6)
        assert metric(images[0], images[0]) == 0


@pytest.mark.parametrize(("make", "smallest"), [(alex, 31), (vgg, 16)])
def test_lpips_refuses_what_its_backbone_makes_nothing_of(make, smallest):
    metric = Lpips(named(backbone(make)[1] | heads(make)), where="")
    image = torch.rand(1, 3, smallest, smallest + 2)
    with torch.no_grad():
        assert metric(image, image) == 0
        with pytest.raises(ValueError, match=f"at least {smallest} pixels a side, got {smallest + 2}x"):
            metric(image[:, :, 1:], image[:, :, 1:])


def test_dists_is_its_definition(images):
    network, tensors = backbone(vgg)
    generator = torch.Generator().manual_seed(4)
    weights = {name: torch.rand(1, 1475, 1, 1, generator=generator) for name in ("alpha", "beta")}
    metric = Dists(named(tensors | weights), where="here")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    a, b = (weights[name].flatten().double() for name in ("alpha", "beta"))
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16

    def features(x):
        found, x = [x], (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        for number, layer in enumerate(network):
            if isinstance(layer, nn.MaxPool2d):
                squares = nn.functional.pad(x[0] ** 2, (1, 1, 1, 1)).unfold(1, 3, 2).unfold(2, 3, 2)
                x = ((squares * kernel).sum((-1, -2)) + 1e-12).sqrt()[None]
            else:
                x = layer(x)
            if number in TAPS[vgg]:
                found.append(x)
        return [channel.flatten().double() for part in found for channel in part[0]]

    with torch.no_grad():
        similarity = 0.0
        for k, (x, y) in enumerate(zip(*(features(image) for image in images), strict=True)):
            luminance = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            covariance = (x * y).mean() - x.mean() * y.mean()
            structure = (2 * covariance + 1e-6) / (x.var(correction=0) + y.var(correction=0) + 1e-6)
            similarity += float(a[k] * luminance + b[k] * structure)
        wanted = 1 - similarity / float((a + b).sum())
        assert float(metric(*images)) == pytest.approx(wanted, abs=1e-4)
        assert float(metric(images[0], images[0])) == pytest.approx(0, abs=1e-5)


def test_lpips_reads_one_file_or_two_and_prints_their_checksums(folders, command):
    _, tensors = backbone(alex)
    # As the package lpips names its layers.
    slices = OrderedDict((name.replace("features.", "net.slice1."), x) for name, x in tensors.items())
    torch.save(tensors, "alexnet.pth")
    torch.save(OrderedDict(heads(alex)), "alex.pth")
    torch.save(OrderedDict(slices | heads(alex)), "both.pth")
    words = ("score", "fine", "Mine", "--scale", 2, "--metrics")
    one = command(*words, "lpips=both.pth")
    two = command(*words, "lpips=alexnet.pth,alex.pth")
    assert (one.code, two.code, one.out) == (0, 0, two.out)
    checksums = [
        hashlib.sha256((folders / name).read_bytes()).hexdigest() for name in ("alexnet.pth", "alex.pth")
    ]
    assert two.err.splitlines() == [
        f"enlca: lpips: alexnet.pth sha256 {checksums[0]}",
        f"enlca: lpips: alex.pth sha256 {checksums[1]}",
    ]
    lacking = command(*words, "lpips=alexnet.pth")
    assert (lacking.code, lacking.err.count("\n")) == (2, 1)
    assert "alexnet.pth: no tensor for lin0, of the shape (1, 64, 1, 1); name its file, too" in lacking.err
    wrong = command(*words, "dists=alexnet.pth")
    assert wrong.code == 2
    assert "0.weight has the shape (64, 3, 11, 11), not (64, 3, 3, 3)" in wrong.err
    assert command(*words, "lpips=gone.pth").err == "enlca: gone.pth: no such file of weights\n"
