import subprocess
import sys
from importlib.metadata import version

import pytest
import torch

import enlca


def test_importing_enlca_loads_nothing_until_a_name_is_used():
    program = """
import sys
import enlca
print("torch" in sys.modules)
enlca.SRConfig
print("torch" in sys.modules, "pyvips" in sys.modules, "PIL" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "True False False"]


def test_every_public_name_is_what_it_is_called():
    for name in enlca.__all__:
        thing = getattr(enlca, name)
        assert name == "__version__" or thing.__name__ == name
    assert dir(enlca) == sorted(enlca.__all__)


def test_the_version_is_that_of_the_installed_package():
    assert enlca.__version__ == version("enlca")


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'enlca' has no attribute 'Upscalar'"):
        enlca.Upscalar  # noqa: B018


def test_the_contracted_lines_of_python_work(tiny_model, tmp_path):
    from PIL import Image

    Image.new("RGB", (7, 5), (200, 100, 50)).save(tmp_path / "photo.png")
    up = enlca.Upscaler(tiny_model, scale=4)
    up(tmp_path / "photo.png").save(tmp_path / "photo_x4.png")
    with Image.open(tmp_path / "photo_x4.png") as made:
        assert made.size == (28, 20)
    assert enlca.load(tiny_model)(torch.rand(1, 3, 5, 7)).shape == (1, 3, 20, 28)
    block = enlca.NonLocalBlock(channels=64, attend="linear", amplification=6.0, n_features=128)
    features = torch.rand(1, 64, 5, 7)
    assert block(features).shape == features.shape
