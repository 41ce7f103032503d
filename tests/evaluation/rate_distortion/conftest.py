"""Two small photographs."""

import pytest

from tests.photographs import two_crops


@pytest.fixture(scope="session")
def photographs():
    return two_crops()
