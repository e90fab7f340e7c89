"""The non-local block: embed, attend, add.  (Eq. 2-3, Fig. 2)

A block is a composition: an embedding makes q, k and v of a feature map, and an attention turns them into the
output. `ATTENDS` says which two belong together.

Letters:  B batch   C channels   D embedding channels   N = H W positions
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.exact import ExactAttend
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.attention.sharp import FEATURES, SharpAttend
from enlca.attention.window import WindowAttend


class Embeddings(NamedTuple):
    """q and k of length sqrt(k) at every position (but see `SharedEmbed`), and the values."""

    q: Float[Tensor, "B D N"]
    k: Float[Tensor, "B D N"]
    v: Float[Tensor, "B C N"]


# Its square is a normal number of float32: q and k of length 0 divided by less would be NaN.
SMALLEST_EPS = 1e-18


class Embed(nn.Module):
    """Q = sqrt(k) theta(X)/|theta(X)|, K = sqrt(k) delta(X)/|delta(X)|, V = psi(X).  (Eq. 3)

    NOTE(paper): "all convolutional kernel size in the network is 3 x 3"; the released code has 1 x 1
    here, and so do we by default.

    Args:
        channels: channels of the feature map, and of the values.
        dim: channels of q and k (the paper's c).
        amplification: the paper's k.
        kernel_size: of the three convolutions.
        eps: smallest length that a vector is divided by; 5e-5 in the released code.

    Raises:
        ValueError: if `amplification` is not positive.
    """

    def __init__(
        self, channels: int, dim: int, *, amplification: float, kernel_size: int = 1, eps: float = 1e-12
    ):
        super().__init__()
        if amplification <= 0:
            raise ValueError(f"amplification must be positive, got {amplification}")
        self.length = amplification**0.5
        self.eps = eps
        self.query = nn.Conv2d(channels, dim, kernel_size, padding=kernel_size // 2)
        self.key = nn.Conv2d(channels, dim, kernel_size, padding=kernel_size // 2)
        self.value = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Embeddings:
        """Return q, k and v at every position; q and k in float32 at least."""
        return Embeddings(self.queries(x), *self.keys_and_values(x))

    def queries(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D N"]:
        """Return q alone, for reading a summary."""
        return self._amplified(self.query(x))

    def queries_and_keys(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B D N"]]:
        """Return q and k, for fitting features to a picture."""
        return self._amplified(self.query(x)), self._amplified(self.key(x))

    def keys_and_values(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B C N"]]:
        """Return k and v, for making a summary."""
        return self._amplified(self.key(x)), self.value(x).flatten(2)

    def _amplified(self, features: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D N"]:
        return unit(_positions(features), eps=self.eps, length=self.length)


class SharedEmbed(nn.Module):
    """Q = theta(X), K = theta(X)/|theta(X)|, V = psi(X): NLSA's embedding, one for queries and keys.

    NOTE(nlsn): nothing is amplified: the length of a query, which is learned, decides how sharply it attends.
    NLSA's theta is 3 x 3 (`kernel_size=3`), its psi always 1 x 1.

    Args:
        channels: channels of the feature map, and of the values.
        dim: channels of q and k.
        kernel_size: of theta.
        eps: smallest length that a key is divided by; 5e-5 in NLSA's code.
    """

    def __init__(self, channels: int, dim: int, *, kernel_size: int = 1, eps: float = 1e-12):
        super().__init__()
        self.eps = eps
        self.match = nn.Conv2d(channels, dim, kernel_size, padding=kernel_size // 2)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Embeddings:
        """Return q, k and v at every position; q and k in float32 at least."""
        q = _positions(self.match(x))
        return Embeddings(q, unit(q, eps=self.eps), self.value(x).flatten(2))


def _positions(features: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D N"]:
    # In half precision the sum of squares would overflow.
    return features.flatten(2).to(torch.promote_types(features.dtype, torch.float32))


def unit(u: Float[Tensor, "B D N"], *, eps: float, length: float = 1.0) -> Float[Tensor, "B D N"]:
    """Scale vectors to the given length: length u / max(|u|, eps).

    As `torch.nn.functional.normalize`, whose norm over the second dimension takes ten times as long.
    """
    squares = u.square().sum(dim=1, keepdim=True)
    return u * (length * squares.clamp_min(eps**2).rsqrt())


class AttentionKind(NamedTuple):
    """An embedding and an attention that belong together, and the settings of a block that each one has."""

    embed: Callable[..., nn.Module]
    embed_settings: tuple[str, ...]
    attend: Callable[..., nn.Module]
    attend_settings: tuple[str, ...] = ()


def linear_attend(
    dim: int,
    *,
    n_features: int = 128,
    features: str = "positive",
    floor: float = 0.0,
    generator: torch.Generator | None = None,
) -> LinearAttend:
    """Build ENLA with the random features asked for; settings as those of `NonLocalBlock`.

    Raises:
        ValueError: unknown features, or a floor under features that have none.
    """
    if features == "positive":
        return LinearAttend(dim, n_features=n_features, floor=floor, generator=generator)
    if floor > 0:
        raise ValueError(FLOOR_NEEDS_POSITIVE.format(features))
    return SharpAttend(dim, n_features=n_features, features=features, generator=generator)


KINDS_OF_FEATURES = ("positive", *FEATURES)
FLOOR_NEEDS_POSITIVE = "a floor (the released code's) needs positive features; got features {!r}"
_AMPLIFIED = Embed, ("channels", "dim", "amplification", "kernel_size", "eps")
ATTENDS = {
    "exact": AttentionKind(*_AMPLIFIED, ExactAttend),
    "linear": AttentionKind(*_AMPLIFIED, linear_attend, ("dim", "n_features", "floor", "features")),
    "lsh": AttentionKind(
        SharedEmbed, ("channels", "dim", "kernel_size", "eps"), LSHAttend, ("n_hashes", "chunk")
    ),
    "window": AttentionKind(*_AMPLIFIED, WindowAttend, ("window", "halo")),
}


class NonLocalBlock(nn.Module):
    """x + res_scale * attend(embed(x)): the module to put into a network of your own.

    Args:
        channels: channels of the feature map, in and out.
        attend: one of ATTENDS: "linear" (ENLA, Eq. 5-6), "exact" (Eq. 1), "window" (Eq. 1 among
            neighbours) or "lsh" (NLSA, with `SharedEmbed`).
        dim: channels of q and k; None is channels / 4, as in the paper's network (64 of 256).
        amplification: the paper's k; not of "lsh".
        n_features: the paper's m; "linear" only.
        features: "positive" (the paper's) or fitted to the picture, see `sharp.SharpAttend`; "linear" only.
        res_scale: weight of the attention in the sum.
        kernel_size: of the embedding convolutions.
        eps: see `Embed`.
        floor: see `LinearAttend`; "linear" only.
        n_hashes: see `LSHAttend`; "lsh" only.
        chunk: see `LSHAttend`; "lsh" only.
        window: see `WindowAttend`; "window" only.
        halo: see `WindowAttend`; "window" only.

    Raises:
        ValueError: for an unknown `attend`, impossible sizes or an `eps` that is not finite or below 1e-18.
    """

    def __init__(
        self,
        channels: int,
        *,
        attend: str = "linear",
        dim: int | None = None,
        amplification: float = 6.0,
        n_features: int = 128,
        features: str = "positive",
        res_scale: float = 0.1,
        kernel_size: int = 1,
        eps: float = 1e-12,
        floor: float = 0.0,
        n_hashes: int = 4,
        chunk: int = 144,
        window: int = 8,
        halo: int = 4,
    ):
        super().__init__()
        if attend not in ATTENDS:
            raise ValueError(f"unknown attention {attend!r}; choose from {sorted(ATTENDS)}")
        if not SMALLEST_EPS <= eps < float("inf"):
            raise ValueError(f"eps must be finite and at least {SMALLEST_EPS}, got {eps}")
        settings = {
            "channels": channels,
            "dim": max(1, channels // 4) if dim is None else dim,
            "amplification": amplification,
            "n_features": n_features,
            "features": features,
            "kernel_size": kernel_size,
            "eps": eps,
            "floor": floor,
            "n_hashes": n_hashes,
            "chunk": chunk,
            "window": window,
            "halo": halo,
        }
        kind = ATTENDS[attend]
        self.channels, self.res_scale = channels, res_scale
        self.embed = kind.embed(**{name: settings[name] for name in kind.embed_settings})
        self.attend = kind.attend(**{name: settings[name] for name in kind.attend_settings})

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add attention's output to the feature map, in x's type. Raises ValueError: another shape."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            shape = " x ".join(map(str, x.shape))
            raise ValueError(f"takes feature maps of B x {self.channels} x H x W; got {shape}")
        return self.forward_with_embeddings(x)[0]

    def forward_with_embeddings(
        self, x: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Embeddings]:
        """Return the same, and the embeddings, for the contrastive loss (Eq. 8-10)."""
        embeddings = self.embed(x)
        y = self.attended(embeddings, width=x.shape[-1]).to(x.dtype)
        return torch.add(x, y.unflatten(-1, x.shape[-2:]), alpha=self.res_scale), embeddings

    def attended(self, embeddings: Embeddings, *, width: int) -> Float[Tensor, "B C N"]:
        """Return attention's output at every position of maps of `width` columns, in v's type."""
        if isinstance(self.attend, WindowAttend):
            return self.attend(*embeddings, width=width)
        return self.attend(*embeddings)
