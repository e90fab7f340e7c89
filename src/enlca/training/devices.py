"""Where a run takes place: devices, processes, machines. Lightning Fabric starts and joins them."""

import logging
import os
import platform
import warnings
from importlib.metadata import version

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

import enlca
from enlca.errors import ConfigError
from enlca.training.config import RunConfig


def is_first_here() -> bool:
    """Whether this is the first process of its machine: it packs the pictures, others wait in `launch`."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0


def launch(run: RunConfig) -> Fabric:
    """The devices, with a process on each. Under torchrun, its own numbers count.

    Raises:
        ConfigError: if there is no such device, or there are fewer.
    """
    devices, nodes = run.devices, run.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    several = devices * nodes > 1
    for talkative in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    # Lightning 2.6.6 renames the argument below; 2.6.4 knows the old name only.
    warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated")
    try:
        fabric = Fabric(
            accelerator=run.device,
            devices=devices,
            num_nodes=nodes,
            # F is the same everywhere by construction: nothing but gradients has to travel.
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            precision=run.precision,  # pyright: ignore[reportArgumentType]
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        # No such device, or fewer of them: Lightning's own errors are of these kinds.
        raise ConfigError(f"run.device, run.devices: {' '.join(str(error).split())}") from error
    return fabric


def environment() -> dict:
    """Versions and hardware, for `environment.json`."""
    return {
        "enlca": enlca.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
