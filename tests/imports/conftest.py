"""`astraios import` in an empty folder."""

import pytest

from astraios_analysis.cli.main import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run `astraios import ... --out o`: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["import", *map(str, arguments), "--out", "o"])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run an import that must fail and write nothing, and return its complaint."""

    def refused(*arguments):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        code, out, err = run(*arguments)
        assert code and out == ""
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return err

    return refused
