"""Turn a run's best weights into weights of the package: half precision, scored, with a complete card.

    python -m experiments.bundle_weights runs/enlcn_tiny_x4 enlcn-tiny \\
        --data-card experiments/training_data.json --test ../shared/data/test/Set5 ../shared/data/test/Set14

`--average RUN` bundles the mean of its best weights and of another run's, of which one began with the other:
often it is better than either (Wortsman et al. 2022, *Model soups*). With `--share 0.4` RUN's first counts
0.4 and the other 0.6.

The scores are those of the very file that is bundled (`enlca evaluate` on it), not of the run. The
run's configuration and metrics are copied beside, to `experiments/results/NAME_xSCALE/`.
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

import torch
import yaml

from enlca.checkpoint.file import load_file, save
from enlca.checkpoint.mixing import mix
from enlca.checkpoint.store import WEIGHTS
from enlca.evaluation.evaluate import evaluate, method_called

RESULTS = Path(__file__).parent / "results"
FORM = argparse.RawDescriptionHelpFormatter


def bundle(
    run: Path,
    name: str,
    data_cards: list[Path],
    tests: list[Path],
    *,
    average: Path | None = None,
    share: float = 0.5,
    weights: Path = WEIGHTS,
) -> Path:
    """Write `NAME_xSCALE.safetensors` into the package, and the run's log beside the experiments."""
    network, card = load_file(run / "best.safetensors")
    scale, known = card.network.scale, card.scores
    if average is not None:
        network, known = mix(average / "best.safetensors", run / "best.safetensors", strength=share), {}
    begun_with = yaml.safe_load((run / "config.yaml").read_text())["run"].get("start_from")
    training = {
        **card.training,
        **({"started_from": Path(begun_with).name} if begun_with else {}),
        **({"averaged_with": average.name, "share": share} if average is not None else {}),
        **{key: value for path in data_cards for key, value in json.loads(path.read_text()).items()},
        "date": date.today().isoformat(),
    }
    target = weights / f"{name}_x{scale}.safetensors"
    unscored = {"variant": card.variant, "training": training, "dtype": torch.float16}
    save(network, target, **unscored)
    report = evaluate(method_called(str(target), scale=scale, device="cpu"), tests, scale=scale).report
    scores = {
        dataset: {"psnr_y": round(mean["psnr_y"], 3), "ssim_y": round(mean["ssim_y"], 4), "n": mean["n"]}
        for dataset, mean in report.datasets().items()
    }
    save(network, target, scores={**scores, **known}, **unscored)
    log = RESULTS / f"{name}_x{scale}"
    log.mkdir(parents=True, exist_ok=True)
    for file in ("config.yaml", "metrics.csv", "environment.json"):
        shutil.copy(run / file, log / file)
    print(report.to_markdown(), end="")
    return target


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument(
        "--data-card", type=Path, nargs="+", required=True, help="JSON: what the pictures are, who taught"
    )
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="benchmark folders")
    parser.add_argument("--average", type=Path, metavar="RUN", help="another run, for the mean of both")
    parser.add_argument("--share", type=float, default=0.5, help="of the first run in that mean: 0 to 1")
    arguments = parser.parse_args()
    target = bundle(
        arguments.run,
        arguments.name,
        arguments.data_card,
        arguments.test,
        average=arguments.average,
        share=arguments.share,
    )
    print(target)


if __name__ == "__main__":
    main()
