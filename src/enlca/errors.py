"""Every failure that a user can act on, and the exit code a command ends with because of it.

2: wrong usage. 1: the work failed, or some of it. 130: interrupted.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EnlcaError(Exception):
    """A failure whose message is one line: what happened and what to do instead."""

    exit_code = 2


class MissingExtra(EnlcaError):
    """An optional package is not installed; the message says how to install it."""


class Stopped(EnlcaError):
    """The user stopped the work."""

    exit_code = 130


# Pictures


class PictureError(EnlcaError):
    """A picture cannot be read or written; the message names the file, what is wrong and what is right."""


class TooManyPixels(PictureError):
    """A picture whose header says more pixels than the caller decodes.

    Attributes:
        width, height: what the header says.
    """

    def __init__(self, message: str, width: int, height: int):
        super().__init__(message)
        self.width, self.height = width, height

    def __reduce__(self) -> tuple:
        return type(self), (*self.args, self.width, self.height)


class DamagedPicture(PictureError):
    """A picture file that ends early or contradicts itself."""


class JobError(EnlcaError):
    """The inputs and outputs of a command contradict each other."""


# Models


class CheckpointError(EnlcaError):
    """A checkpoint cannot be used; the message names the file and the reason."""


class ExportError(EnlcaError):
    """A network or a file cannot be exported."""


class ParityError(EnlcaError):
    """An exported graph computes something else than the network."""

    exit_code = 1


class NotWritten(EnlcaError):
    """A file could not be written."""

    exit_code = 1


# Inference


class DeviceError(EnlcaError):
    """The device is not available, or cannot do what was asked."""


class EngineError(EnlcaError):
    """The engine cannot run on this machine as asked."""


class PrecisionError(EnlcaError):
    """The precision does not exist, or not on this device."""


class MemoryLimitError(EnlcaError):
    """A memory limit cannot be parsed."""


class StreamingError(EnlcaError):
    """The network cannot be streamed exactly."""


class TooLarge(EnlcaError):
    """The picture does not fit into the memory budget."""

    exit_code = 1


class StoreError(EnlcaError):
    """The disk has no space for what does not fit into memory."""

    exit_code = 1


class NotFinite(EnlcaError):
    """The network's output holds NaN or infinity."""

    exit_code = 1


# Bulk


class BulkError(EnlcaError):
    """A job over a store cannot begin or go on; the message says why."""


# Data, evaluation, training


class PackError(EnlcaError):
    """A pack cannot be used, or cannot be made there."""


class ArchiveError(EnlcaError):
    """An archive is damaged, or would write outside its folder."""

    exit_code = 1


class FetchError(EnlcaError):
    """A download failed; the same command resumes it."""

    exit_code = 1


class EvaluationError(EnlcaError):
    """The scores of an evaluation would be meaningless."""


class ConfigError(EnlcaError):
    """A training configuration cannot be used; the message names the entry and what is allowed."""


class StateError(EnlcaError):
    """A saved training state cannot be used."""


class TrainingFailed(EnlcaError):
    """Training cannot continue; the message says why and what is saved."""

    exit_code = 1


class TrainingStopped(Stopped):
    """The user stopped the run: its last step is saved, and the message says how to resume."""


# Explorer


class NothingOpen(EnlcaError):
    """The visitor has not opened a picture, or it has expired."""


class TooMuch(EnlcaError):
    """A picture needs more memory than the page may use."""


class PortTaken(EnlcaError):
    """The address or port cannot be listened on."""


@contextmanager
def require(extra: str, *, feature: str) -> Iterator[None]:
    """Turn a failed import inside the block into `MissingExtra`.

    Args:
        extra: the optional dependencies that hold the package, as in `pip install 'enlca[extra]'`.
        feature: what needs it, the first words of the message.

    Raises:
        MissingExtra: a package outside enlca is not installed, or its import fails.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == "enlca":
            raise
        needs = f"{feature} needs {package or 'a package'}"
        if not isinstance(error, ModuleNotFoundError):
            needs += f", which is broken ({' '.join(str(error).split())})"
        raise MissingExtra(f"{needs}: pip install 'enlca[{extra}]'") from error
