"""Correlation maps: the weight that attention gives each position for one query.  (Fig. 1 and 7)

The weights of one query are one row of the N x N matrix of attention; only this row is computed, in memory
linear in N.

    exact     w_j = softmax_j( q.k_j )                                      as the paper draws it
    linear    w_j = sum_r softmax_r( log phi_r(q) + log_total_r ) a_rj      as ENLA applies it, with
              a_rj = softmax_j( log phi_r(k_j) )                            the weight of position j in
              feature r, of features fitted to the picture where the attention fits them
    window    w_j = softmax_j( q.k_j ) among the keys that the window of the query meets, 0 elsewhere
    sparse    w_j = sum over rounds of share x softmax over the query's chunk and its neighbours      NLSA's

Each row is non-negative and sums to one, and a row times the values is the output of `ExactAttend`,
`LinearAttend`, `WindowAttend` or `LSHAttend` at that position. `linear` is
phi(q)^T phi(k_j) / sum_j phi(q)^T phi(k_j), computed in logarithms.

Letters:  D embedding channels   M random features   N = H W positions   R rounds of hashing   K axes
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.analysis.approximation import attend_with
from enlca.attention.exact import ExactAttend
from enlca.attention.features import orthogonal_gaussian
from enlca.attention.linear import Fitted, LinearAttend
from enlca.attention.lsh import LSHAttend, hash_codes
from enlca.attention.window import WindowAttend
from enlca.network.sr import SRNetwork

# Positions whose features exist at the same time.
CHUNK = 2**15


@dataclass(frozen=True)
class View:
    """q and k of one non-local block at every position of one image, row by row.

    `attend` is the block's own attention.
    """

    q: Float[Tensor, "D N"]
    k: Float[Tensor, "D N"]
    height: int
    width: int
    attend: nn.Module

    def position(self, row: int, column: int) -> int:
        """Return the index of an LR pixel.

        Raises:
            ValueError: if it is outside the image.
        """
        if not (0 <= row < self.height and 0 <= column < self.width):
            raise ValueError(
                f"row {row}, column {column} is outside a picture of {self.height} rows and"
                f" {self.width} columns"
            )
        return row * self.width + column

    def amplified(self, factor: float) -> "View":
        """Return the same embeddings with k times `factor` instead of k; 1/k gives unit vectors: "without k".

        Raises:
            ValueError: if `factor` is not positive.
        """
        if factor <= 0:
            raise ValueError(f"factor must be positive, got {factor}")
        return replace(self, q=self.q * factor**0.5, k=self.k * factor**0.5)


@torch.inference_mode()
def view_of(network: SRNetwork, lr: Float[Tensor, "1 3 H W"], *, block: int) -> View:
    """Return the view of the network's non-local block number `block`, counted from 0; skip later stages.

    Raises:
        ValueError: if the network has no such block.
    """
    blocks = network.non_local_blocks
    if not 0 <= block < len(blocks):
        raise ValueError(f"no attention block {block}: this network has {len(blocks)}, counted from 0")
    x = network.head(lr - network.mean)
    for stage in network.body:
        if stage is blocks[block]:
            break
        x = stage(x)
    q, k, _ = blocks[block].embed(x)
    return View(q[0], k[0], lr.shape[2], lr.shape[3], blocks[block].attend)


def own_weights(view: View, at: int) -> Float[Tensor, "N"]:
    """Return the weights that the block itself applies at position `at`."""
    if isinstance(view.attend, LinearAttend):
        return linear_weights(view, at, view.attend)
    if isinstance(view.attend, LSHAttend):
        return sparse_weights(view, at, view.attend)
    if isinstance(view.attend, WindowAttend):
        return window_weights(view, at, view.attend)
    assert isinstance(view.attend, ExactAttend)
    return exact_weights(view, at)


@torch.inference_mode()
def exact_weights(view: View, at: int) -> Float[Tensor, "N"]:
    """Return softmax_j( q.k_j ), Eq. 1, at position `at`."""
    return (view.q[:, at] @ view.k).softmax(dim=0)


@torch.inference_mode()
def window_weights(view: View, at: int, attend: WindowAttend) -> Float[Tensor, "N"]:
    """Return the weights of the attention inside windows at position `at`."""
    window, halo = attend.window, attend.halo
    row, column = (where - where % window for where in divmod(at, view.width))
    scores = (view.q[:, at] @ view.k).view(view.height, view.width)
    seen = (
        slice(max(0, row - halo), row + window + halo),
        slice(max(0, column - halo), column + window + halo),
    )
    weights = torch.zeros_like(scores)
    weights[seen] = scores[seen].flatten().softmax(dim=0).view_as(scores[seen])
    return weights.flatten()


@torch.inference_mode()
def linear_weights(view: View, at: int, attend: LinearAttend, *, chunk: int = CHUNK) -> Float[Tensor, "N"]:
    """Return ENLA's weights at position `at` (Eq. 4-6), by chunks of keys."""
    fitted = attend.fitted_to(view.q[None], view.k[None])
    log_total = torch.full_like(attend.projection[:, 0], -math.inf)
    for _, log_phi in _features(view.k, fitted, chunk):
        log_total = torch.logaddexp(log_total, log_phi.logsumexp(dim=1))
    of_query = fitted.log_query_features(view.q[None, :, at : at + 1])[0, :, 0]
    shares = (of_query + log_total).softmax(dim=0)
    weights = torch.empty_like(view.k[0])
    for span, log_phi in _features(view.k, fitted, chunk):
        torch.mv(log_phi.sub_(log_total[:, None]).exp_().mT, shares, out=weights[span])
    return weights


