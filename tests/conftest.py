"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test pictures: $ENLCA_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("ENLCA_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "test").is_dir():
        pytest.skip(f"no test pictures at {folder}; set ENLCA_DATA to the folder that holds test/Set5")
    return folder
