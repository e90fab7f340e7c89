"""Draw what each operator of `enlca.data` does to a picture, and what the presets make of it.

python -m experiments.figure_operators docs/images/operators.webp

The picture is scikit-image's `data.astronaut()`: NASA, public domain (docs/images/CREDITS.md).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from experiments.panels import grid
from skimage.data import astronaut

from enlca.data.kernels import gaussian_kernel, sinc_kernel
from enlca.data.noise import CameraNoise, GaussianNoise, PoissonNoise, Smear
from enlca.data.operators import Blur, Jpeg, Resize, WebP, levels
from enlca.data.recipes import Degradation, Recipe, apply, degrade

# Of the part that is shown, in pixels; of each panel, each pixel of which is drawn ZOOM times.
SIDE, ZOOM, COLUMNS = 96, 2, 5
# First column of the picture that is used; the first row is the first.
LEFT = 60

OPERATORS: dict[str, Recipe] = {
    "original": (),
    "Gaussian blur, sigma 1.5": [Blur(gaussian_kernel(1.5, radius=5))],
    "anisotropic, 3 and 0.6": [Blur(gaussian_kernel(3.0, radius=9, other_sigma=0.6, angle=0.7))],
    "generalised, flat top": [Blur(gaussian_kernel(2.5, radius=7, shape=3.0))],
    "sinc, cutoff pi / 3": [Blur(sinc_kernel(np.pi / 3, radius=10))],
    "box 0.4, then lanczos": [Resize(0.4, "box"), Resize(1.0, "lanczos")],
    "Gaussian noise, sigma 15": [GaussianNoise(15.0)],
    "the same, grey": [GaussianNoise(15.0, grey=True)],
    "Poisson noise, 150 photons": [PoissonNoise(150.0)],
    "camera noise": [CameraNoise(shot=6e-3, read=6e-3)],
    "camera noise, smeared": [CameraNoise(shot=6e-3, read=6e-3), Smear(18.0)],
    "JPEG 20, chroma halved": [Jpeg(20)],
    "JPEG 20, chroma kept": [Jpeg(20, "4:4:4")],
    "JPEG 60, chroma halved": [Jpeg(60)],
    "WebP 10": [WebP(10)],
}
# The original is "clean".
PRESETS = ("web", "phone", "noisy", "strong")


def main(words: Sequence[str]) -> None:
    """Write one picture with a panel for each operator, then a row for each preset."""
    [target] = map(Path, words)
    region = np.ascontiguousarray(astronaut()[: 4 * SIDE, LEFT : LEFT + 4 * SIDE])
    small = degrade(region, (), scale=4, random=np.random.default_rng(0))
    panels = {
        name: levels(apply(recipe, small, np.random.default_rng(1))) for name, recipe in OPERATORS.items()
    }
    for preset in PRESETS:
        for seed in range(COLUMNS):
            random = np.random.default_rng(seed)
            recipe = Degradation(preset=preset).draw(random, scale=4)
            panels[f"{preset}, x4, seed {seed}"] = degrade(region, recipe, scale=4, random=random)
    grid(list(panels.items()), columns=COLUMNS, zoom=ZOOM).save(target, quality=80, method=6)


if __name__ == "__main__":
    main(sys.argv[1:])