def _features(
    k: Float[Tensor, "D N"], fitted: Fitted, chunk: int
) -> Iterator[tuple[slice, Float[Tensor, "M n"]]]:
    for span in _spans(k.shape[1], chunk):
        yield span, fitted.log_key_features(k[None, :, span])[0]


def _spans(n: int, chunk: int) -> Iterator[slice]:
    return (slice(start, start + chunk) for start in range(0, n, chunk))


@torch.inference_mode()
def sparse_weights(view: View, at: int, attend: LSHAttend) -> Float[Tensor, "N"]:
    """Return NLSA's weights at position `at`, with the chunks of `bucket_attention`.

    For embeddings of another attention: the positions that hashing its queries would select.
    """
    d, n = view.q.shape
    chunk = min(attend.chunk, n)
    n_chunks = -(-n // chunk)
    rotations = attend.rotations(d, n).to(view.q)
    codes = torch.cat([hash_codes(view.q[None, :, span], rotations)[0] for span in _spans(n, CHUNK)], dim=-1)
    scores, log_totals = view.q.new_full((len(codes), n), -math.inf), []
    for row, order in zip(scores, codes.argsort(dim=-1, stable=True), strict=True):
        mine = int((order == at).nonzero()) // chunk
        near = {(mine + shift) % n_chunks for shift in (0, 1, -1)}
        places = torch.cat([order[chunk * one : chunk * (one + 1)] for one in near])
        row[places] = view.q[:, at] @ view.k[:, places]
        log_totals.append(row.logsumexp(dim=0))
    shares = torch.stack(log_totals).softmax(dim=0)
    return shares @ scores.softmax(dim=-1)


class Spread(NamedTuple):
    """Mean and standard deviation of each weight over redraws of F."""

    mean: Float[Tensor, "N"]
    deviation: Float[Tensor, "N"]


def redraw_spread(
    view: View,
    at: int,
    *,
    n_features: int,
    draws: int,
    generator: torch.Generator,
    features: str = "positive",
    floor: float = 0.0,
) -> Spread:
    """Measure how much ENLA's weights depend on the draw of F. The deviation is of single draws (n - 1).

    Raises:
        ValueError: if there are fewer than two draws, or for unknown `features`.
    """
    if draws < 2:
        raise ValueError(f"a spread takes at least 2 draws, got {draws}")
    mean, squares = torch.zeros_like(view.k[0]), torch.zeros_like(view.k[0])
    for number in range(1, draws + 1):
        f = orthogonal_gaussian(n_features, len(view.q), generator=generator).to(view.q)
        weights = linear_weights(view, at, attend_with(f, features=features, floor=floor))
        # Welford's algorithm: sums of squares would lose the digits of small weights.
        difference = weights - mean
        mean = mean + difference / number
        squares = squares + difference * (weights - mean)
    return Spread(mean, (squares / (draws - 1)).sqrt())


class Sparsity(NamedTuple):
    """How concentrated weights are.

    Attributes:
        entropy: in bits; log2 N if all weights are equal. top_share: share of the weight on the heaviest 1 %
        of positions (rounded up to a whole number). effective: 1 / sum of squares, the number of equal
        weights that are as concentrated; N if all are equal.
    """

    entropy: float
    top_share: float
    effective: float


def sparsity(weights: Float[Tensor, "N"]) -> Sparsity:
    """Measure the concentration of one row of weights."""
    w = weights.double()
    w = w / w.sum()
    top = w.topk(math.ceil(len(w) / 100)).values.sum()
    return Sparsity(float(torch.special.entr(w).sum()) / math.log(2), float(top), float(1 / w.square().sum()))
