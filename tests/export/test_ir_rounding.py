"""What goes to bfloat16 on its way into OpenVINO goes to the nearest number, as in PyTorch."""

import numpy as np
import pytest
import torch

from enlca.export.ir import _rounded, _rounding


def samples() -> np.ndarray:
    """Numbers of all magnitudes that a network has, and halfway between two of bfloat16."""
    generator = np.random.default_rng(1)
    spread = generator.standard_normal(9973) * 10.0 ** generator.uniform(-30, 30, 9973)
    even, odd = 1 + 2**-8, 1 + 3 * 2**-8
    return np.concatenate([spread, [0.0, even, odd, -even, -odd]]).astype(np.float32)


def nearest(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).bfloat16().float().numpy()


def test_numbers_are_rounded_to_the_nearest():
    np.testing.assert_array_equal(_rounded(samples()), nearest(samples()))


def test_layers_round_to_the_nearest_where_openvino_does_not():
    openvino = pytest.importorskip("openvino")
    ops = openvino.opset13
    given = ops.parameter([-1], openvino.Type.f32)
    lowered = ops.convert(_rounding(given.output(0)), openvino.Type.bf16)
    model = openvino.Model([ops.convert(lowered, openvino.Type.f32)], [given])
    compiled = openvino.Core().compile_model(model, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
    np.testing.assert_array_equal(compiled(samples())[0], nearest(samples()))
