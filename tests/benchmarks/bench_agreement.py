"""Every published file of generations, scored: each problem's count against the released one."""

import os
from pathlib import Path

import agreement as AGREEMENT
import pytest

FOLDER = Path(os.environ.get("ASTRAIOS_REFERENCE", "."))

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", AGREEMENT.published_files(FOLDER))
def test_counts_are_the_released_ones(name, tmp_path):
    found = AGREEMENT.compare(FOLDER, name, tmp_path)
    n_differing = sum(map(len, found.differing.values()))
    print(
        f"\n{name}: {found.n_samples} samples, {found.n_distinct} distinct programs, {found.seconds:.0f} s, "
        f"{len(found.settings)} settings, {n_differing} problems differ {found.differing or ''}"
    )
    assert found.differing == {}
