import json
from hashlib import sha256
from pathlib import Path

import pytest
from notebook_files import write_notebook

from astraios_analysis.figures.gallery import FIGURES
from astraios_analysis.figures.spec import FigureSpec
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.render import render
from astraios_analysis.render.render import NOTEBOOKS, find_notebooks, notebook_parameters, order_notebooks

ROOT = Path(__file__).parents[2]
DRAW = """from pathlib import Path
for kind in ("csv", "png"):
    Path(figures_dir, f"{name}.{kind}").write_text(f"{name}, {level}, {Path(data_dir).name}")"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Notebooks that draw a figure each, records, and where the results go: the first arguments of `render`."""
    for name in ("alpha", "beta"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", f'name = "{name}"\n{DRAW}')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text("{}")
    (tmp_path / "data" / ".hidden").write_text("x")
    specs = [FigureSpec(name, name.title(), name, f"Shows {name}.") for name in ("beta", "alpha")]
    monkeypatch.setattr(render, "FIGURES", {spec.name: spec for spec in specs})
    return [tmp_path / name for name in ("notebooks", "data", "figures", "build")]


@pytest.fixture
def nothing_runs(monkeypatch):
    """Make a run an error of its own."""
    monkeypatch.setattr(render, "run_jobs", lambda *args, **kwargs: pytest.fail("notebooks were run"))


def refused(folders, message, **options):
    """Check that a rendering is refused before it makes anything."""
    with pytest.raises(Refusal) as caught:
        render.render(*folders, progress=False, **options)
    assert str(caught.value) == message
    assert not folders[2].exists()
    assert not folders[3].exists()


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("parameters", "only", "message"),
    [
        ({"levle": 0.9}, None, "unknown parameter 'levle' for notebooks alpha, beta; choose from grid, level"),
        ({"levle": 0.9}, ["beta"], "unknown parameter 'levle' for notebook beta; choose from grid, level"),
        (
            {"data_dir": 1},
            None,
            "parameter 'data_dir' is set by the argument of that name; leave it out of the parameters",
        ),
        ({}, ["alpha", "gamma"], "unknown notebook 'gamma'; choose from alpha, beta"),
    ],
)
def test_wrong_choices_are_refused_before_anything_runs(folders, parameters, only, message):
    refused(folders, message, parameters=parameters, only=only)


@pytest.mark.usefixtures("nothing_runs")
def test_wrong_notebooks_are_refused_before_anything_runs(folders):
    notebooks = folders[0]
    write_notebook(notebooks / "beta.ipynb", parameters='data_dir = "x"\nlevel = 1')
    refused(folders, "notebook beta has no parameter 'figures_dir'; add it to its parameters cell")
    write_notebook(notebooks / "beta.ipynb", tags=())
    refused(folders, "notebook beta has no cell tagged 'parameters'; add one that sets its defaults")
    write_notebook(notebooks / "beta.ipynb", parameters="level = ")
    with pytest.raises(Refusal, match="the parameters cell of notebook beta is not Python"):
        render.render(*folders)
    (notebooks / "beta.ipynb").write_text("{")
    with pytest.raises(Refusal, match=r"beta\.ipynb cannot be read as a notebook"):
        render.render(*folders)
    with pytest.raises(Refusal, match=r"no notebook \(\*\.ipynb\) in .*nowhere"):
        render.render(notebooks / "nowhere", *folders[1:])


def test_parameters_are_the_names_assigned(tmp_path):
    cell = '# Comment with x = 1\nlevel: float = 0.95\ngrid = (\n    "released"\n)\na = b = 2\ntable["c"] = 3\nprint(4)'
    assert notebook_parameters(write_notebook(tmp_path / "n.ipynb", parameters=cell)) == ["a", "b", "grid", "level"]


def test_notebooks_have_an_order_and_unknown_ones_follow():
    ordered = order_notebooks(["zoo", "scale_transfer", "ant", "model_suite", "zoo"])
    assert ordered == ["model_suite", "scale_transfer", "ant", "zoo"]


def test_the_notebooks_of_the_project_are_ordered_and_take_what_is_passed():
    found, drawing = find_notebooks(ROOT / "notebooks"), {spec.notebook for spec in FIGURES.values()}
    assert list(found)[: len(NOTEBOOKS)] == list(NOTEBOOKS) and drawing <= found.keys()
    for name, path in found.items():
        names = set(notebook_parameters(path))
        assert {"data_dir", "figures_dir", "grid"} <= names or name not in drawing
        assert ("level" in names) == ("level=level" in path.read_text("utf-8"))


