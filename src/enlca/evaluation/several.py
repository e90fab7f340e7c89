"""Several methods on the same data sets: models and folders of SR pictures, their names told apart."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from enlca.checkpoint.store import BEST, bundled
from enlca.errors import EvaluationError
from enlca.evaluation.evaluate import BICUBIC, Evaluation, Method, evaluate, method_called
from enlca.evaluation.given import GivenPictures
from enlca.evaluation.report import Lr, Metric
from enlca.models import REGISTERED
from enlca.runtime.concurrency import Progress, no_progress


def methods_called(
    models: Sequence[str],
    *,
    scale: int,
    device: str = "auto",
    protocol: str = "whole",
    ensemble: bool = False,
) -> list[Method | GivenPictures]:
    """Return the method of each model, see `method_called`, and of each folder of SR pictures.

    A name wins over a folder in the current one, as in `locate`: `./bicubic` is the folder. Two of one name
    are called by the folder that they are in, too.

    Raises:
        CheckpointError, DeviceError, EvaluationError: as `method_called`.
        EvaluationError: two names are equal all the same.
    """
    methods: list[Method | GivenPictures] = []
    names = {BICUBIC, *REGISTERED, *(item.name for item in bundled())}
    for model in models:
        if model not in names and holds_pictures(Path(model)):
            methods.append(GivenPictures.of(Path(model)))
        else:
            options = {"device": device, "protocol": protocol, "ensemble": ensemble}
            methods.append(method_called(model, scale=scale, **options))
    times = Counter(method.name for method in methods)
    named = [
        replace(method, name=f"{_folder_around(Path(model), method.name)}/{method.name}")
        if times[method.name] > 1 and model not in names and Path(model).exists()
        else method
        for model, method in zip(models, methods, strict=True)
    ]
    if twice := [name for name, count in Counter(method.name for method in named).items() if count > 1]:
        raise EvaluationError(f"two models are called {twice[0]}, so their rows would mix; rename one")
    return named


def _folder_around(path: Path, name: str) -> str:
    """Return the name of the folder that has what a method is called after: a file, a run or pictures."""
    path = path.resolve()
    if path.name == BEST or (path.is_dir() and path.name != name):
        path = path.parent
    return path.parent.name


def holds_pictures(path: Path) -> bool:
    """Whether a model is a folder of SR pictures, and not the folder of a training run."""
    return path.is_dir() and not (path / BEST).exists()


def evaluate_each(
    methods: Sequence[Method | GivenPictures],
    folders: Sequence[Path],
    *,
    scale: int,
    lr: Lr = "uint8",
    metrics: Sequence[Metric] = (),
    save_images: Path | None = None,
    on_image: Progress = no_progress,
) -> list[Evaluation]:
    """Score every method on every folder; arguments and errors as `evaluate`.

    `save_images` receives a folder for each method if there are several.
    """

    def report(number: int) -> Callable[[str, int, int], None]:
        return lambda name, done, total: on_image(name, number * total + done, len(methods) * total)

    options: dict[str, Any] = {"scale": scale, "lr": lr, "metrics": metrics}
    kept = [save_images and save_images / method.name for method in methods]
    if len(methods) == 1:
        kept = [save_images]
    return [
        evaluate(method, folders, on_image=report(number), save_images=where, **options)
        for number, (method, where) in enumerate(zip(methods, kept, strict=True))
    ]
