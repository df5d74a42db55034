"""`python -m training` in this process: a small grid, and commands that are refused."""

import pytest
import tiny_grid as TINY

from training.__main__ import main
from training.spec.grids import PRESETS


@pytest.fixture
def tiny(monkeypatch):
    """A grid of four small runs under the preset `tiny`, whose workers are forked."""
    TINY.fork_workers(monkeypatch)
    grid = TINY.tiny_grid()
    monkeypatch.setitem(PRESETS, "tiny", lambda: grid)
    return grid


@pytest.fixture
def refused(capsys):
    """Run a command that must end with code 2 and nothing on standard output: what it says."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        assert (exit_.value.code, captured.out) == (2, "")
        return captured.err

    return refused
