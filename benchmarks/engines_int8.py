"""What 8-bit integers would cost and gain: post-training quantisation by NNCF, run by OpenVINO.

    python -m benchmarks.engines_int8 PICTURES Set5 Set14 [--models enlcn-tiny] [--threads 2]

PICTURES is a folder of HR pictures; their LR versions, by MATLAB's bicubic, calibrate the ranges. The
others are folders of pairs like Set5: PSNR-Y by our evaluation, float32 and int8 by the same engine.
Attention stays in float32, as always. Once with every convolution in int8, once without the first and the
last. The float32 engine is compared with PyTorch first. Times as in `benchmarks.engines`; `gain` is
float32's by int8's. Needs NNCF: pip install nncf.
"""

import argparse
import sys
import tempfile
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engines import FORM, PRIME
from benchmarks.report import publish
from benchmarks.rounds import SCALE, Company, median_ratio, milliseconds, seconds_of
from benchmarks.scores import scores_of
from enlca.checkpoint.store import load
from enlca.export.engines import OpenVinoEngine
from enlca.export.graphs import ATTENTION, IR, import_extra, onnx_graph, openvino_ir
from enlca.export.verify import check_parity
from enlca.image.files import find_pictures
from enlca.image.picture import read_image
from enlca.image.resize import imresize, mod_crop


def quantised(ir: IR, pictures: list[np.ndarray], *, edges: bool) -> IR:
    """Convolutions in int8, attention not; `edges`: the first and the last convolution, too."""
    openvino = import_extra("openvino")
    # NNCF would send a report, as OpenVINO would.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import nncf  # pyright: ignore[reportMissingImports]

    model = openvino.Core().read_model(ir.xml, openvino.Tensor(np.frombuffer(ir.weights, np.uint8)))
    convolutions = [
        op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"
    ]
    kept = [] if edges else [convolutions[0], convolutions[-1]]
    ignored = nncf.IgnoredScope(names=kept, patterns=[f"{ATTENTION}.*"], validate=False)
    smaller = nncf.quantize(
        model,
        nncf.Dataset(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
        fast_bias_correction=False,
        ignored_scope=ignored,
    )
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(smaller, str(xml), str(weights))
        return IR(xml.read_bytes(), weights.read_bytes())


def calibration(folder: Path) -> list[np.ndarray]:
    """Small versions of a folder's pictures, as the network gets them: 1 3 H W in [0, 1]."""
    small = [
        imresize(mod_crop(read_image(path).pixels, SCALE), Fraction(1, SCALE))
        for path in find_pictures(folder)
    ]
    return [lr.transpose(2, 0, 1)[None].astype(np.float32) / 255 for lr in small if lr.shape[2] == 3]


def int8(name: str, size: int, rounds: int, calibrate: Path, tests: list[Path]) -> list[dict[str, Any]]:
    """A row for each set of pictures and way to quantise."""
    network = load(name, scale=SCALE)
    ir = openvino_ir(onnx_graph(network), {})
    full = OpenVinoEngine(ir)
    check_parity(full, network, sizes=[(1, *PRIME), (1, size, size)])
    pictures = calibration(calibrate)
    engines = {
        "every convolution": OpenVinoEngine(quantised(ir, pictures, edges=True)),
        "not the first and last": OpenVinoEngine(quantised(ir, pictures, edges=False)),
    }
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    works = {way: (lambda engine=engine: engine(lr)) for way, engine in {"fp32": full, **engines}.items()}
    with Company() as company:
        seconds = seconds_of(works, rounds)
    scores = {way: scores_of(engine, tests, SCALE) for way, engine in {"fp32": full, **engines}.items()}
    return [
        {
            "model": name,
            "scale": SCALE,
            "int8": way,
            "dataset": dataset,
            "psnr_fp32": round(scores["fp32"][dataset], 3),
            "psnr_int8": round(scores[way][dataset], 3),
            "psnr_lost": round(scores["fp32"][dataset] - scores[way][dataset], 3),
            "gain": median_ratio(seconds["fp32"], seconds[way]),
            "milliseconds_fp32": milliseconds(seconds["fp32"]),
            "milliseconds_int8": milliseconds(seconds[way]),
            "height": size,
            "width": size,
            "calibrated_on": f"{calibrate.name} ({len(pictures)})",
            "others": company.share,
            "rounds": rounds,
            "openvino": version("openvino"),
            "nncf": version("nncf"),
        }
        for way in engines
        for dataset in scores[way]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("tests", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["enlcn-tiny"], help="names of bundled weights")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [
        row
        for name in arguments.models
        for row in int8(name, arguments.size, arguments.rounds, arguments.pictures, arguments.tests)
    ]
    publish("engines_int8", *rows, threads=arguments.threads)


if __name__ == "__main__":
    main()
