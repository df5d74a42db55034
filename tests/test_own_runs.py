"""Somebody's own methods and data sets, with losses only or with scores only, through everything that there is."""

import json
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib import pyplot
from matplotlib.figure import Figure

import astraios_analysis as aa
from astraios_analysis.cli.main import main
from astraios_analysis.figures.gallery import FIGURES, Tables, draw
from astraios_analysis.records.frame import load_folder
from astraios_analysis.records.registry import _CHOSEN, _DECLARED, METRICS, find_dataset
from astraios_analysis.records.sources import PerGrid
from astraios_analysis.render.findings import choose_method

SIZES = (20e6, 60e6, 180e6, 540e6, 1.6e9)
METHODS = {"dora": 300, "qlora": 330, "prefix tuning": 500, "LoRA+": 310}
NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "own_data.ipynb"
IMPORTS = {"losses": "--loss-unit nats"}
IMPORTS["scores"] = "--score gsm8k gsm8k accuracy --score ppl wiki perplexity --n-items 1319"


def make_tables(folder):
    """Write a table of losses and one of scores, drawn from known laws."""
    rng = np.random.default_rng(0)
    columns = {"losses": "val_loss", "scores": "gsm8k,ppl"}
    lines = {name: [f"method,n_params_base,n_params_updated,{values}"] for name, values in columns.items()}
    for method, amplitude in METHODS.items():
        for size in SIZES:
            loss = (1.6 + amplitude * size**-0.32) * np.exp(rng.normal(0, 0.005))
            share = 1 / (1 + np.exp(-(0.6 * np.log(size / 540e6) - amplitude / 400)))
            start = f"{method},{size:.0f},{size / 100:.0f}"
            lines["losses"].append(f"{start},{loss:.4f}")
            lines["scores"].append(f"{start},{rng.binomial(1319, share) / 1319:.6f},{np.exp(loss):.3f}")
    for name, rows in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module", params=["losses", "scores"])
def own(request, tmp_path_factory):
    """A folder of records of one kind, its name, and the table that they came from."""
    folder = tmp_path_factory.mktemp(request.param)
    make_tables(folder)
    table, records = folder / f"{request.param}.csv", folder / "records"
    command = ["import", "csv", str(table), "--grid", "own", "--out", str(records)]
    assert main([*command, *IMPORTS[request.param].split()]) == 0
    return records, request.param, table


@pytest.fixture
def clean():
    """Forget what a test declared."""
    known = dict(METRICS)
    yield
    _DECLARED.clear()
    _CHOSEN.clear()
    METRICS.clear()
    METRICS.update(known)


OUTCOMES = {"losses": ["val_loss"], "scores": ["gsm8k", "wiki"]}


COMMANDS = ("predict --size 7b", "rank --size 7b", "compare dora prefix_tuning", "backtest", "records show --runs")


@pytest.mark.parametrize("command", [*COMMANDS, "plan --size 7b --cost n_params_updated"])
def test_every_command_answers(own, capsys, command):
    records, kind, _ = own
    of_all = command.startswith(("records", "backtest"))
    names = [] if of_all else [word for name in OUTCOMES[kind] for word in ("--dataset", name)]
    assert main([*command.split(), *names, "--data", str(records)]) == 0
    shown = capsys.readouterr().out
    # A plan names runs to make, and models that no other beats.
    assert "prefix_tuning" in shown or command.startswith(("backtest", "plan"))
    assert command.startswith("records") or all(name in shown for name in OUTCOMES[kind])


def test_claims_say_why_there_are_none(own, capsys):
    assert main(["claims", "--data", str(own[0])]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_best_method_is_the_one_of_the_law(own):
    runs = load_folder(own[0])
    for name in OUTCOMES[own[1]]:
        best = aa.rank(runs, "7b", name).best
        assert best["p_best"].sum() == pytest.approx(1) and best["method"].iloc[0] in ("dora", "LoRA+")
        regret = aa.rank(runs, dataset=name).decisions["regret"]
        assert (regret >= 0).all()


def test_every_figure_is_drawn_or_says_why_not(own, tmp_path, draw_once):
    runs = load_folder(own[0])
    tables, drawn, lacking = PerGrid({"own": Tables(runs)}), [], {}
    for name in FIGURES:
        found = draw(name, tables, tmp_path)
        drawn += list(found.tables) and [name]
        lacking |= {f"{name} {grid}": reason for grid, reason in found.lacking.items()}
        pyplot.close("all")
    expected = {"small_model_choices", "cost_performance", "best_method"}
    assert expected <= set(drawn)
    assert ("cross_entropy" if own[1] == "losses" else "score_scaling") in drawn
    assert all(reason and "Traceback" not in reason for reason in lacking.values())
    choice = choose_method(tmp_path, "own", 1)
    assert choice.methods == ("LoRA+", "dora", "prefix_tuning", "qlora") and len(choice.rows) == len(OUTCOMES[own[1]])
    assert any("expected to" in sentence for sentence in choice.supported)


def test_the_notebook_of_ones_own_table(own):
    """Run here and not in a kernel, which would take as long again."""
    _, kind, table = own
    told = {"table": str(table), "x": "n_params_base", "y": "val_loss" if kind == "losses" else "gsm8k"}
    told |= {"group": "method", "size": ["3b"], "rate": kind == "scores", "n_items": None if kind == "losses" else 1319}
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    first, *others = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shell = InteractiveShell()
    shell.run_cell(first).raise_error()
    shell.push(told)
    shown = []
    for source in others:
        done = shell.run_cell(source)
        done.raise_error()
        shown.append(done.result)
    assert sum(isinstance(one, Figure) for one in shown) == 2
    assert "prefix tuning" in repr(shown)


def test_a_metric_of_ones_own(tmp_path, make_record, make_score, clean, capsys):
    with pytest.raises(aa.Refusal, match=r"unknown metric 'elo'; choose from .*or declare it with range"):
        aa.declare("arena", "elo")
    declared = '[arena]\nmetric = "elo"\nrange = [0, 3000]\nhigher_is_better = true\nchance = 1000\nn_items = 50\n'
    (tmp_path / "datasets.toml").write_text(declared)
    aa.declare("arena", "elo", range=(0, 3000), higher_is_better=True)
    score = {"dataset": "arena", "language": "text", "setting": "default", "metric": "elo", "n_items": 50}
    for place, method in enumerate(("a", "b")):
        for size in (1000, 4000):
            one = aa.Score(**score, value=1200.0 + size / 10 + 50 * place, stderr=20.0, source="measured")
            fields = {"run_id": f"{method}-{size}", "method": method, "n_params_base": size, "n_params": size}
            record = make_record(**fields, n_params_base_nonembedding=None, n_params_updated=10, size=str(size))
            record = record.model_copy(update={"scores": (one,)})
            (tmp_path / f"{record.run_id}.json").write_text(record.model_dump_json(exclude_none=True))
    _DECLARED.clear()
    METRICS.pop("elo")
    assert main(["rank", "--dataset", "arena", "--data", str(tmp_path), "--json"]) == 0
    ranks = json.loads(capsys.readouterr().out)["ranks"]
    assert [(row["method"], row["value"]) for row in ranks if row["rank"] == 1] == [("b", 1350.0), ("b", 1650.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x]\nmetric = 3\n", r"\[x\]: metric is 3"),
        ("x = 3\n", r"\[x\]: is 3; write a table"),
        ("[x]\nmetrc = 'accuracy'\n", "metrc is nothing that is declared; choose from metric, setting"),
        ("[x]\nmetric = 'accuracy'\nchance = 2\n", r"chance 2 is outside \[0, 1\]"),
        ("[x]\nmetric = 'accuracy'\nhigher_is_better = false\n", "accuracy is known with range"),
        ("[x]\nmetric = 'parse_error'\nrange = [1, 0]\nhigher_is_better = true\n", "range 1 to 0 is none"),
        ("[humanevalfix_java]\nmetric = 'accuracy'\n", "one of the toolkit's own"),
        ("[x\n", "is not TOML"),
    ],
)
def test_declarations_that_are_wrong_are_named(tmp_path, text, message, clean):
    (tmp_path / "datasets.toml").write_text(text)
    with pytest.raises(aa.Refusal, match=rf"(?s)datasets\.toml: .*{message}"):
        aa.load(tmp_path)


def test_measure_of_an_option_goes_before_what_most_runs_have(own, capsys, clean):
    if own[1] == "losses":
        pytest.skip("losses have one measure")
    aa.grids(own[0], metrics={"gsm8k": "accuracy,default"})
    assert find_dataset("gsm8k").primary_metric == "accuracy"
    options = ["--data", str(own[0]), "--dataset", "gsm8k"]
    assert main(["rank", *options, "--metric", "gsm8k=accuracy,default"]) == 0
    assert main(["rank", *options, "--metric", "gsm8k=pass@1"]) == 2
    assert "gsm8k has no score that stands for it" in capsys.readouterr().err
    assert main(["rank", *options, "--metric", "gsm8k=acuracy"]) == 2
    assert "unknown metric 'acuracy'; choose from" in capsys.readouterr().err
