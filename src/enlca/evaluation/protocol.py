"""What "PSNR" means here, as data that travels with every number."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The evaluation protocol; written into every result file.

    Attributes:
        name: how the network sees a picture: "whole", "chop" (the released code's quadrants), or "given"
            for pictures that somebody else made.
        scale: enlargement.
        ensemble: whether 8 views of each picture were averaged, before rounding.
        lr_source: where the small pictures came from: "files", "matlab-bicubic" (made here), or "given".
    """

    name: str
    scale: int
    lr_source: str
    ensemble: bool = False

    @property
    def shave(self) -> int:
        """Pixels dropped at each border."""
        return self.scale

    @property
    def label(self) -> str:
        """The name that stands in tables: "whole", "chop+ensemble"."""
        return f"{self.name}+ensemble" if self.ensemble else self.name

    def to_dict(self) -> dict[str, Any]:
        """Every convention that a number depends on."""
        return {
            **asdict(self),
            "hr": "mod-cropped to the scale",
            "lr": "MATLAB imresize(uint8, 1/scale, 'bicubic'), rounded to uint8 after each axis, rows first",
            "sr": "clipped to [0, 1], scaled to 255, rounded to uint8",
            "luma": "BT.601, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, float64, not rounded",
            "shave": self.shave,
            "psnr": "peak 255, per image, then the mean over images",
            "ssim": "Gaussian 11x11, sigma 1.5, valid region, K = (0.01, 0.03), L = 255, then as psnr",
        }
