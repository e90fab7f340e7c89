"""What an evaluation found, and the protocol that its numbers depend on; as JSON, CSV and a table."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The evaluation protocol; written into every result file.

    Attributes:
        name: how the network sees an image: "whole", "chop" (the released code's quadrants), or "given" for
            SR images that exist already.
        scale: the upscaling factor; also the pixels that are dropped at each border.
        lr_source: origin of the LR images: "files", "matlab-bicubic" (made here), or "given".
        ensemble: whether 8 views of each image were averaged, before rounding.
    """

    name: str
    scale: int
    lr_source: str
    ensemble: bool = False

    @property
    def label(self) -> str:
        """The name in tables: "whole", "chop+ensemble"."""
        return f"{self.name}+ensemble" if self.ensemble else self.name

    def to_dict(self) -> dict[str, Any]:
        """Return every convention that a number depends on."""
        return {
            **asdict(self),
            "hr": "mod-cropped to the scale",
            "lr": "MATLAB imresize(uint8, 1/scale, 'bicubic'), rounded to uint8 after each axis, rows first",
            "sr": "clipped to [0, 1], scaled to 255, rounded to uint8",
            "luma": "BT.601, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, float64, not rounded",
            "shave": self.scale,
            "psnr": "peak 255, per image, then the mean over images",
            "ssim": "Gaussian 11x11, sigma 1.5, valid region, K = (0.01, 0.03), L = 255, then as psnr",
        }


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One image's row; `seconds` is the time of upscaling alone, `height` and `width` are those of HR."""

    dataset: str
    image: str
    scale: int
    model: str
    protocol: str
    psnr_y: float
    ssim_y: float
    seconds: float
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of an evaluation: protocol, model, and a score for each image."""

    protocol: Protocol
    model: dict[str, Any]
    images: Sequence[ImageScore]

    def datasets(self) -> dict[str, dict[str, float | int]]:
        """Return the means over the images of each data set, in the order in which they were scored."""
        names = dict.fromkeys(row.dataset for row in self.images)
        return {name: _mean([row for row in self.images if row.dataset == name]) for name in names}

    def to_json(self) -> str:
        """Return the JSON object of the command's contract."""
        body = {
            "protocol": self.protocol.to_dict(),
            "model": self.model,
            "datasets": self.datasets(),
            "images": [asdict(row) for row in self.images],
        }
        return json.dumps(_finite(body), indent=2) + "\n"

    def to_csv(self) -> str:
        """Return a row per image, with the columns of the command's contract."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(ImageScore)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.images)
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return the means as a table."""
        lines = ["| data set | scale | model | PSNR-Y | SSIM-Y | images |", "|---|---|---|---|---|---|"]
        for name, mean in self.datasets().items():
            scores = f"{mean['psnr_y']:.3f} | {mean['ssim_y']:.4f} | {mean['n']}"
            lines.append(f"| {name} | x{self.protocol.scale} | {self.images[0].model} | {scores} |")
        return "\n".join(lines) + "\n"


def _mean(rows: Sequence[ImageScore]) -> dict[str, float | int]:
    n = len(rows)
    psnr, ssim = (math.fsum(values) / n for values in zip(*((r.psnr_y, r.ssim_y) for r in rows), strict=True))
    return {"psnr_y": psnr, "ssim_y": ssim, "n": n}


def _finite(value: Any) -> Any:
    """Replace infinity, which JSON lacks, by the string "inf": the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
