"""What a training step costs, and which shares of it the loader and the contrastive loss have.

    python -m benchmarks.training_step [--threads 2] [--quick] [--only tiny|paper]

Two tables, after a check that everything compared computes the same:

* `training_step`: enlcn-tiny with the settings of `configs/enlcn_tiny_x4.yaml`, on patches from a packed,
  memory-mapped set of pictures. A step is what training does, without logs and validation: forward, loss,
  backward, clipping, Adam, moving average of the weights. Beside it, in the same rounds: the step with the
  released code's way of computing attention and loss (`benchmarks.released`; all else is the same), the
  step without the contrastive loss, and the step of the network without attention.
* `contrast_share`: the paper's network at the paper's patches and batch; whole, real steps. The loss is timed
  on the network's own embeddings, forward and backward to q and k, in three forms: 64 anchors, all queries
  with a partial selection, all queries with a full sort (the released code's way). "Rest" is the step
  without contrastive loss.

Each round times everything once, one after the other; a first round warms up. Seconds are medians over
rounds, ratios medians over rounds of the ratio within a round. Aims on 2 idle cores: at least 5 steps a
second, loader under 5 % of a step, released / ours at least 3; contrastive loss at most 15 % of a step.
`--quick` shrinks everything, to see that it works, and writes nothing.
"""

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.released import RELEASED_LOSS, RELEASED_NETWORK, ReleasedLoss, as_released
from benchmarks.report import publish, show
from benchmarks.steps import Feed, Loss, Trainee, added, interleaved, loss_alone, ratio, share_by_difference
from enlca.attention.contrastive import contrastive_loss
from enlca.losses import ENLCALoss
from enlca.network.sr import SRConfig, SRNetwork

CONFIG = Path(__file__).parents[1] / "configs" / "enlcn_tiny_x4.yaml"
ANCHORS = 64


def tiny_settings() -> dict[str, Any]:
    return yaml.safe_load(CONFIG.read_text(encoding="utf-8"))


def check() -> None:
    """Refuse to time what does not compute the same.

    Raises:
        RuntimeError: if the released twin is not our network with the released settings, in value or
            gradient, or if anchors do not estimate the loss over all queries.
    """
    torch.manual_seed(1)
    network = SRNetwork(SRConfig.from_dict({**tiny_settings()["network"], **RELEASED_NETWORK}))
    scale = network.config.scale
    sides = (torch.randint(256, (2, 3, 13 * size, 11 * size)) for size in (1, scale))
    lr, hr = (side.float() / 255 for side in sides)

    def results(network: SRNetwork, loss: Loss) -> list[Tensor]:
        sr, embeddings = network.forward_with_embeddings(lr)
        terms = loss(sr, hr, embeddings, contrast=True)
        return [sr, *terms, *torch.autograd.grad(terms.total, list(network.parameters()))]

    mine = results(network, ENLCALoss(contrast_weight=1.0, **RELEASED_LOSS))
    theirs = results(as_released(network), ReleasedLoss(contrast_weight=1.0))
    for a, b in zip(mine, theirs, strict=True):
        # Other orders of summation in float32, and exponentials that span nine decades.
        if (a - b).abs().max() > 1e-4 * b.abs().max():
            raise RuntimeError("the released twin computes something else: nothing to report")

    q, k, _ = network.forward_with_embeddings(lr)[1][0]
    full = contrastive_loss(q, k).loss
    everyone = contrastive_loss(q, k, anchors=q.shape[-1]).loss
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [contrastive_loss(q, k, anchors=ANCHORS, generator=generator).loss for _ in range(100)]
    )
    if everyone != full or (draws.mean() - full).abs() > 4 * draws.std() / len(draws) ** 0.5:
        raise RuntimeError("anchors do not estimate the loss over all queries: nothing to report")


