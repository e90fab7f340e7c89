"""The attention in a network of your own, with its contrastive loss.

python examples/attention_in_your_network.py
"""

import torch
from torch import nn

from enlca import NonLocalBlock
from enlca.attention.contrastive import contrastive_loss

torch.manual_seed(0)
block = NonLocalBlock(channels=64, attend="linear", amplification=6.0, n_features=128)
network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), block, nn.Conv2d(64, 3, 3, padding=1))

pictures = torch.rand(2, 3, 48, 48)
print("in", tuple(pictures.shape), "out", tuple(network(pictures).shape))

# Training asks for the embeddings too, and pulls what is relevant away from what is not (Eq. 8-10).
features = network[0](pictures)
_, embeddings = block.forward_with_embeddings(features)
contrast = contrastive_loss(embeddings.q, embeddings.k, anchors=64)
contrast.loss.backward()
print(f"contrastive loss {contrast.loss.item():.3f}")
