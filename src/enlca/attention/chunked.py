"""ENLA in chunks of positions, in plain PyTorch: the fast path on a CPU, and the twin of the Triton kernels.

The functions of `linear.py`, but the features of only one chunk exist at a time, stay in the CPU's cache and
cost one exponential each. Forward, there are two ways. The first takes the sums of Eq. 5-6 as they are
printed:

    summarise   phi_rj  = exp( F_r.k_j - |k_j|^2/2 )
                total_r = sum_j phi_rj             mean_r = sum_j phi_rj v_j / total_r
    read        s_r     = total_r / max total      y_i = sum_r w_ir mean_r / sum_r w_ir
                w_ir    = s_r exp( F_r.q_i )       (|q_i|^2/2 cancels)

At the lengths of embeddings (|u|^2 = k = 6, |f| about 8) features lie between 1e-13 and 1e10, so no digits
are lost. Whether that holds is checked afterwards on the M x (E + 1) numbers of the summary and on one number
per query. Where it does not, or where the host must not look at numbers (`Buffers.on_host`),
exponents are shifted by their largest, which holds for any finite numbers and takes three more passes over
the features:

    summarise   w_rj   = softmax_j( F_r.k_j - |k_j|^2/2 )       over the positions of the chunk
                mean_r = sum_j w_rj v_j                         log_total_r = log phi_r(k_j) - log w_rj, any j
                and the chunk's summary is combined with those before it
    read        w_ir   = softmax_r( F_r.q_i + log_total_r )     |q_i|^2/2 is common to all r and cancels
                y_i    = sum_r w_ir mean_r

Gradients are written out, and recompute the features from q or k instead of storing them. With g for the
gradient of the result with respect to something; no weight exceeds 1:

    read        s_ir   = g_y_i . mean_r - g_y_i . y_i           how much better feature r is than the average
                g_mean = w^T g_y        g_log_total_r = sum_i w_ir s_ir        g_q_i = sum_r w_ir s_ir F_r
    summarise   a_rj   = exp( F_r.k_j - |k_j|^2/2 - log_total_r )
                t_rj   = g_mean_r . (v_j - mean_r) + g_log_total_r
                g_v    = g_mean^T a     g_k_j = sum_r a_rj t_rj (F_r - k_j)

A floor is added to every feature: that equals a second summary of the chunk, with equal weights for all
positions, and needs no exponential per position.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
         G images, or parts of one   n positions of a chunk or of a part
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.workspace import (
    Workspace,
    add_product_,
    empty_output,
    multiply,
    softmax_,
    sum_parts,
)

# Sums that need no shift, in float32: what underflows is below 1e-37, nothing beside 1e-18, and products of
# terms with values in the second range keep their digits. Above, all is far from overflow.
SUM_RANGE = 1e-18, 1e18
VALUE_RANGE = 1e-10, 1e10


def summarise_forward(
    k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], projection: Float[Tensor, "M D"], floor: float
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """Return `mean` and `log_total` of the positions of `k` and `v`, in at least float32."""
    dtype = torch.promote_types(k.dtype, torch.float32)
    m, e = len(projection), v.shape[1]
    mean, log_total = k.new_zeros(len(k), m, e, dtype=dtype), k.new_zeros(len(k), m, 1, dtype=dtype)
    log_total.fill_(-math.inf)
    workspace, f = Workspace(k, m, dtype), projection.to(dtype)
    # Rounding must not carry an average of the largest finite values beyond them.
    largest = torch.finfo(dtype).max * (1 - 2**-20)
    for keys, values, average, total in workspace.images(k, v, mean, log_total):
        if _summarise_unshifted(workspace, f, keys, values, floor, average, total):
            continue
        for k_chunk, v_chunk in workspace.chunks(keys, values):
            v_chunk = v_chunk.to(dtype)
            log_phi = workspace.log_features(f, workspace.clamped(k_chunk))
            highest = log_phi.amax(dim=-1, keepdim=True)
            # The largest feature becomes 1 / sum.
            phi = softmax_(log_phi)
            chunk_mean = (phi @ v_chunk.mT).clamp_(-largest, largest)
            chunk_total = highest.sub_(phi.amax(dim=-1, keepdim=True).log_())
            if floor > 0:
                n = k_chunk.shape[-1]
                plain = v_chunk.div(n).sum(dim=-1).unsqueeze(1)
                _combine_(chunk_mean, chunk_total, plain, torch.full_like(chunk_total, math.log(n * floor)))
            # The parts of one image after each other; one part per image, all at once.
            for part in zip(chunk_mean.split(len(average)), chunk_total.split(len(average)), strict=True):
                _combine_(average, total, *part)
        average.clamp_(-largest, largest)
    return mean, log_total.squeeze(-1)


def read_forward(
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> Float[Tensor, "B E N"]:
    """Return attention's output at each query, in q's type and memory layout."""
    y = empty_output(q, mean)
    workspace, f = Workspace(q, len(projection), mean.dtype), projection.to(mean.dtype)
    for queries, out, mean_t, log_totals in workspace.images(q, y, mean.mT, log_total.unsqueeze(1)):
        if _read_unshifted(workspace, f, queries, mean_t.mT, log_totals, floor, out):
            continue
        for q_chunk, y_chunk in workspace.chunks(queries, out):
            weights, _ = workspace.query_weights(workspace.clamped(q_chunk), log_totals, f, floor)
            workspace.multiply_into(y_chunk, mean_t.expand(len(weights), -1, -1), weights.mT)
    return y


def _combine_(
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M 1"],
    other_mean: Float[Tensor, "B #M E"],
    other_log_total: Float[Tensor, "B M 1"],
) -> None:
    """`linear.combine`, in place."""
    difference = other_log_total - log_total
    mean.mul_((-difference).sigmoid_()).addcmul_(other_mean, difference.sigmoid_())
    log_total.copy_(torch.logaddexp(log_total, other_log_total))


def _summarise_unshifted(
    workspace: Workspace,
    f: Float[Tensor, "M D"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    floor: float,
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M 1"],
) -> bool:
    """Write the summary to `mean` and `log_total`; return False, with both unchanged, if out of range."""
    if not workspace.buffer.on_host:
        return False
    n, dtype = k.shape[-1], f.dtype
    total, sums = workspace.partial_sums(log_total), workspace.partial_sums(mean)
    for k_chunk, v_chunk in workspace.chunks(k, v):
        phi = workspace.log_features(f, k_chunk.to(dtype)).exp_()
        total[: len(phi)] += phi.sum(dim=-1, keepdim=True)
        add_product_(sums, phi, v_chunk.to(dtype).mT)
    total, sums = sum_parts(total, len(k)), sum_parts(sums, len(k))
    if floor > 0:
        total += floor * n
        sums += floor * v.sum(dim=-1, dtype=dtype).unsqueeze(1)
    sums /= total
    if not (_in_range(total, terms=n) and _values_in_range(sums)):
        return False
    mean.copy_(sums)
    torch.log(total, out=log_total)
    return True


def _read_unshifted(
    workspace: Workspace,
    f: Float[Tensor, "M D"],
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B 1 M"],
    floor: float,
    out: Float[Tensor, "B E N"],
) -> bool:
    """Write attention's output to `out`; return False, with `out` undefined, if numbers are out of range."""
    if not workspace.buffer.on_host:
        return False
    share = (log_total - log_total.amax(dim=-1, keepdim=True)).exp_()
    if not (_in_range(share) and _values_in_range(mean)):
        return False
    sums = (mean * share.mT).mT.contiguous()
    totals = q.new_empty(len(q), 1, q.shape[-1], dtype=f.dtype)
    for q_chunk, total, y_chunk in workspace.chunks(q, totals, out):
        # With a floor, |q|^2/2 does not cancel.
        phi = workspace.log_features(f, q_chunk.to(f.dtype), squares=floor > 0).exp_()
        torch.bmm(share.expand(len(phi), -1, -1), phi, out=total)
        product = multiply(sums.expand(len(phi), -1, -1), phi, out=workspace.staging(y_chunk))
        if floor > 0:
            total += floor * share.sum(dim=-1, keepdim=True)
            product += floor * sums.sum(dim=-1, keepdim=True)
        torch.div(product, total, out=y_chunk)
    return _in_range(totals)


