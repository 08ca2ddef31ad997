"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data, read-only: named by WINNOW_SHARED, else beside the checkout."""
    beside = Path(__file__).parents[2] / "shared"
    place = Path(os.environ.get("WINNOW_SHARED", beside))
    if not place.is_dir():
        pytest.skip(f"needs the shared data: {place} is no folder, set WINNOW_SHARED")
    return place
