"""
Attention in a network of your own
==================================

`NonLocalBlock` takes features `B C H W` and returns the same shape: every position has attended to every
other, in time linear in their number.
"""

import timeit

import matplotlib.pyplot as plt
import torch
from torch import nn

from enlca import NonLocalBlock
from enlca.attention.contrastive import contrastive_loss

torch.manual_seed(0)
block = NonLocalBlock(channels=64, attend="linear", amplification=6.0, n_features=128)
network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), block, nn.Conv2d(64, 3, 3, padding=1))

pictures = torch.rand(2, 3, 48, 48)
print("in", tuple(pictures.shape), "out", tuple(network(pictures).shape))

# %%
# The contrastive loss
# --------------------
#
# Training asks for the embeddings too, and pulls what is relevant away from what is not (Eq. 8-10). `anchors`
# is the number of queries that are used; all of them would cost N x N.

features = network[0](pictures)
_, embeddings = block.forward_with_embeddings(features)
contrast = contrastive_loss(embeddings.q, embeddings.k, anchors=64)
contrast.loss.backward()
print(f"contrastive loss {contrast.loss.item():.3f}")

# %%
# Time
# ----
#
# Four times as many positions take four times as long; exact attention takes sixteen times as long.

exact = NonLocalBlock(channels=64, attend="exact", amplification=6.0)
sides = (16, 32, 64)
milliseconds = {"linear": [], "exact": []}
with torch.inference_mode():
    for side in sides:
        x = torch.rand(1, 64, side, side)
        for name, one in (("linear", block), ("exact", exact)):
            seconds = timeit.repeat(lambda one=one, x=x: one(x), number=1, repeat=5)
            milliseconds[name].append(1000 * min(seconds))

for name, values in milliseconds.items():
    plt.loglog([side**2 for side in sides], values, "o-", label=name)
plt.xticks([side**2 for side in sides], [f"{side} x {side}" for side in sides])
plt.minorticks_off()
plt.xlabel("positions")
plt.ylabel("milliseconds")
plt.legend()
plt.show()
