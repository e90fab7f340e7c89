"""Models kept as repositories: of the Hugging Face hub, or folders laid out like one.

    hf-hub:org/name    hf-hub:org/name@revision    local-dir:PATH

A repository holds `model.safetensors`, a checkpoint of enlca, and `config.json`, the text of its card. A
pickle beside them is refused, although it would not be read here: another program may read it.
"""

import errno
import os
from functools import cache
from pathlib import Path

from enlca.errors import CheckpointError, require

HUB, FOLDER = "hf-hub:", "local-dir:"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# The endings of files that Python unpickles.
PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")

# Why a download cannot be written: no fault of the hub or of the way to it.
OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def last_name(model: str) -> str:
    """Return what a repository is called in tables: `name@revision`, or the folder's name."""
    place = model.partition(":")[2]
    return Path(place).resolve().name if model.startswith(FOLDER) else place.rpartition("/")[2]


def fetch(model: str) -> Path:
    """Return the folder with the files of a repository, downloaded if it is the hub's.

    Raises:
        CheckpointError: it cannot be had, lacks a file, or holds a pickle.
        MissingExtra: the hub's client is not installed.
    """
    if model.startswith(FOLDER):
        folder = Path(model.removeprefix(FOLDER)).expanduser()
        if not folder.is_dir():
            raise CheckpointError(f"{model}: there is no such folder")
        check_names(model, os.listdir(folder))
        return folder
    name, _, revision = model.removeprefix(HUB).partition("@")
    return _download(name, revision or None)


def check_names(model: str, names: list[str]) -> None:
    """Raise CheckpointError unless files of these names make a repository of enlca's."""
    if pickles := sorted(name for name in names if name.lower().endswith(PICKLES)):
        raise CheckpointError(f"{model}: holds a pickle, {pickles[0]}; only safetensors are taken")
    for needed in (WEIGHTS, CONFIG):
        if needed not in names:
            raise CheckpointError(f"{model}: has no {needed}, so it is not a model of enlca")


# A command may ask for its model several times: it gets the same commit.
@cache
def _download(name: str, revision: str | None) -> Path:
    model = f"{HUB}{name}{f'@{revision}' if revision else ''}"
    with require("hub", feature="a model of the hub"):
        from huggingface_hub import HfApi, errors, hf_hub_download
    refused = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)

    def files(*, local: bool) -> list[Path]:
        return [
            Path(hf_hub_download(name, file, revision=revision, local_files_only=local))
            for file in (WEIGHTS, CONFIG)
        ]

    try:
        listed = HfApi().model_info(name, revision=revision).siblings or []
        check_names(model, [file.rfilename for file in listed])
        paths = files(local=False)
    except CheckpointError:
        raise
    except refused as error:
        raise _failed(model, error) from error
    # Offline, in the words of the client's HTTP library, or the hub is ill: an earlier download will do,
    # whose names were checked then.
    except Exception as error:
        try:
            paths = files(local=True)
        except Exception as missing:
            known = isinstance(error, errors.HfHubHTTPError) or getattr(error, "errno", None) in OF_DISK
            raise _failed(model, error if known else missing) from error
    if paths[0].parent != paths[1].parent:
        raise CheckpointError(f"{model}: was changed while it was downloaded; try again")
    return paths[0].parent


def _failed(model: str, error: Exception) -> CheckpointError:
    """Return what the hub's client raised as one line."""
    from huggingface_hub import errors

    kinds = {
        errors.GatedRepoError: "is given out by its owners only, to users whose token is in HF_TOKEN",
        errors.RepositoryNotFoundError: "no such repository, or a private one, for which HF_TOKEN is not set",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.LocalEntryNotFoundError: "the hub cannot be reached, and there is no earlier download",
    }
    known = (words for kind, words in kinds.items() if isinstance(error, kind))
    return CheckpointError(f"{model}: {next(known, ' '.join(str(error).split())[:300])}")
