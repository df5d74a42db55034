"""Small problems of every kind, with answers that pass and answers that fail."""

import pytest
import tiny_problems


@pytest.fixture(scope="session")
def tiny():
    """Return the module of small problems."""
    return tiny_problems
