"""Positive orthogonal random features: an inner product that estimates exp(q.k).  (Eq. 4)

For f ~ N(0, I):  E[ exp(f.q - |q|^2/2) exp(f.k - |k|^2/2) ] = exp(q.k).

The features themselves overflow in half precision (|f| is about 8 and |u| = sqrt(6), so f.u reaches 20),
hence everything here works with their *logarithms*, which `linear.py` shifts before it takes exponentials.

Letters:  B batch   D embedding channels   M random features   N positions
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# |u|^2 of 64 such coordinates still fits in fp32; larger ones are clamped, so that every finite input has
# finite logarithms.
LARGEST_COORDINATE = 1e18


def orthogonal_gaussian(
    n_features: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "M D"]:
    """Draw Gaussian rows f ~ N(0, I), orthogonal within each block of `dim` rows.

    Each row has the law of an independent Gaussian vector (a uniform direction with a chi-distributed
    length), so estimates stay unbiased; orthogonality lowers their variance (Choromanski et al. 2017).
    Drawn in float64 on the generator's device and returned as float32, the same on every machine.

    Raises:
        ValueError: if `n_features` or `dim` is below 1.
    """
    if n_features < 1 or dim < 1:
        raise ValueError(f"n_features and dim must be at least 1, got {n_features} and {dim}")
    device = generator.device if generator is not None else torch.device("cpu")

    def gaussian(rows: int) -> Tensor:
        return torch.randn(rows, dim, generator=generator, device=device, dtype=torch.float64)

    blocks = []
    for start in range(0, n_features, dim):
        q, r = torch.linalg.qr(gaussian(dim))
        # QR alone favours some directions; the signs of R's diagonal make Q uniform (Haar).
        directions = (q * r.diagonal().sign()).mT
        lengths = gaussian(dim).norm(dim=1, keepdim=True)
        blocks.append((directions * lengths)[: n_features - start])
    return torch.cat(blocks).float()


def log_features(
    u: Float[Tensor, "B D N"],
    projection: Float[Tensor, "M D"],
    *,
    floor: float = 0.0,
) -> Float[Tensor, "B M N"]:
    """Return log( sqrt(M) phi(u) ) = F u - |u|^2 / 2, in at least float32.  (Eq. 4)

    The factor 1/sqrt(M) is left out: it cancels in Eq. 5. `floor` is added to each feature;
    the paper has none.

    NOTE(released): the authors' code adds 1e-4 to every feature (`floor=1e-4`).
    """
    u = u.to(torch.promote_types(u.dtype, torch.float32)).clamp(-LARGEST_COORDINATE, LARGEST_COORDINATE)
    log_phi = projection.to(u.dtype) @ u - u.square().sum(dim=1, keepdim=True) / 2
    if floor > 0:
        log_phi = torch.logaddexp(log_phi, torch.full_like(log_phi[:, :1, :1], math.log(floor)))
    return log_phi


def positive_features(
    u: Float[Tensor, "B D N"],
    projection: Float[Tensor, "M D"],
    *,
    floor: float = 0.0,
) -> Float[Tensor, "B M N"]:
    """Return phi(u) = exp(F u - |u|^2 / 2) / sqrt(M), as Eq. 4 prints it.

    phi(q)^T phi(k) estimates exp(q.k) without bias. It overflows where its logarithm does not:
    for analysis and tests; attention itself uses `log_features`.
    """
    return log_features(u, projection, floor=floor).exp() / math.sqrt(projection.shape[0])
