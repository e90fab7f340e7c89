"""
Why streaming is exact
======================

The summary of a picture is the sum of the summaries of its tiles.
"""

# sphinx_gallery_thumbnail_path = 'images/tiles_difference.png'

import torch

from enlca import LinearAttend
from enlca.attention.linear import combine

torch.manual_seed(0)
attend = LinearAttend(16, n_features=64)

# %%
# Queries, keys and values at 10,000 positions, of which 4,000 lie in the left tile.
q, k, v = torch.randn(1, 16, 10_000), torch.randn(1, 16, 10_000), torch.randn(1, 32, 10_000)
q, k = (6**0.5 * torch.nn.functional.normalize(u, dim=1) for u in (q, k))

whole = attend(q, k, v)

# %%
# Each tile is summarised by itself, and the summaries are joined.

left = attend.summarise(k[..., :4000], v[..., :4000])
right = attend.summarise(k[..., 4000:], v[..., 4000:])
picture = combine(left, right)
print("a summary takes", sum(part.numel() for part in picture), "numbers, whatever the size of the picture")

# %%
# Any tile can now be read by itself, as if it saw the whole picture.
tile = attend.read(q[..., 7000:7500], picture)
difference = (tile - whole[..., 7000:7500]).abs().max().item()
print(f"largest difference to attention over the whole picture: {difference:.1e}")
assert difference < 1e-5