def _in_range(sums: Tensor, *, terms: int = 1) -> bool:
    """Return whether all `sums` of so many terms are in SUM_RANGE per term; False for NaN."""
    lowest, highest = sums.aminmax()
    return terms * SUM_RANGE[0] <= lowest.item() and highest.item() <= terms * SUM_RANGE[1]


def _values_in_range(mean: Tensor) -> bool:
    """Return whether the largest absolute value is in VALUE_RANGE; False for NaN."""
    lowest, highest = mean.aminmax()
    return VALUE_RANGE[0] <= max(-lowest.item(), highest.item()) <= VALUE_RANGE[1]


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
    """Return the gradients of k and v. (Clamping of coordinates counts as the identity.)"""
    dtype = mean.dtype
    g_k, g_v = torch.empty_like(k), torch.empty_like(v)
    # t without g_mean_r . v_j
    rest = g_log_total.unsqueeze(-1) - (g_mean * mean).sum(dim=-1, keepdim=True)
    workspace, f = Workspace(k, len(projection), dtype), projection.to(dtype)
    for keys, values, gk, gv, gm, log_totals, rests in workspace.images(
        k, v, g_k, g_v, g_mean, log_total.unsqueeze(-1), rest
    ):
        for k_chunk, v_chunk, gk_chunk, gv_chunk in workspace.chunks(keys, values, gk, gv):
            clamped = workspace.clamped(k_chunk)
            weights = workspace.log_features(f, clamped).sub_(log_totals).exp_()
            out = workspace.buffer("gradient", *weights.shape)
            gm_parts = gm.expand(len(weights), -1, -1)
            g_log_phi = torch.baddbmm(rests, gm_parts, v_chunk.to(dtype), out=out).mul_(weights)
            if floor > 0:
                weights.add_((math.log(floor) - log_totals).exp_())
            workspace.multiply_into(gv_chunk, gm_parts.mT, weights)
            _write_gradient(workspace, f, g_log_phi, clamped, into=gk_chunk)
    return g_k, g_v


