import json

import pytest

from astraios_analysis.render import render as manifest


@pytest.fixture
def project(tmp_path):
    """A folder of records, two notebooks and a figure of each."""
    for name, content in {
        "data/runs/a.json": "{}",
        "data/.hidden": "x",
        "notebooks/one.ipynb": "1",
        "notebooks/two.ipynb": "2",
        "figures/alpha.png": "A",
        "figures/alpha.csv": "a",
        "figures/alpha.beta.csv": "not of alpha",
        "figures/beta.csv": "b",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def update(project, *names, **parameters):
    """What `render` does around notebooks that run: keep what is still true, add what ran, and write."""
    figures, build = project / "figures", project / "build"
    notebooks = {path.stem: path for path in (project / "notebooks").iterdir()}
    outputs = {
        "one": manifest.figure_files(figures, ["alpha"]),
        "two": manifest.figure_files(figures, ["beta"]),
    }
    inputs = manifest.describe_inputs(project / "data")
    entries = manifest.true_entries(build, inputs, notebooks, outputs)
    for name in names:
        entries[name] = manifest.describe_notebook(notebooks[name], outputs[name], parameters)
    return json.loads(manifest.write_manifest(build, inputs, entries).read_text())


def test_contents(project):
    found = update(project, "one", "two", level=0.9)
    assert found["inputs"]["data"] == {"runs/a.json": manifest.file_hash(project / "data" / "runs" / "a.json")}
    assert {"render/render.py", "figures/__init__.py"} <= found["inputs"]["package"].keys()
    assert {"python", "numpy", "pandas", "matplotlib"} <= found["versions"].keys()
    assert found["notebooks"]["one"] == {
        # SHA-256 of "1", "A" and "a", from coreutils' sha256sum.
        "notebook": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        "outputs": {
            "alpha.csv": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
            "alpha.png": "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd",
        },
        "parameters": {"level": 0.9},
    }
    assert list(found["notebooks"]["two"]["outputs"]) == ["beta.csv"]


def test_same_inputs_give_the_same_bytes_without_paths(project):
    update(project, "one", "two", level=0.9, grid="released")
    path = project / "build" / manifest.MANIFEST
    first = path.read_bytes()
    path.unlink()
    update(project, "two", "one", grid="released", level=0.9)
    assert path.read_bytes() == first
    assert str(project) not in first.decode()


def test_entry_of_a_notebook_that_did_not_run_is_kept_while_it_is_true(project):
    before = update(project, "one", "two", level=0.9)
    assert update(project, "two", level=0.9) == before
    assert update(project, "two")["notebooks"]["one"] == before["notebooks"]["one"]


@pytest.mark.parametrize("changed", ["data/runs/b.json", "figures/alpha.csv", "notebooks/one.ipynb"])
def test_entry_that_is_no_longer_true_is_dropped(project, changed):
    update(project, "one", "two")
    (project / changed).write_text("changed")
    assert list(update(project, "two")["notebooks"]) == ["two"]


@pytest.mark.parametrize("broken", ["", "[]", '{"notebooks": 1}', '{"inputs":', "[" * 100_000])
def test_broken_manifest_is_replaced(project, broken):
    path = project / "build" / manifest.MANIFEST
    path.parent.mkdir()
    path.write_text(broken)
    assert manifest.read_manifest(path) is None
    assert list(update(project, "one")["notebooks"]) == ["one"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = manifest.write_text(tmp_path / "page", "old")
    with pytest.raises(UnicodeEncodeError):
        manifest.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
