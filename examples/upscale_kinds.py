"""
One object, pictures of every kind
==================================

A path, PIL, numpy and torch in; the same kind of thing out.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import enlca

picture = Path(sys.argv[0]).parent / "../docs/images/astronaut_crop.png"
source = sys.argv[1] if len(sys.argv) > 1 else picture
target = sys.argv[2] if len(sys.argv) > 2 else "astronaut_x4.png"

up = enlca.Upscaler("enlcn-tiny", scale=4)

# %%
# A path gives a picture that can be saved, with its profile, metadata and transparency.
up(source).save(target)

# %%
# PIL, numpy (uint8, uint16, or floats in [0, 1]) and torch (floats in [0, 1], one picture or a batch).
image = Image.open(source).convert("RGB")
as_pil = up(image)
as_array = up(np.asarray(image))
as_tensor = up(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)

print(f"{Path(source).name}: {image.width}x{image.height} -> {as_pil.width}x{as_pil.height}")
same = np.array_equal(np.asarray(as_pil), as_array)
print(f"PIL and numpy agree: {same}; torch: {tuple(as_tensor.shape)}, {as_tensor.dtype}")

# %%
# Bicubic, and the network.

figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for axis, title, shown in zip(
    axes,
    ("bicubic", "enlcn-tiny"),
    (image.resize(as_pil.size, Image.Resampling.BICUBIC), as_pil),
    strict=True,
):
    axis.imshow(shown)
    axis.set_title(title)
    axis.axis("off")
plt.show()
