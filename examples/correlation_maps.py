"""
Where attention looks
=====================

The weights of one query are one row of the N x N matrix of attention. Here they are drawn as pictures, for a
point on the astronaut's shoulder: exact softmax of the network's queries and keys, which the paper draws, and
what linear attention really applies.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LogNorm

import enlca
from enlca.analysis.correlation import exact_weights, own_weights, sparsity, view_of
from enlca.image.picture import read_image

picture = Path(sys.argv[0]).parent / "../docs/images/astronaut_crop.png"
source = sys.argv[1] if len(sys.argv) > 1 else picture
row, column = 96, 17

network = enlca.load("enlcn-tiny")
rgb = read_image(source).rgb
lr = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255

# %%
# `view_of` runs the network up to one of its attention blocks and keeps the queries and keys.

view = view_of(network, lr, block=len(network.non_local_blocks) - 1)
at = view.position(row, column)
maps = {"exact softmax": exact_weights(view, at), "as applied": own_weights(view, at)}

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
axes[0].imshow(rgb)
axes[0].plot(column, row, "o", markersize=10, markerfacecolor="none", markeredgecolor="white")
axes[0].set_title("the query")
for axis, (title, weights) in zip(axes[1:], maps.items(), strict=True):
    times = (weights * len(weights)).unflatten(0, (view.height, view.width))
    drawn = axis.imshow(times.clamp(0.01, 100), norm=LogNorm(0.01, 100))
    axis.set_title(title)
figure.colorbar(drawn, ax=axes[1:], label="times the average weight")
for axis in axes:
    axis.axis("off")
plt.show()

# %%
# How concentrated are they? The effective number is that of equal weights which would be as concentrated.

for title, weights in maps.items():
    found = sparsity(weights)
    print(f"{title}: the heaviest 1 % hold {found.top_share:.0%}, effective {found.effective:,.0f}")
