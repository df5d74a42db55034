"""Compare the CSV twins of two folders of figures: measured columns exactly, fitted ones to 1e-4 relative.

``python .ci/twins.py COMMITTED NEW`` prints what differs and then ends with status 1.
"""

import sys
from pathlib import Path

import pandas as pd
from pandas.testing import assert_frame_equal

from astraios_analysis.figures.gallery import find_spec

# Fits and resampling go through linear algebra, which differs in the last digits between machines.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}


def compare(committed: Path, new: Path) -> None:
    """Raise an AssertionError or a ValueError where two tables differ by more than they may."""
    named = find_spec(new.stem)
    # As text nothing is guessed, so nothing is lost before it is compared.
    tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in (committed, new)]
    fitted = [name for name in tables[0] if named and name in named[0].fitted_columns]
    assert_frame_equal(*(table.drop(columns=fitted) for table in tables))
    assert_frame_equal(*(table[fitted].apply(pd.to_numeric) for table in tables), check_dtype=False, **TOLERANCE)


def differences(committed: Path, new: Path) -> list[str]:
    """Return what differs between the tables of two folders, one text a file."""
    files = [{path.name for path in folder.glob("*.csv")} for folder in (committed, new)]
    found = [f"{name} is in one folder only" for name in sorted(files[0] ^ files[1])]
    for name in sorted(files[0] & files[1]):
        try:
            compare(committed / name, new / name)
        except (AssertionError, ValueError, KeyError) as error:
            found.append(f"{name}: {error}")
    return found if any(files) else ["there is no CSV file to compare"]


if __name__ == "__main__":
    found = differences(*map(Path, sys.argv[1:]))
    print("\n".join(found) or "all CSV twins agree")
    sys.exit(1 if found else 0)
