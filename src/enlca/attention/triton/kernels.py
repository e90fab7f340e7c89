"""Triton kernels of ENLA, forward and backward; features exist in registers only.

The equations are those of `chunked.py`, shifted. Each kernel loops over positions or features, tile by tile,
with running maxima; sums over positions are taken in a fixed number of parts, which are added up afterwards,
so that results do not depend on timing.

    summarise_parts    features x parts of the positions:   shift, total, weighted sum of each part
    read               positions:                           y
    summarise_gradient positions:                           g_k, g_v
    read_gradient      positions:                           g_q, and of each query: log-sum and g_y . y
    read_parts         features x parts of the positions:   g_mean and g_log_total of each part

All sums are in float32. Products run on tensor cores, which round their factors to TF32 (11 bits): enough
where a factor came in 16 bits (`U_PRECISION`, `V_PRECISION` are "tf32"), and else three of them make one
that is good to 22 bits ("tf32x3"). Triton's interpreter multiplies in float32.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import os
from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from enlca.attention.features import LARGEST_COORDINATE

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LIMIT = tl.constexpr(LARGEST_COORDINATE)
# TF32 would round what is larger to infinity.
LARGEST = tl.constexpr((2 - 2**-10) * 2.0**127)


@triton.jit
@no_type_check
def load_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Load `rows x columns` of a matrix as float32, with zeros outside of it."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    values = tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)
    return tl.clamp(values, -LARGEST, LARGEST, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
@no_type_check
def clamped_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Load a tile with coordinates so small that their squares are finite."""
    u = load_tile(pointer, rows, columns, row_stride, column_stride, n_rows, n_columns)
    return tl.clamp(u, -LIMIT, LIMIT, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
@no_type_check
def store_tile(pointer, value, rows, columns, row_stride, column_stride, n_rows, n_columns):
    """Store `rows x columns` of a matrix in its own type, except outside of it."""
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def logits_of(
    f, log_total, q_tile, half_square, ms, ds,
    D: tl.constexpr, M: tl.constexpr, HAS_FLOOR: tl.constexpr, U_PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the logits of a tile of features at a tile of queries, and the features' log_total."""
    log_phi = tl.dot(load_tile(f, ms, ds, D, 1, M, D), q_tile, input_precision=U_PRECISION)
    if HAS_FLOOR:
        log_phi -= half_square[None, :]
    totals = tl.load(log_total + ms, mask=ms < M, other=float("-inf"))[:, None]
    return log_phi + totals, totals


@triton.jit
@no_type_check
def shifted_weights(logits, totals, shift, log_floor, HAS_FLOOR: tl.constexpr):
    """Return exp(logits - highest), the factor that rescales earlier sums, and the maximum so far."""
    highest = tl.maximum(shift, tl.max(logits, axis=0))
    if HAS_FLOOR:
        highest = tl.maximum(highest, tl.max(log_floor + totals, axis=0))
    weights = tl.exp(logits - highest[None, :])
    if HAS_FLOOR:
        weights += tl.exp((log_floor + totals) - highest[None, :])
    return weights, tl.exp(shift - highest), highest


@triton.jit
@no_type_check
def summarise_parts(
    k, v, f, shift_out, total_out, weighted_out,
    k_b, k_d, k_n, v_b, v_e, v_n, n, span, share, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the maximum, sum and weighted sum of a tile of features over a part of the positions."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    ms = tl.program_id(0) * TM + tl.arange(0, TM)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    f_tile = load_tile(f, ms, ds, D, 1, M, D)
    shift = tl.full([TM], float("-inf"), tl.float32)
    total = tl.zeros([TM], tl.float32)
    weighted = tl.zeros([TM, TE], tl.float32)
    end = tl.minimum(n, (part + 1) * span)
    for start in range(part * span, end, TN):
        ns = start + tl.arange(0, TN)
        k_tile = clamped_tile(k + b * k_b, ds, ns, k_d, k_n, D, end)
        v_tile = load_tile(v + b * v_b, es, ns, v_e, v_n, E, end)
        log_phi = (
            tl.dot(f_tile, k_tile, input_precision=U_PRECISION) - tl.sum(k_tile * k_tile, axis=0)[None, :] / 2
        )
        log_phi = tl.where((ns < end)[None, :], log_phi, float("-inf"))
        highest = tl.maximum(shift, tl.max(log_phi, axis=1))
        if HAS_FLOOR:
            highest = tl.maximum(highest, log_floor)
        phi = tl.exp(log_phi - highest[:, None])
        if HAS_FLOOR:
            phi += tl.where((ns < end)[None, :], tl.exp(log_floor - highest)[:, None], 0.0)
        phi *= share
        fade = tl.exp(shift - highest)
        weighted = weighted * fade[:, None] + tl.dot(phi, tl.trans(v_tile), input_precision=V_PRECISION)
        total = total * fade + tl.sum(phi, axis=1)
        shift = highest
    row = (b * tl.num_programs(1) + part) * M
    tl.store(shift_out + row + ms, shift, mask=ms < M)
    tl.store(total_out + row + ms, total, mask=ms < M)
    store_tile(weighted_out + row * E, weighted, ms, es, E, 1, M, E)


@triton.jit
@no_type_check
def read(
    q, f, mean, log_total, y,
    q_b, q_d, q_n, y_b, y_e, y_n, n, share, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store attention's output at a tile of queries."""
    b = tl.program_id(1).to(tl.int64)
    ns = tl.program_id(0) * TN + tl.arange(0, TN)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    q_tile = clamped_tile(q + b * q_b, ds, ns, q_d, q_n, D, n)
    half_square = tl.sum(q_tile * q_tile, axis=0) / 2
    shift = tl.full([TN], float("-inf"), tl.float32)
    total = tl.zeros([TN], tl.float32)
    sums = tl.zeros([TE, TN], tl.float32)
    for start in range(0, M, TM):
        ms = start + tl.arange(0, TM)
        logits, totals = logits_of(
            f, log_total + b * M, q_tile, half_square, ms, ds, D, M, HAS_FLOOR, U_PRECISION
        )
        weights, fade, shift = shifted_weights(logits, totals, shift, log_floor, HAS_FLOOR)
        weights *= share
        mean_tile = load_tile(mean + b * M * E, ms, es, E, 1, M, E)
        sums = sums * fade[None, :] + tl.dot(tl.trans(mean_tile), weights, input_precision=V_PRECISION)
        total = total * fade + tl.sum(weights, axis=0)
    store_tile(y + b * y_b, sums / total[None, :], es, ns, y_e, y_n, E, n)


@triton.jit
@no_type_check
def summarise_gradient(
    k, v, f, g_mean, rest, log_total, g_k, g_v,
    k_b, k_d, k_n, v_b, v_e, v_n, gk_b, gk_d, gk_n, gv_b, gv_e, gv_n, n, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradients of a tile of keys and values."""
    b = tl.program_id(1).to(tl.int64)
    ns = tl.program_id(0) * TN + tl.arange(0, TN)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    k_tile = clamped_tile(k + b * k_b, ds, ns, k_d, k_n, D, n)
    v_tile = load_tile(v + b * v_b, es, ns, v_e, v_n, E, n)
    half_square = tl.sum(k_tile * k_tile, axis=0) / 2
    gk_tile = tl.zeros([TD, TN], tl.float32)
    gv_tile = tl.zeros([TE, TN], tl.float32)
    sums = tl.zeros([TN], tl.float32)
    for start in range(0, M, TM):
        ms = start + tl.arange(0, TM)
        f_tile = load_tile(f, ms, ds, D, 1, M, D)
        gm_tile = load_tile(g_mean + b * M * E, ms, es, E, 1, M, E)
        totals = tl.load(log_total + b * M + ms, mask=ms < M, other=float("inf"))[:, None]
        rests = tl.load(rest + b * M + ms, mask=ms < M, other=0.0)[:, None]
        weights = tl.exp(tl.dot(f_tile, k_tile, input_precision=U_PRECISION) - half_square[None, :] - totals)
        g_log_phi = weights * (tl.dot(gm_tile, v_tile, input_precision=V_PRECISION) + rests)
        if HAS_FLOOR:
            weights += tl.exp(log_floor - totals)
        gv_tile += tl.dot(tl.trans(gm_tile), weights, input_precision=V_PRECISION)
        gk_tile += tl.dot(tl.trans(f_tile), g_log_phi, input_precision=U_PRECISION)
        sums += tl.sum(g_log_phi, axis=0)
    store_tile(g_k + b * gk_b, gk_tile - k_tile * sums[None, :], ds, ns, gk_d, gk_n, D, n)
    store_tile(g_v + b * gv_b, gv_tile, es, ns, gv_e, gv_n, E, n)


@triton.jit
@no_type_check
def read_gradient(
    g_y, q, f, mean, log_total, g_q, log_sum_out, average_out,
    g_b, g_e, g_n, q_b, q_d, q_n, gq_b, gq_d, gq_n, n, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradients of a tile of queries, and their log-sums and averages for `read_parts`."""
    b = tl.program_id(1).to(tl.int64)
    ns = tl.program_id(0) * TN + tl.arange(0, TN)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    q_tile = clamped_tile(q + b * q_b, ds, ns, q_d, q_n, D, n)
    g_tile = load_tile(g_y + b * g_b, es, ns, g_e, g_n, E, n)
    half_square = tl.sum(q_tile * q_tile, axis=0) / 2
    shift = tl.full([TN], float("-inf"), tl.float32)
    total = tl.zeros([TN], tl.float32)
    average = tl.zeros([TN], tl.float32)
    for start in range(0, M, TM):
        ms = start + tl.arange(0, TM)
        logits, totals = logits_of(
            f, log_total + b * M, q_tile, half_square, ms, ds, D, M, HAS_FLOOR, U_PRECISION
        )
        weights, fade, shift = shifted_weights(logits, totals, shift, log_floor, HAS_FLOOR)
        seen = tl.dot(load_tile(mean + b * M * E, ms, es, E, 1, M, E), g_tile, input_precision=V_PRECISION)
        average = average * fade + tl.sum(weights * seen, axis=0)
        total = total * fade + tl.sum(weights, axis=0)
    average = average / total
    log_total_weight = tl.log(total)
    gq_tile = tl.zeros([TD, TN], tl.float32)
    sums = tl.zeros([TN], tl.float32)
    for start in range(0, M, TM):
        ms = start + tl.arange(0, TM)
        logits, _ = logits_of(f, log_total + b * M, q_tile, half_square, ms, ds, D, M, HAS_FLOOR, U_PRECISION)
        weights = tl.exp(logits - shift[None, :] - log_total_weight[None, :])
        seen = tl.dot(load_tile(mean + b * M * E, ms, es, E, 1, M, E), g_tile, input_precision=V_PRECISION)
        g_log_phi = weights * (seen - average[None, :])
        gq_tile += tl.dot(tl.trans(load_tile(f, ms, ds, D, 1, M, D)), g_log_phi, input_precision=U_PRECISION)
        sums += tl.sum(g_log_phi, axis=0)
    if HAS_FLOOR:
        gq_tile -= q_tile * sums[None, :]
    store_tile(g_q + b * gq_b, gq_tile, ds, ns, gq_d, gq_n, D, n)
    # In two numbers: their sum may have lost the smaller one.
    tl.store(log_sum_out + 2 * b * n + ns, shift, mask=ns < n)
    tl.store(log_sum_out + (2 * b + 1) * n + ns, log_total_weight, mask=ns < n)
    tl.store(average_out + b * n + ns, average, mask=ns < n)


@triton.jit
@no_type_check
def read_parts(
    g_y, q, f, mean, log_total, log_sum, average, g_mean_out, g_log_total_out,
    g_b, g_e, g_n, q_b, q_d, q_n, n, span, log_floor,
    D: tl.constexpr, M: tl.constexpr, E: tl.constexpr, HAS_FLOOR: tl.constexpr,
    TD: tl.constexpr, TM: tl.constexpr, TE: tl.constexpr, TN: tl.constexpr,
    U_PRECISION: tl.constexpr, V_PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the summary's gradients: a tile of features over a part of the queries."""
    part, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    ms = tl.program_id(0) * TM + tl.arange(0, TM)
    ds, es = tl.arange(0, TD), tl.arange(0, TE)
    mean_tile = load_tile(mean + b * M * E, ms, es, E, 1, M, E)
    g_mean = tl.zeros([TM, TE], tl.float32)
    g_log_total = tl.zeros([TM], tl.float32)
    end = tl.minimum(n, (part + 1) * span)
    for start in range(part * span, end, TN):
        ns = start + tl.arange(0, TN)
        q_tile = clamped_tile(q + b * q_b, ds, ns, q_d, q_n, D, end)
        g_tile = load_tile(g_y + b * g_b, es, ns, g_e, g_n, E, end)
        shift = tl.load(log_sum + 2 * b * n + ns, mask=ns < end, other=float("inf"))[None, :]
        rest = tl.load(log_sum + (2 * b + 1) * n + ns, mask=ns < end, other=0.0)[None, :]
        averages = tl.load(average + b * n + ns, mask=ns < end, other=0.0)[None, :]
        half_square = tl.sum(q_tile * q_tile, axis=0) / 2
        logits, totals = logits_of(
            f, log_total + b * M, q_tile, half_square, ms, ds, D, M, HAS_FLOOR, U_PRECISION
        )
        weights = tl.exp(logits - shift - rest)
        if HAS_FLOOR:
            weights += tl.exp((log_floor + totals) - shift - rest)
        g_mean += tl.dot(weights, tl.trans(g_tile), input_precision=V_PRECISION)
        g_log_total += tl.sum(
            weights * (tl.dot(mean_tile, g_tile, input_precision=V_PRECISION) - averages), axis=1
        )
    row = (b * tl.num_programs(1) + part) * M
    store_tile(g_mean_out + row * E, g_mean, ms, es, E, 1, M, E)
    tl.store(g_log_total_out + row + ms, g_log_total, mask=ms < M)