def tiny(rounds: int, pictures: int) -> dict[str, Any]:
    """enlcn-tiny's step, its loader, and the twins."""
    settings = tiny_settings()
    data, optim = settings["data"], settings["optim"]
    config, loss = SRConfig.from_dict(settings["network"]), ENLCALoss(**settings["loss"])
    network = SRNetwork(config)
    ours = Trainee(network, loss, optim)
    released = Trainee(as_released(network), ReleasedLoss(), optim)
    plain = Trainee(SRNetwork(dataclasses.replace(config, attention="none")), loss, optim)
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(
            Path(folder), scale=config.scale, patch=data["patch"], batch=data["batch"], pictures=pictures
        )
        seen = ours.embeddings(feed.batch)
        seconds = interleaved(
            {
                "load": feed.load,
                "step": lambda: ours.step(feed.batch),
                "without_contrast": lambda: ours.step(feed.batch, contrast=False),
                "without_attention": lambda: plain.step(feed.batch),
                "released": lambda: released.step(feed.batch),
                "loss": lambda: loss_alone(loss, seen),
                "loss_sorted": lambda: loss_alone(released.loss, seen),
            },
            rounds,
        )
    for trainee in (ours, released, plain):
        trainee.check_finite()
    whole = added(seconds["load"], seconds["step"])
    return {
        "model": "enlcn-tiny",
        "scale": config.scale,
        "patch": data["patch"],
        "batch": data["batch"],
        "anchors": loss.anchors,
        "steps_per_second": round(1 / statistics.median(whole), 2),
        "loader_share": ratio(seconds["load"], whole),
        "released_by_ours": ratio(seconds["released"], seconds["step"]),
        "ours_by_no_attention": ratio(seconds["step"], seconds["without_attention"]),
        "contrast_share": ratio(seconds["loss"], seconds["step"]),
        "contrast_share_by_difference": share_by_difference(seconds),
        "sorted_loss_by_rest": ratio(seconds["loss_sorted"], seconds["without_contrast"]),
        "rounds": rounds,
    }


def paper(rounds: int, scale: int, patch: int, batch: int, **shrunk: Any) -> dict[str, Any]:
    """The paper's network: the share of the contrastive loss, with anchors and over all pairs."""
    loss = ENLCALoss(anchors=ANCHORS)
    config = SRConfig(scale=scale, **shrunk)
    optim = {"lr": 1e-4, "betas": (0.9, 0.99), "clip": 1.0, "ema": 0.999}
    trainee = Trainee(SRNetwork(config), loss, optim)
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(Path(folder), scale=scale, patch=patch, batch=batch, pictures=2)
        seen = trainee.embeddings(feed.batch)
        seconds = interleaved(
            {
                "step": lambda: trainee.step(feed.batch),
                "without_contrast": lambda: trainee.step(feed.batch, contrast=False),
                "loss": lambda: loss_alone(loss, seen),
                "loss_all": lambda: loss_alone(dataclasses.replace(loss, anchors=None), seen),
                "loss_sorted": lambda: loss_alone(ReleasedLoss(), seen),
            },
            rounds,
        )
    trainee.check_finite()
    return {
        "model": "enlcn",
        "scale": scale,
        "patch": patch,
        "batch": batch,
        "anchors": ANCHORS,
        "step_seconds": round(statistics.median(seconds["step"]), 2),
        "contrast_share": ratio(seconds["loss"], seconds["step"]),
        "contrast_share_by_difference": share_by_difference(seconds),
        "loss_by_rest": ratio(seconds["loss"], seconds["without_contrast"]),
        "all_queries_loss_by_rest": ratio(seconds["loss_all"], seconds["without_contrast"]),
        "sorted_loss_by_rest": ratio(seconds["loss_sorted"], seconds["without_contrast"]),
        "sorted_loss_by_ours": ratio(seconds["loss_sorted"], seconds["loss"]),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("tiny", "paper"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    check()
    torch.manual_seed(1)
    quick, only = arguments.quick, arguments.only
    sizes = ((4, 28), (2, 46))
    # A table is published as soon as it is there: the second one takes much longer than the first.
    if only != "paper":
        row = tiny(rounds=2, pictures=2) if quick else tiny(rounds=30, pictures=64)
        publish_or_show("training_step", [row], quick=quick, threads=arguments.threads)
    if only != "tiny":
        if quick:
            rows = [paper(1, scale, patch, 2, channels=64, n_blocks=8) for scale, patch in sizes]
        else:
            rows = [paper(2, scale, patch, 16) for scale, patch in sizes]
        publish_or_show("contrast_share", rows, quick=quick, threads=arguments.threads)


def publish_or_show(name: str, rows: list[dict[str, Any]], *, quick: bool, threads: int) -> None:
    if quick:
        show(*rows)
    else:
        publish(name, *rows, threads=threads)


if __name__ == "__main__":
    main()