def test_rendering_runs_notebooks_and_says_what_was_made_from_what(folders, capsys):
    _, _, figures, build = folders
    first = render.render(*folders, parameters={"level": 0.5}, jobs=2)
    assert first.notebooks == ("alpha", "beta")
    assert [path.name for path in first.outputs] == ["alpha.csv", "alpha.png", "beta.csv", "beta.png"]
    assert first.seconds > 0
    assert (figures / "beta.csv").read_text() == "beta, 0.5, data"
    assert sorted(path.name for path in (build / "notebooks").iterdir()) == ["alpha.ipynb", "beta.ipynb"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2/2" in shown.err.splitlines()[-1].split("\r")[-1]

    manifest = (build / "manifest.json").read_bytes()
    assert str(build).encode() not in manifest
    known = json.loads(manifest)
    assert known["inputs"]["data"] == {"a.json": sha256(b"{}").hexdigest()}
    assert {"render/render.py", "figures/__init__.py"} <= known["inputs"]["package"].keys()
    assert {"python", "numpy", "pandas", "matplotlib"} <= known["versions"].keys()
    entry = known["notebooks"]["beta"]
    assert entry["parameters"] == {"level": 0.5} and list(entry["outputs"]) == ["beta.csv", "beta.png"]
    assert entry["outputs"]["beta.csv"] == sha256(b"beta, 0.5, data").hexdigest()


class Runs:
    """In place of processes and kernels: each notebook's figure is written, and who ran is noted.

    Notebooks named in `failing` fail; before that in `interrupting` runs, the user presses Ctrl-C.
    """

    def __init__(self):
        self.names, self.parameters, self.failing, self.interrupting = [], [], {}, None

    def __call__(self, jobs, *, n_parallel, on_end):
        outcomes = {}
        for job in jobs:
            if job.name == self.interrupting:
                raise KeyboardInterrupt
            self.names.append(job.name)
            self.parameters.append(dict(job.parameters))
            failure = outcomes[job.name] = self.failing.get(job.name)
            job.target.write_text("{}")
            if failure is None:
                words = f"{job.name}, {job.parameters.get('level')}, {job.source.read_text()}"
                Path(job.parameters["figures_dir"], f"{job.name}.png").write_text(words)
            on_end(job, failure)
        return outcomes

    def take(self):
        """Names of those that ran since the last call."""
        names, self.names = self.names, []
        return names


@pytest.fixture
def runs(monkeypatch):
    runs = Runs()
    monkeypatch.setattr(render, "run_jobs", runs)
    return runs


def test_failures_are_raised_together_and_the_others_are_written_down(folders, runs):
    write_notebook(folders[0] / "gamma.ipynb")
    runs.failing = {"alpha": "notebook 'alpha', cell 2 failed:\n...", "beta": "notebook 'beta', cell 3 failed:\n..."}
    with pytest.raises(render.NotebookError) as caught:
        render.render(*folders, parameters={"level": 0.5}, progress=False)
    assert str(caught.value) == "notebook 'alpha', cell 2 failed:\n...\n\nnotebook 'beta', cell 3 failed:\n..."
    assert list(json.loads((folders[3] / "manifest.json").read_text())["notebooks"]) == ["gamma"]
    passed = {"level": 0.5, "data_dir": str(folders[1]), "figures_dir": str(folders[2])}
    assert runs.parameters == [passed] * 3
    runs.take()
    runs.failing = {}
    assert render.render(*folders, parameters={"level": 0.5}, progress=False).ran == ("alpha", "beta")
    assert runs.take() == ["alpha", "beta"]


def render_all(folders, runs, **options):
    result = render.render(*folders, progress=False, **options)
    assert result.notebooks == (("alpha", "beta") if "only" not in options else tuple(options["only"]))
    assert list(result.ran) == runs.take()
    return list(result.ran)


def snapshot(folder):
    """Bytes and times of all files below a folder."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_nothing_runs_when_nothing_changed(folders, runs):
    assert render_all(folders, runs) == ["alpha", "beta"]
    before, manifest = snapshot(folders[2]), (folders[3] / "manifest.json").read_bytes()
    assert render_all(folders, runs) == []
    assert snapshot(folders[2]) == before
    assert render_all(folders, runs, force=True) == ["alpha", "beta"]
    one, other = ({path: content for path, (content, _) in found.items()} for found in (snapshot(folders[2]), before))
    assert one == other
    assert (folders[3] / "manifest.json").read_bytes() == manifest


def edit(path):
    """Append a space: what a notebook means stays, its bytes do not."""
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        ("notebooks/beta.ipynb", edit, ["beta"]),
        ("data/a.json", edit, ["alpha", "beta"]),
        ("data/b.json", Path.touch, ["alpha", "beta"]),
        ("figures/alpha.png", edit, ["alpha"]),
        ("figures/beta.png", Path.unlink, ["beta"]),
        ("figures/beta.csv", Path.touch, ["beta"]),
        ("build/notebooks/alpha.ipynb", Path.unlink, ["alpha"]),
        *(("build/manifest.json", text, ["alpha", "beta"]) for text in ("{", "[]", '{"notebooks": 1}', "[" * 100_000)),
        ("figures/zeta.png", "no figure of ours", []),
        ("figures/alpha.beta.csv", "not of alpha", []),
    ],
)
def test_only_what_changed_runs_again(folders, runs, path, change, expected):
    render_all(folders, runs)
    place = folders[0].parent / path
    change(place) if callable(change) else place.write_text(change)
    assert render_all(folders, runs) == expected
    assert render_all(folders, runs) == []


def test_package_and_versions_count(folders, runs, monkeypatch):
    render_all(folders, runs)
    known = render.describe_inputs(folders[1])
    for key, value in (("versions", {"numpy": "0"}), ("inputs", known["inputs"] | {"package": {"fits.py": "0"}})):
        monkeypatch.setattr(render, "describe_inputs", lambda _, new=known | {key: value}: new)
        assert render_all(folders, runs) == ["alpha", "beta"]
        assert render_all(folders, runs) == []


def test_parameters_count_where_the_notebook_has_them(folders, runs):
    write_notebook(folders[0] / "beta.ipynb", parameters='data_dir = "x"\nfigures_dir = "y"')
    render_all(folders, runs)
    assert render_all(folders, runs, parameters={"level": 0.5}) == ["alpha"]
    assert render_all(folders, runs, parameters={"level": 0.5}) == []
    assert render_all(folders, runs) == ["alpha"]


def test_records_elsewhere_with_the_same_content_are_the_same(folders, runs):
    render_all(folders, runs)
    moved = folders[1].rename(folders[1].with_name("moved"))
    assert render_all([folders[0], moved, *folders[2:]], runs) == []


def test_only_some_leaves_the_others_to_the_next_run(folders, runs):
    assert render_all(folders, runs, only=["beta"]) == ["beta"]
    assert render_all(folders, runs) == ["alpha"]
    edit(folders[1] / "a.json")
    assert render_all(folders, runs, only=["beta"]) == ["beta"]
    assert render_all(folders, runs, only=["beta"]) == []
    assert render_all(folders, runs) == ["alpha"]


def test_interrupted_run_goes_on_with_what_is_missing(folders, runs):
    render_all(folders, runs)
    runs.interrupting = "beta"
    with pytest.raises(KeyboardInterrupt):
        render.render(*folders, force=True, progress=False)
    assert runs.take() == ["alpha"]
    runs.interrupting = None
    # beta's figure of the first run is there and right, but its last run did not come to its end.
    assert render_all(folders, runs) == ["beta"]


def test_notebook_edited_while_it_runs_runs_again(folders, runs, monkeypatch):
    def edits(jobs, **options):
        outcomes = runs(jobs[:1], **options)
        edit(folders[0] / "beta.ipynb")
        return outcomes | runs(jobs[1:], **options)

    monkeypatch.setattr(render, "run_jobs", edits)
    render.render(*folders, progress=False)
    runs.take()
    monkeypatch.setattr(render, "run_jobs", runs)
    assert render_all(folders, runs) == ["beta"]


@pytest.mark.parametrize(("jobs", "expected"), [(None, 2), (1, 1), (8, 2)])
def test_no_more_processes_than_notebooks(folders, monkeypatch, jobs, expected):
    monkeypatch.setattr(render, "_processors", lambda: 4)
    used = []
    monkeypatch.setattr(render, "run_jobs", lambda jobs, *, n_parallel, **_: used.append(n_parallel) or {})
    render.render(*folders, jobs=jobs, progress=False)
    assert used == [expected]
