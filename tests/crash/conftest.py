import pytest

from crash.nursery import Nursery


@pytest.fixture(scope="session")
def nursery():
    """Processes that are born quickly, from one that has imported what they need."""
    nursery = Nursery()
    yield nursery
    nursery.close()
