"""The scores of the released models as one table."""

import pytest

from astraios_analysis.records.frame import to_frame


@pytest.fixture(scope="session")
def table(released_records):
    """All scores of the released models, each beside its model's name."""
    frame = to_frame(released_records)
    return frame.assign(model=frame["size"] + "-" + frame["method"])
