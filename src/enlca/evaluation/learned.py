"""LPIPS (Zhang et al. 2018) and DISTS (Ding et al. 2020) in plain PyTorch; weights are the user's files.

Files of several projects have the tensors, under names that hold the numbers of layers: torchvision's AlexNet
and VGG16 (`features.0.weight`), the package lpips (`net.slice1.0.weight`, `lin0.model.1.weight`), and
DISTS (`stage1.0.weight`, `alpha`, `beta`). Backbone and heads may be in one file or in two.

Letters:  H, W height and width   C channels   h, w of a stage's features
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from enlca.checkpoint.recognise import read
from enlca.errors import CheckpointError, EvaluationError
from enlca.evaluation.report import Metric, Rgb

Features = list[Float[Tensor, "1 C h w"]]


class Conv(NamedTuple):
    """A convolution of a backbone and the ReLU after it; `number` is its place in torchvision's layers."""

    number: int
    out: int
    stride: int = 1
    padding: int = 1


# Stages of convolutions, with pooling between them.
ALEX = [[Conv(0, 64, 4, 2)], [Conv(3, 192, 1, 2)], [Conv(6, 384)], [Conv(8, 256)], [Conv(10, 256)]]
ALEX_POOLED = (True, True, False, False)
VGG = [
    [Conv(number, out) for number in numbers]
    for out, numbers in (
        (64, (0, 2)),
        (128, (5, 7)),
        (256, (10, 12, 14)),
        (512, (17, 19, 21)),
        (512, (24, 26, 28)),
    )
]
# LPIPS's own normalisation of pictures in [-1, 1], and ImageNet's in [0, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYER = re.compile(r"(?:^|\.)(?:features|slice\d|stage\d)\.(\d+)\.(weight|bias)$")
HEAD = re.compile(r"(?:^|\.)lin(\d)\.model\.1\.weight$")


def learned_metric(name: str, files: Sequence[Path]) -> Metric:
    """Return the metric `lpips` or `dists` with the weights of `files`.

    Raises:
        EvaluationError: no files, or they lack a tensor.
        CheckpointError: a file cannot be read.
    """
    if not files:
        raise EvaluationError(f"{name} needs weights, which enlca does not download: {name}=FILE[,FILE]")
    weights: dict[str, Tensor] = {}
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file of weights")
        weights |= named(_read(path))
    where = " and ".join(map(str, files))
    if name == "lpips":
        metric, variant = Lpips(weights, where=where), "AlexNet" if is_alex(weights) else "VGG16"
        about = f"Zhang et al. 2018, version 0.1, {variant}, of the whole image"
    else:
        metric, about = Dists(weights, where=where), "Ding et al. 2020, of the whole image, not resized"

    def compute(sr: Rgb, hr: Rgb, shave: int) -> float:
        with torch.no_grad():
            return float(metric(_unit(sr), _unit(hr)))

    return Metric(
        column=name,
        title=name.upper(),
        compute=compute,
        about=about,
        higher_is_better=False,
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    )


