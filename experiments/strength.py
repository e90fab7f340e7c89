"""A strip of pictures between the clean model and the one for photographs, by `--strength`.

The picture is scikit-image's `data.astronaut()`: NASA, public domain (docs/images/CREDITS.md).
"""

import numpy as np
from experiments.contenders import degraded
from experiments.panels import grid
from PIL import Image
from skimage.data import astronaut

from enlca.checkpoint.mixing import mix
from enlca.data.noise import GaussianNoise
from enlca.data.operators import Jpeg
from enlca.evaluation.evaluate import method_called
from enlca.metrics import psnr

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
DAMAGE = {"JPEG 50": Jpeg(50), "noise 10": GaussianNoise(10.0)}
# The part that is upscaled (its side, and first column), and the part of it that is shown, in HR pixels.
AROUND, FIRST = 256, 96
TOP, LEFT, SIDE = 16, 36, 176


def strip(light: str, photo: str, scale: int) -> Image.Image:
    """Return LR, SR at each strength with its PSNR-Y, and HR, in a row for each damage.

    Raises:
        CheckpointError: `photo` cannot be mixed with `light`.
    """
    hr = np.ascontiguousarray(astronaut()[:AROUND, FIRST : FIRST + AROUND])
    part = (slice(TOP, TOP + SIDE), slice(LEFT, LEFT + SIDE))
    ways = {
        strength: method_called(mix(light, photo, strength=strength, scale=scale), scale=scale, device="cpu")
        for strength in STRENGTHS
    }
    panels = []
    for name, how in DAMAGE.items():
        lr = degraded(hr, name, how, scale=scale)
        large = lr.repeat(scale, axis=0).repeat(scale, axis=1)
        panels.append((f"LR, {name}", large[part]))
        for strength, method in ways.items():
            sr = method.upscale(lr)
            panels.append((f"strength {strength:g}: {psnr(sr, hr, shave=scale):.2f} dB", sr[part]))
        panels.append(("original", hr[part]))
    return grid(panels, columns=len(STRENGTHS) + 2)
