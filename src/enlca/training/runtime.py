"""Devices and processes of a run (Lightning Fabric)."""

import logging
import os
import platform
import shlex
import signal
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

import enlca
from enlca.runtime.signals import STOPPING
from enlca.training.config import ConfigError, RunConfig


def is_first_here() -> bool:
    """Return whether this is the first process of its machine, which packs the pictures before the others."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0


def launch(run: RunConfig) -> Fabric:
    """Start a process on each device; under torchrun, the numbers of devices and nodes are torchrun's.

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
    """Return command, versions and hardware, for `environment.json`."""
    program = Path(sys.argv[0]).name
    return {
        "command": shlex.join(["enlca" if program == "__main__.py" else program, *sys.argv[1:]]),
        "commit": _commit(Path(enlca.__file__).parents[2]),
        "enlca": enlca.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with a plus if files have changed; None where enlca is installed."""
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout)]
    settings: dict = {"capture_output": True, "text": True, "check": True, "timeout": 10}
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], **settings).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], **settings).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C and SIGHUP in a loader process: the loop finishes its step and needs the loaders for it.

    SIGTERM is how PyTorch ends a loader that hangs.
    """
    for kind in set(STOPPING) - {signal.SIGTERM}:
        signal.signal(kind, signal.SIG_IGN)
