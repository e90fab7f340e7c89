"""Triton kernels of ENLA's gradients; the remarks of `forward.py` apply.

    summarise_gradient positions:                           g_k, g_v
    read_gradient      positions:                           g_q, and of each query: log-sum and g_y . y
    read_parts         features x parts of the positions:   g_mean and g_log_total of each part

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from enlca.attention.triton.forward import clamped_tile, load_tile, logits_of, shifted_weights, store_tile


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
