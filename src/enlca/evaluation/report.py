"""What an evaluation found, and the protocol that its numbers depend on; as JSON, CSV and a table."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Lr = Literal["uint8", "float"]
# The protocol of SR images that exist already, and the origin of their LR images.
GIVEN = "given"
LR_TYPES = {
    "uint8": "MATLAB imresize(uint8, 1/scale, 'bicubic'), rounded to uint8 after each axis, rows first",
    "float": "MATLAB imresize(double, 1/scale, 'bicubic') of the HR image: neither rounded nor clipped",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The evaluation protocol; written into every result file.

    Attributes:
        name: how the network sees an image: "whole", "chop" (the released code's quadrants), or "given" for
            SR images that exist already.
        scale: the upscaling factor; also the pixels that are dropped at each border.
        lr_source: origin of the LR images: "files", "matlab-bicubic" (made here), or "given".
        ensemble: whether 8 views of each image were averaged, before rounding.
        lr_type: "uint8", as LR files are; or "float": made here without rounding. It spares the network the
            rounding error, which a method cannot tell from detail, and gives 0.01 to 0.03 dB.
    """

    name: str
    scale: int
    lr_source: str
    ensemble: bool = False
    lr_type: Lr = "uint8"

    @property
    def label(self) -> str:
        """The name in tables: "whole", "chop+ensemble", "whole+float-lr"."""
        parts = [
            self.name,
            "ensemble" if self.ensemble else "",
            "float-lr" if self.lr_type == "float" else "",
        ]
        return "+".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Return every convention that a number depends on."""
        return {
            **asdict(self),
            "hr": "mod-cropped to the scale",
            "lr": LR_TYPES[self.lr_type],
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

    def to_dict(self) -> dict[str, Any]:
        """Return the object of the command's contract."""
        return {
            "protocol": self.protocol.to_dict(),
            "model": self.model,
            "datasets": self.datasets(),
            "images": [asdict(row) for row in self.images],
        }

    def to_json(self) -> str:
        """Return the JSON object of the command's contract."""
        return dumps(self.to_dict())

    def to_csv(self) -> str:
        """Return a row per image, with the columns of the command's contract."""
        return to_csv([self])

    def to_markdown(self) -> str:
        """Return the means as a table."""
        return to_markdown([self])


def to_json(reports: Sequence[Report]) -> str:
    """Return the JSON object of one report, or of several in a list under "results"."""
    bodies = [report.to_dict() for report in reports]
    return dumps(bodies[0] if len(bodies) == 1 else {"results": bodies})


def to_csv(reports: Sequence[Report]) -> str:
    """Return a row for each image of each report."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ImageScore)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for report in reports for row in report.images)
    return text.getvalue()


def to_markdown(reports: Sequence[Report]) -> str:
    """Return the means as one table: the models of a data set below each other."""
    lines = ["| data set | scale | model | PSNR-Y | SSIM-Y | images |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(name for report in reports for name in report.datasets()):
        for report in reports:
            if mean := report.datasets().get(name):
                scores = f"{mean['psnr_y']:.3f} | {mean['ssim_y']:.4f} | {mean['n']}"
                lines.append(f"| {name} | x{report.protocol.scale} | {report.images[0].model} | {scores} |")
    return "\n".join(lines) + "\n"


def dumps(body: Any) -> str:
    """Return JSON in which infinity, which JSON lacks, is the string "inf"."""
    return json.dumps(_finite(body), indent=2) + "\n"


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
