"""One object, pictures of every kind: python examples/upscale_kinds.py [PICTURE] [OUT]"""

import sys

import numpy as np
import torch
from PIL import Image

import enlca

source = sys.argv[1] if len(sys.argv) > 1 else "docs/images/astronaut_crop.png"
target = sys.argv[2] if len(sys.argv) > 2 else "large.png"

up = enlca.Upscaler("enlcn-tiny", scale=4)

# A path gives a picture that can be saved, with its profile, metadata and transparency.
up(source).save(target)

# PIL, numpy (uint8, uint16, or floats in [0, 1]) and torch (floats in [0, 1], one picture or a batch).
image = Image.open(source).convert("RGB")
as_pil = up(image)
as_array = up(np.asarray(image))
as_tensor = up(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)

print(f"{source}: {image.width}x{image.height} -> {as_pil.width}x{as_pil.height}")
same = np.array_equal(np.asarray(as_pil), as_array)
print(f"PIL and numpy agree: {same}; torch: {tuple(as_tensor.shape)}, {as_tensor.dtype}")
