"""ENLA a block of positions at a time: what `linear.py` says, as fast as plain matrix products allow.

The same two steps as `summarise(log_features(k), v)` and `read(log_features(q), image)`, but the features
of only one block exist at a time, they stay in the processor's cache, and each costs one exponential:

    summarise   w_rj   = softmax_j( F_r.k_j - |k_j|^2/2 )       over the positions of the block
                mean_r = sum_j w_rj v_j                         log_total_r = log phi_r(k_j) - log w_rj, any j
                and the summary of the block is combined with those before it
    read        w_ir   = softmax_r( F_r.q_i + log_total_r )     |q_i|^2/2 is common to all r and cancels
                y_i    = sum_r w_ir mean_r

This is for any finite numbers; `unshifted.py` is tried first, which is faster and for ordinary ones.

The gradients are written out by hand, and recompute the features from q or k instead of keeping them. With g
for the gradient of the result with respect to something, and all weights known to be at most 1:

    read        s_ir   = g_y_i . mean_r - g_y_i . y_i           how much better feature r is than the average
                g_mean = w^T g_y        g_log_total_r = sum_i w_ir s_ir        g_q_i = sum_r w_ir s_ir F_r
    summarise   a_rj   = exp( F_r.k_j - |k_j|^2/2 - log_total_r )
                t_rj   = g_mean_r . (v_j - mean_r) + g_log_total_r
                g_v    = g_mean^T a     g_k_j = sum_r a_rj t_rj (F_r - k_j)

A floor adds to each feature: as if the block had a second summary, of equal weights for all its positions.
It needs no exponential of its own at each position.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import unshifted
from enlca.attention.room import Room, add_product, empty_output, multiply, per_image, softmax


def summarise_forward(
    k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], projection: Float[Tensor, "M D"], floor: float
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """`mean` and `log_total` of the positions of `k` and `v`, in at least float32."""
    dtype = torch.promote_types(k.dtype, torch.float32)
    m, e = len(projection), v.shape[1]
    mean, log_total = k.new_zeros(len(k), m, e, dtype=dtype), k.new_zeros(len(k), m, 1, dtype=dtype)
    log_total.fill_(-math.inf)
    room, f = Room(k, m, dtype), projection.to(dtype)
    # Rounding must not carry an average of the largest finite values beyond them.
    largest = torch.finfo(dtype).max * (1 - 2**-20)
    for keys, values, average, total in room.images(k, v, mean, log_total):
        if room.readable and unshifted.summarise(room, f, keys, values, floor, average, total):
            continue
        for keys_here, values_here in room.blocks(keys, values):
            values_here = values_here.to(dtype)
            log_phi = room.log_phi(f, room.limited(keys_here))
            highest = log_phi.amax(dim=-1, keepdim=True)
            # The largest feature becomes 1 / sum.
            phi = softmax(log_phi)
            here = (phi @ values_here.mT).clamp_(-largest, largest)
            total_here = highest.sub_(phi.amax(dim=-1, keepdim=True).log_())
            if floor > 0:
                n = keys_here.shape[-1]
                plain = values_here.div(n).sum(dim=-1).unsqueeze(1)
                _combine(here, total_here, plain, torch.full_like(total_here, math.log(n * floor)))
            # The parts of an image one by one; one for each image, all at once.
            for part in zip(here.split(len(average)), total_here.split(len(average)), strict=True):
                _combine(average, total, *part)
        average.clamp_(-largest, largest)
    return mean, log_total.squeeze(-1)


def _combine(
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M 1"],
    other_mean: Float[Tensor, "B #M E"],
    other_log_total: Float[Tensor, "B M 1"],
) -> None:
    """`linear.combine`, in place."""
    less = other_log_total - log_total
    mean.mul_((-less).sigmoid_()).addcmul_(other_mean, less.sigmoid_())
    log_total.copy_(torch.logaddexp(log_total, other_log_total))


def read_forward(
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> Float[Tensor, "B E N"]:
    """What each query sees of the summarised image, in q's type and layout."""
    y = empty_output(q, mean)
    room = Room(q, len(projection), mean.dtype)
    f = projection.to(mean.dtype)
    for queries, out, mean_t, log_totals in room.images(q, y, mean.mT, log_total.unsqueeze(1)):
        if room.readable and unshifted.read(room, f, queries, mean_t.mT, log_totals, floor, out):
            continue
        for queries_here, out_here in room.blocks(queries, out):
            weights, _ = room.query_weights(room.limited(queries_here), log_totals, f, floor)
            room.product(mean_t.expand(len(weights), -1, -1), weights.mT, into=out_here)
    return y


