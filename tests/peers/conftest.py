"""What tests of published methods may ask for."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from enlca.image.picture import read_image
from enlca.image.resize import imresize
from enlca.metrics import psnr


@pytest.fixture(scope="session")
def peers_data(shared_data) -> Path:
    """The folder of weights that other authors published; tests skip where it is absent."""
    if not (shared_data / "peers").is_dir():
        pytest.skip(f"no published weights at {shared_data / 'peers'}")
    return shared_data / "peers"


@pytest.fixture(scope="session")
def set5(shared_data) -> Callable[..., float]:
    """Compute a model's mean PSNR-Y on Set5, from the LR files or from LR that is not rounded."""

    def score(model, *, rounded: bool) -> float:
        scores = []
        for path in sorted((shared_data / f"test/Set5/HR_x{model.scale}").glob("*.png")):
            hr = read_image(path).pixels
            if rounded:
                lr = read_image(shared_data / f"test/Set5/LR_x{model.scale}" / path.name).pixels
            else:
                lr = imresize(hr.astype(np.float64), Fraction(1, model.scale))
            with torch.no_grad():
                sr = model(torch.from_numpy(lr / 255).float().permute(2, 0, 1)[None])
            levels = (255 * sr[0].clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy()
            scores.append(psnr(levels, hr, shave=model.scale))
        assert len(scores) == 5
        return float(np.mean(scores))

    return score