def read_backward(
    g_y: Float[Tensor, "B E N"],
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """Return the gradients of q, `mean` and `log_total`."""
    dtype = mean.dtype
    g_q, g_mean, g_log_total = (torch.empty_like(u) for u in (q, mean, log_total))
    workspace, f = Workspace(q, len(projection), dtype), projection.to(dtype)
    for queries, gy, gq, mean_t, log_totals, gm, gt in workspace.images(
        q, g_y, g_q, mean.mT, log_total.unsqueeze(1), g_mean, g_log_total
    ):
        gm_parts, gt_parts = workspace.partial_sums(gm), workspace.partial_sums(gt)
        for q_chunk, gy_chunk, gq_chunk in workspace.chunks(queries, gy, gq):
            clamped, upstream = workspace.clamped(q_chunk), gy_chunk.to(dtype)
            weights, own = workspace.query_weights(clamped, log_totals, f, floor)
            add_product_(gm_parts, weights.mT, upstream.mT)
            mean_parts = mean_t.expand(len(weights), -1, -1)
            surplus = torch.bmm(upstream.mT, mean_parts, out=workspace.buffer("gradient", *weights.shape))
            g_log_phi = _softmax_gradient_(surplus, weights)
            gt_parts[: len(g_log_phi)] += g_log_phi.sum(dim=1)
            if floor > 0:
                g_log_phi.mul_(own.div_(weights.clamp_min_(torch.finfo(dtype).tiny)))
            # Without a floor they sum to zero for each query, and its length plays no part.
            _write_gradient(workspace, f, g_log_phi.mT, clamped if floor > 0 else None, into=gq_chunk)
        gm.copy_(sum_parts(gm_parts, len(gm)))
        gt.copy_(sum_parts(gt_parts, len(gt)))
    return g_q, g_mean, g_log_total


def _softmax_gradient_(g: Tensor, weights: Tensor) -> Tensor:
    """Return weights (g - sum g weights) by one operation instead of four; on a CPU in place."""
    if g.device.type == "cpu":
        return torch.ops.aten._softmax_backward_data.out(g, weights, -1, g.dtype, grad_input=g)
    return torch.ops.aten._softmax_backward_data(g, weights, -1, g.dtype)


def _write_gradient(
    workspace: Workspace,
    f: Float[Tensor, "M D"],
    g_log_phi: Float[Tensor, "G M n"],
    u: Float[Tensor, "G D n"] | None,
    *,
    into: Float[Tensor, "G D n"],
) -> None:
    """Write F^T g - u sum_r g_r to `into`, rounded once; without the second term if u is None."""
    g_u = multiply(f.mT.expand(len(into), -1, -1), g_log_phi, out=workspace.staging(into))
    if u is not None:
        g_u.addcmul_(u, g_log_phi.sum(dim=1, keepdim=True), value=-1)
    if g_u is not into:
        into.copy_(g_u)