def summarise_backward(
    g_mean: Float[Tensor, "B M E"],
    g_log_total: Float[Tensor, "B M"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    projection: Float[Tensor, "M D"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    floor: float,
) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B E N"]]:
    """Gradients with respect to k and v. (Coordinates that were limited are taken as they are.)"""
    dtype = mean.dtype
    g_k, g_v = torch.empty_like(k), torch.empty_like(v)
    # t without g_mean_r . v_j
    rest = g_log_total.unsqueeze(-1) - (g_mean * mean).sum(dim=-1, keepdim=True)
    room, f = Room(k, len(projection), dtype), projection.to(dtype)
    for keys, values, gk, gv, gm, log_totals, rests in room.images(
        k, v, g_k, g_v, g_mean, log_total.unsqueeze(-1), rest
    ):
        for keys_here, values_here, gk_here, gv_here in room.blocks(keys, values, gk, gv):
            limited = room.limited(keys_here)
            weights = room.log_phi(f, limited).sub_(log_totals).exp_()
            out = room.view("gradient", *weights.shape)
            of_all = gm.expand(len(weights), -1, -1)
            g_log_phi = torch.baddbmm(rests, of_all, values_here.to(dtype), out=out).mul_(weights)
            if floor > 0:
                weights.add_((math.log(floor) - log_totals).exp_())
            room.product(of_all.mT, weights, into=gv_here)
            _put_gradient(room, f, g_log_phi, limited, into=gk_here)
    return g_k, g_v


def read_backward(
    g_y: Float[Tensor, "B E N"],
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """Gradients with respect to q, `mean` and `log_total`."""
    dtype = mean.dtype
    g_q, g_mean, g_log_total = (torch.empty_like(u) for u in (q, mean, log_total))
    room = Room(q, len(projection), dtype)
    f = projection.to(dtype)
    for queries, gy, gq, mean_t, log_totals, gm, gt in room.images(
        q, g_y, g_q, mean.mT, log_total.unsqueeze(1), g_mean, g_log_total
    ):
        gm_parts, gt_parts = room.sums(gm), room.sums(gt)
        for queries_here, gy_here, gq_here in room.blocks(queries, gy, gq):
            limited, upstream = room.limited(queries_here), gy_here.to(dtype)
            weights, own = room.query_weights(limited, log_totals, f, floor)
            add_product(gm_parts, weights.mT, upstream.mT)
            mean_of_all = mean_t.expand(len(weights), -1, -1)
            surplus = torch.bmm(upstream.mT, mean_of_all, out=room.view("gradient", *weights.shape))
            g_log_phi = _through_softmax(surplus, weights)
            gt_parts[: len(g_log_phi)] += g_log_phi.sum(dim=1)
            if floor > 0:
                g_log_phi.mul_(own.div_(weights.clamp_min_(torch.finfo(dtype).tiny)))
            # Without a floor they sum to zero for each query, and its length plays no part.
            _put_gradient(room, f, g_log_phi.mT, limited if floor > 0 else None, into=gq_here)
        gm.copy_(per_image(gm_parts, len(gm)))
        gt.copy_(per_image(gt_parts, len(gt)))
    return g_q, g_mean, g_log_total


def _through_softmax(g: Tensor, weights: Tensor) -> Tensor:
    """weights (g - sum g weights), in one walk, where the formula takes four; on a processor in place."""
    if g.device.type == "cpu":
        return torch.ops.aten._softmax_backward_data.out(g, weights, -1, g.dtype, grad_input=g)
    return torch.ops.aten._softmax_backward_data(g, weights, -1, g.dtype)


def _put_gradient(
    room: Room,
    f: Float[Tensor, "M D"],
    g_log_phi: Float[Tensor, "G M n"],
    u: Float[Tensor, "G D n"] | None,
    *,
    into: Float[Tensor, "G D n"],
) -> None:
    """F^T g - u sum_r g_r, rounded once to the type of `into`; without the second part if `u` is None."""
    g_u = multiply(f.mT.expand(len(into), -1, -1), g_log_phi, out=room.staging(into))
    if u is not None:
        g_u.addcmul_(u, g_log_phi.sum(dim=1, keepdim=True), value=-1)
    if g_u is not into:
        into.copy_(g_u)