def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under one set of names: `0.weight`, `0.bias`, `lin0`, `alpha`, `beta`."""
    found = {}
    for name, tensor in tensors.items():
        if match := LAYER.search(name):
            found[f"{match[1]}.{match[2]}"] = tensor.float()
        elif match := HEAD.search(name):
            found[f"lin{match[1]}"] = tensor.float()
        elif name in ("alpha", "beta"):
            found[name] = tensor.float()
    return found


def is_alex(weights: Mapping[str, Tensor]) -> bool:
    """Whether a backbone is AlexNet, whose first kernels are 11x11, and not VGG16."""
    return "0.weight" in weights and weights["0.weight"].shape[-1] == 11


class Lpips:
    """Distances of features of unit length, weighted by channel. (Zhang et al. 2018, Eq. 1)"""

    def __init__(self, weights: Mapping[str, Tensor], *, where: str):
        self.weights, self.alex = weights, is_alex(weights)
        self.stages = ALEX if self.alex else VGG
        shapes = _shapes(self.stages, first=11 if self.alex else 3, second=5 if self.alex else 3)
        shapes |= {f"lin{k}": (1, stage[-1].out, 1, 1) for k, stage in enumerate(self.stages)}
        _check(weights, shapes, where)

    def __call__(self, sr: Float[Tensor, "1 3 H W"], hr: Float[Tensor, "1 3 H W"]) -> Float[Tensor, ""]:
        """Return the distance of two images in [0, 1]. Raises ValueError: they are too small."""
        smallest = 31 if self.alex else 16
        if min(hr.shape[2:]) < smallest:
            height, width = hr.shape[2:]
            raise ValueError(
                f"LPIPS needs pictures of at least {smallest} pixels a side, got {width}x{height}"
            )
        total = sr.new_zeros(())
        for k, (x, y) in enumerate(zip(self.features(sr), self.features(hr), strict=True)):
            gap = (_unit_length(x) - _unit_length(y)) ** 2
            total = total + (self.weights[f"lin{k}"] * gap).sum(dim=1).mean()
        return total

    def features(self, image: Float[Tensor, "1 3 H W"]) -> Features:
        """Return the features after each stage."""
        x = (2 * image - 1 - _channels(SHIFT)) / _channels(SCALE)
        pooled = (*ALEX_POOLED, False) if self.alex else (True,) * 5
        found = []
        for stage, pools in zip(self.stages, pooled, strict=True):
            x = _run(x, stage, self.weights)
            found.append(x)
            x = max_pool2d(x, 3 if self.alex else 2, 2) if pools and len(found) < 5 else x
        return found


class Dists:
    """One minus the weighted similarity of features' means and structure. (Ding et al. 2020, Eq. 7)"""

    def __init__(self, weights: Mapping[str, Tensor], *, where: str):
        self.weights = weights
        channels = 3 + sum(stage[-1].out for stage in VGG)
        shapes = _shapes(VGG, first=3, second=3) | dict.fromkeys(("alpha", "beta"), (1, channels, 1, 1))
        _check(weights, shapes, where)

    def __call__(self, sr: Float[Tensor, "1 3 H W"], hr: Float[Tensor, "1 3 H W"]) -> Float[Tensor, ""]:
        """Return the distance of two images in [0, 1]."""
        similarity = []
        for x, y in zip(self.features(sr), self.features(hr), strict=True):
            mean_x, mean_y = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
            variances = ((x - mean_x) ** 2).mean((2, 3)) + ((y - mean_y) ** 2).mean((2, 3))
            covariance = ((x - mean_x) * (y - mean_y)).mean((2, 3))
            means = (2 * mean_x * mean_y + 1e-6) / (mean_x**2 + mean_y**2 + 1e-6)
            similarity.append((means[..., 0, 0], (2 * covariance + 1e-6) / (variances + 1e-6)))
        means, structure = (torch.cat(part, dim=1) for part in zip(*similarity, strict=True))
        alpha, beta = (self.weights[name].flatten(1) for name in ("alpha", "beta"))
        return 1 - (alpha * means + beta * structure).sum() / (alpha + beta).sum()

    def features(self, image: Float[Tensor, "1 3 H W"]) -> Features:
        """Return the image, then the features after each stage."""
        x, found = (image - _channels(MEAN)) / _channels(STD), [image]
        for number, stage in enumerate(VGG):
            x = _run(_l2_pool(x) if number else x, stage, self.weights)
            found.append(x)
        return found


def _l2_pool(x: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 C _ _"]:
    """Return the root of Hann-weighted means of squares, at half the size. (Ding et al., Eq. 2)"""
    window = torch.hann_window(5, periodic=False)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    return (conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def _run(x: Tensor, stage: Sequence[Conv], weights: Mapping[str, Tensor]) -> Tensor:
    for conv in stage:
        kernel, bias = weights[f"{conv.number}.weight"], weights[f"{conv.number}.bias"]
        x = conv2d(x, kernel, bias, stride=conv.stride, padding=conv.padding).relu()
    return x


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _unit(image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "1 3 H W"]:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def _shapes(stages: Sequence[Sequence[Conv]], *, first: int, second: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for place, conv in enumerate(conv for stage in stages for conv in stage):
        side = (first, second)[place] if place < 2 else 3
        shapes[f"{conv.number}.weight"] = (conv.out, channels, side, side)
        shapes[f"{conv.number}.bias"] = (conv.out,)
        channels = conv.out
    return shapes


def _check(weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in shapes.items():
        if name not in weights:
            raise EvaluationError(f"{where}: no tensor for {name}, of the shape {shape}; name its file, too")
        if tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape)
            raise EvaluationError(f"{where}: {name} has the shape {found}, not {shape}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
