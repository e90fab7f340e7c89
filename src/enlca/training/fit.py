"""`fit`: from a configuration to a run folder."""

import json
import logging
import platform
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, Dataset

import enlca
from enlca.checkpoint.store import load_file
from enlca.data.benchmark import find_pairs, load_pair
from enlca.data.pack import cached_pack
from enlca.data.patches import PatchBatches, StepSampler
from enlca.training.callbacks import KeepBest, KeepLast, RedrawFeatures
from enlca.training.config import ConfigError, TrainConfig
from enlca.training.module import SRTraining

# What Lightning says of things that are as they should be: patches are cheaper to cut than to send between
# processes, validation is optional, and the run folder already holds the configuration.
EXPECTED_REMARKS = (
    ".*does not have many workers",
    ".*LeafSpec",
    ".*defined a `validation_step` but have no `val_dataloader`",
    "Experiment logs directory .* exists and is not empty",
)


class Events(TensorBoardLogger):
    """TensorBoard events, without the empty `hparams.yaml` that Lightning puts beside them."""

    def save(self) -> None:
        """Write what is still in memory."""
        self.experiment.flush()


def fit(
    config: TrainConfig,
    config_text: str,
    *,
    on_pack: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train as `config` says; returns the path of the best weights.

    `config_text` is the resolved configuration for the run folder; `on_pack(done, total)` follows the
    decoding of the pictures.

    Raises:
        ConfigError: if the run folder already holds a run.
        PictureError: if a picture cannot be used.
    """
    run, data = config.run, config.data
    if (run.dir / "metrics.csv").exists() or (run.dir / "last.ckpt").exists():
        raise ConfigError(f"{run.dir} already holds a run; choose another with --run.dir, or move it away")
    packed = cached_pack(
        data.train, scale=config.network.scale, min_side=data.patch, cache=data.cache, on_progress=on_pack
    )
    validation = []
    if data.validation is not None:
        scale = config.network.scale
        validation = [load_pair(pair, scale) for pair in find_pairs(data.validation, scale)]

    run.dir.mkdir(parents=True, exist_ok=True)
    (run.dir / "config.yaml").write_text(config_text)
    (run.dir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    L.seed_everything(run.seed, verbose=False)
    module = SRTraining(config).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if run.start_from is not None:
        begin_with(module, run.start_from)
    trainer = _trainer(config)
    patches = PatchBatches(
        packed, patch=data.patch, batch=data.batch, seed=run.seed, rank=trainer.global_rank
    )
    loader = DataLoader(
        patches,
        batch_size=None,
        collate_fn=_as_it_is,
        sampler=StepSampler(run.steps_per_epoch),
        num_workers=data.workers,
        persistent_workers=data.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    pictures = None
    if validation:
        pictures = DataLoader(cast(Dataset, validation), batch_size=None, collate_fn=_as_it_is)
    on_interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for remark in EXPECTED_REMARKS:
            warnings.filterwarnings("ignore", message=remark)
        try:
            trainer.fit(module, loader, pictures)
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                # Lightning leaves with exit code 1 and ignores Ctrl-C from then on.
                signal.signal(signal.SIGINT, on_interrupt)
                raise KeyboardInterrupt from error
            raise
    return run.dir / "best.safetensors"


def begin_with(module: SRTraining, path: Path) -> None:
    """Copy the weights of a checkpoint into `module`, and into its average; only the upsampler may differ.

    Raises:
        CheckpointError: if the file is not a checkpoint.
        ConfigError: if it holds another network.
    """
    source, own = load_file(path)[0].state_dict(), module.network.state_dict()
    fitting = {
        name: tensor for name, tensor in source.items() if name in own and own[name].shape == tensor.shape
    }
    misfits = sorted(name for name in source.keys() ^ own.keys() | (own.keys() - fitting.keys()))
    if misfits := [name for name in misfits if not name.startswith("upsampler.")]:
        raise ConfigError(f"run.start_from: {path} holds another network ({misfits[0]} does not fit)")
    for network in (module.network, module.averaged):
        network.load_state_dict(fitting, strict=False)


def _as_it_is(batch: Any) -> Any:
    """PyTorch would turn tuples into lists, and arrays into tensors."""
    return batch


def environment() -> dict:
    """Versions and hardware, for `environment.json`."""
    return {
        "enlca": enlca.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": L.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _trainer(config: TrainConfig) -> L.Trainer:
    run = config.run
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    terminal = sys.stderr.isatty()
    callbacks = [
        RedrawFeatures(run.seed),
        KeepBest(run.dir / "best.safetensors"),
        LearningRateMonitor(logging_interval="step"),
        KeepLast(run.dir / "last.ckpt", every=run.save_every),
        *([TQDMProgressBar(refresh_rate=10)] if terminal else []),
    ]
    return L.Trainer(
        max_steps=run.steps,
        devices=run.devices,
        num_nodes=run.nodes,
        precision=run.precision,  # pyright: ignore[reportArgumentType]
        gradient_clip_val=config.optim.clip,
        logger=[
            CSVLogger(run.dir, name="", version="", flush_logs_every_n_steps=run.log_every),
            Events(run.dir, name="", version=""),
        ],
        callbacks=callbacks,
        log_every_n_steps=run.log_every,
        check_val_every_n_epoch=run.validate_every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )
