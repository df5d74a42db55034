"""`astraios figures` on a user's own records: where results go, what a failure leaves, and that few records suffice."""

import json
from pathlib import Path

import pytest
from matplotlib import pyplot
from simulated_grids import SIZES, simulate

from astraios_analysis.cli.figures import choose_outputs
from astraios_analysis.cli.main import main
from astraios_analysis.figures.gallery import FIGURES, Gallery
from astraios_analysis.figures.spec import figure_stem
from astraios_analysis.records import registry
from astraios_analysis.records.frame import ValidationPoint, save

ROOT = Path(__file__).parents[2]


def test_own_records_go_to_a_place_of_their_own():
    own, there = Path("my/runs"), Path("there")
    assert choose_outputs(None, None, None) == (Path("figures"), Path("build"))
    assert choose_outputs(own, None, None) == (Path("build/records-runs/figures"), Path("build/records-runs"))
    assert choose_outputs(own, None, there) == (there / "figures", there)
    assert choose_outputs(own, there, None)[0] == there


def test_failing_notebook_is_named_and_the_report_is_written_all_the_same(capsys, tmp_path, make_record):
    source = ROOT / "notebooks" / "model_suite.ipynb"
    notebook = json.loads(source.read_text("utf-8"))
    notebook["cells"][-1]["source"] = "drawn.no_such_thing"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "model_suite.ipynb").write_text(json.dumps(notebook))
    save(make_record(), tmp_path / "mine")
    places = ["--build", tmp_path / "build", "--records", tmp_path / "mine", "--notebooks", tmp_path / "notebooks"]
    assert main(["figures", "--quiet", *map(str, places)]) == 1
    out, complaint = capsys.readouterr()
    assert out == ""
    assert "notebook 'model_suite':\n" in complaint and "drawn.no_such_thing" in complaint
    assert "all other notebooks have their figures; the next run goes on with what is missing" in complaint
    assert "were made earlier" in (tmp_path / "build" / "report.html").read_text("utf-8")
    assert (tmp_path / "build" / "figures" / "updated_parameters.png").exists()


@pytest.mark.parametrize("name", ["model_suite", "cross_entropy", "loss_performance", "predictions"])
def test_six_records_fill_a_notebook_or_it_says_what_they_lack(name, tmp_path, draw_once):
    """Run here and not in a kernel, which would take as long again for each."""
    curve = tuple(ValidationPoint(step=step, loss=loss) for step, loss in ((0, 3.25), (10, 2.5)))
    told = {"grid": "ours", "base_val_loss": 3.25, "val_curve": curve}
    for record in simulate(sizes=SIZES[:2], methods=("fft", "lora", "ia3"), seeds=(0,), n_problems=4, **told):
        save(record, tmp_path / "data")
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    values, galleries = {}, {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), values)
            values |= {"data_dir": str(tmp_path / "data"), "figures_dir": str(tmp_path)}
            if isinstance(drawn := values.get("drawn"), Gallery):
                galleries[drawn.name] = drawn
    pyplot.close("all")
    assert galleries.keys() == {figure for figure, spec in FIGURES.items() if spec.notebook == name}
    for figure, drawn in galleries.items():
        assert [*drawn.pictures, *drawn.lacking] == ["ours"]
        assert all(len(reason) > 20 for reason in drawn.lacking.values())
        assert (tmp_path / f"{figure_stem(figure, 'ours')}.png").is_file() == bool(drawn.pictures)
        for table in drawn.tables.values():
            # A sentence, or nothing where the table has too little for one.
            assert (FIGURES[figure].say(table) or "nothing.").endswith(".")


def test_unwritable_place_is_named(refusal, tmp_path):
    (tmp_path / "taken").write_text("")
    complaint = refusal("figures", "--only", "model_suite", "--out", tmp_path / "taken", "--quiet", code=1)
    assert "taken: cannot be read or written (File exists)" in complaint


def test_figures_and_report_of_the_grid_that_is_named(run, refusal, tmp_path, make_record, monkeypatch):
    monkeypatch.setattr(registry, "_CHOSEN", {})
    for grid in ("mini", "maxi"):
        save(make_record(run_id=grid, grid=grid), tmp_path / "data")
    figures, build = tmp_path / "figures", tmp_path / "build"
    command = ["figures", "--only", "model_suite", "--quiet", "--out", figures, "--build", build]
    code, out, err = run(*command, "-p", "grid=maxi", "--metric", "gsm8k=accuracy", data=tmp_path / "data")
    assert (code, out) == (0, "")
    entry = json.loads((build / "manifest.json").read_text())["notebooks"]["model_suite"]
    assert entry["parameters"] == {"grid": "maxi", "metrics": {"gsm8k": "accuracy"}}
    report = build / "report.html"
    assert err.splitlines()[-1].startswith(f"1 of 1 notebook run: 3 files in {figures}, report in {report} (")
    assert sorted(path.name for path in figures.iterdir()) == [f"updated_parameters.{x}" for x in ("csv", "pdf", "png")]
    assert "1 run: sizes 1b; methods LoRA" in report.read_text("utf-8")
    drawn = (figures / "updated_parameters.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in drawn] == ["grid", "maxi"]
    complaint = refusal(*command, "-p", "grid=midi", data=tmp_path / "data")
    assert "unknown grid 'midi'; choose from all, maxi, mini" in complaint
