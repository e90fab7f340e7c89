"""
Degrading pictures as photographs are
=====================================

Networks learn to undo what their LR pictures went through. Benchmarks use MATLAB's bicubic; photographs are
blurred, noisy and compressed. Both are here, to train on and to measure with.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from enlca.data.recipes import Degradation, degrade
from enlca.image.picture import read_image

source = sys.argv[1] if len(sys.argv) > 1 else Path(sys.argv[0]).parent / "../docs/images/large/bricks.png"
hr = np.ascontiguousarray(read_image(source).rgb[:160, :160])

# %%
# A preset draws a recipe, a list of operators, from a generator; the recipe draws its noise from the same
# one. So an LR picture is a function of the seed.

random = np.random.default_rng(7)
for operator in Degradation(preset="phone").draw(random, scale=2):
    print(operator)

# %%
# Three draws of each preset, at x2. `clean` is MATLAB's bicubic, to the bit.

presets = ("clean", "web", "phone", "strong")
figure, axes = plt.subplots(3, len(presets), figsize=(9, 7), layout="constrained")
for column, preset in zip(axes.T, presets, strict=True):
    for seed, axis in enumerate(column):
        random = np.random.default_rng(seed)
        recipe = Degradation(preset=preset).draw(random, scale=2)
        axis.imshow(degrade(hr, recipe, scale=2, random=random), interpolation="nearest")
        axis.axis("off")
    column[0].set_title(preset)
plt.show()

# %%
# The same from the shell, for a folder: ``enlca degrade HR LR --scale 4 --preset web --seed 1``; and in a
# training run: ``data.degradation.preset: web``.
