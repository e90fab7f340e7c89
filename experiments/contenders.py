"""What is compared on degraded photographs: methods, ways to degrade, and scores that are kept.

A score is kept by the weights and the pixels that it is of: a command that was stopped goes on, and new
weights are scored beside others that need not be scored again.
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from experiments.scores import SHARED
from jaxtyping import UInt8

from enlca.checkpoint.store import locate
from enlca.data.degradations import degrade_picture
from enlca.data.noise import GaussianNoise
from enlca.data.operators import Jpeg, Operator, levels
from enlca.data.recipes import Degradation, apply
from enlca.evaluation.evaluate import BICUBIC, Method, method_called
from enlca.evaluation.perceptual import ssimulacra2
from enlca.image.resize import imresize
from enlca.metrics import psnr
from enlca.runtime.files import write_atomically

SEED = 7
LIGHT, PHOTO, GENERAL = "enlcn-light", "photo", "realesr-general"
CLEAN, WEB = "clean", "web"
# Of LR: a preset drawn with SEED; or MATLAB's bicubic, and then an operator.
CONDITIONS: dict[str, Degradation | Operator] = {
    CLEAN: Degradation(preset="clean"),
    WEB: Degradation(preset="web"),
    "JPEG 90": Jpeg(90),
    "JPEG 75": Jpeg(75),
    "JPEG 50": Jpeg(50),
    "noise 5": GaussianNoise(5.0),
    "noise 15": GaussianNoise(15.0),
}


def degraded(
    hr: UInt8[np.ndarray, "H W 3"], name: str, how: Degradation | Operator, *, scale: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Return LR; with a preset it is that of `enlca degrade --seed 7` for a picture of this name."""
    if isinstance(how, Degradation):
        return degrade_picture(hr, name, scale=scale, degradation=how, seed=SEED)
    random = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    return levels(apply([how], imresize(hr, Fraction(1, scale)), random))


@dataclass(frozen=True)
class Contender:
    """A method under its name in tables; `digest` is of its weights."""

    name: str
    scale: int
    method: Method
    digest: str

    def upscale(self, lr: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the SR picture."""
        return self.method.upscale(lr)


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every command about photographs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", default=PHOTO, metavar="MODEL", help="the weights (default: bundled)")
    parser.add_argument("--light", default=LIGHT, metavar="MODEL", help="the weights that they began with")
    parser.add_argument("--data", type=Path, default=SHARED, metavar="DIR", help="the project's pictures")
    parser.add_argument("--limit", type=int, metavar="N", help="the first pictures only, to try it")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), metavar="DIR", help="for figures")
    kept = Path("runs/photographs/scores.json")
    parser.add_argument("--kept", type=Path, default=kept, metavar="FILE", help="scores that are known")
    return parser


def contenders(arguments: argparse.Namespace, scale: int) -> list[Contender]:
    """Bicubic, `enlcn-light`, the weights for photographs, and at x4 realesr-general if its file is there.

    Raises:
        EnlcaError: weights that cannot be used.
    """
    models = {LIGHT: arguments.light, PHOTO: arguments.photo}
    general = arguments.data / "peers" / "RealESRGAN" / "realesr-general-x4v3.bin"
    if scale == 4 and general.exists():
        models[GENERAL] = str(general)
    found = [Contender(BICUBIC, scale, method_called(BICUBIC, scale=scale), BICUBIC)]
    for name, model in models.items():
        digest = sha256(locate(model, scale).read_bytes()).hexdigest()[:16]
        found.append(Contender(name, scale, method_called(model, scale=scale, device="cpu"), digest))
    return found


class Score(NamedTuple):
    """PSNR on luma, and SSIMULACRA2 where it was asked for."""

    psnr_y: float
    ssimulacra2: float | None


class Scores:
    """Scores in a JSON file, which is written with each that is new."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def of(
        self, who: Contender, lr: UInt8[np.ndarray, "h w 3"], hr: UInt8[np.ndarray, "H W 3"], *, eye: bool
    ) -> Score:
        """Return the score of a picture, with SSIMULACRA2 if `eye`."""
        pixels = (f"{zlib.crc32(side.tobytes()):08x}" for side in (lr, hr))
        known = self._known.setdefault(" ".join([who.digest, *pixels]), {})
        if "psnr_y" not in known or (eye and "ssimulacra2" not in known):
            sr = who.upscale(lr)
            known["psnr_y"] = round(psnr(sr, hr, shave=who.scale), 4)
            if eye:
                known["ssimulacra2"] = round(ssimulacra2().compute(sr, hr, who.scale), 3)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, (json.dumps(self._known, indent=0) + "\n").encode())
        return Score(known["psnr_y"], known.get("ssimulacra2") if eye else None)
