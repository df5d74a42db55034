"""Ranks and predictions at the command line, with one grid and several, one seed and several."""

import functools
import json

import pytest

from astraios_analysis.cli.main import main
from astraios_analysis.cli.records import describe_records
from astraios_analysis.records import frame as records
from astraios_analysis.records import released, sources
from astraios_analysis.records.frame import ProblemCounts, Score
from astraios_analysis.records.schema import METHODS

KEYS = ["size", "n_params", "method", "quantity", "value", "intervals", "reach", "weights"]
PREDICT = ["predict", "--method", "lora", "--size", "34b"]


load_once = functools.cache(released.load_released)


@pytest.fixture(autouse=True)
def read_tables_once(monkeypatch):
    """Read the released tables, which never change here, once and not for every command."""
    monkeypatch.setattr(sources, "load_released", load_once)


@pytest.fixture
def run(capsys, released_data):
    """Run the command, on the released data unless told otherwise: (exit code, standard output, standard error)."""

    def run(*arguments, data=released_data):
        capsys.readouterr()
        code = main([*map(str, arguments), "--data", str(data)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def refusal(run):
    """Run a command that must end with code 2 and nothing on standard output: what it says."""

    def refusal(*arguments, **options):
        code, out, err = run(*arguments, **options)
        assert (code, out) == (2, "")
        return err.strip()

    return refusal


@pytest.fixture
def as_json(run):
    """Run a command with --json: (what it printed, standard error)."""

    def as_json(*arguments, **options):
        code, out, err = run(*arguments, "--json", **options)
        assert code == 0
        return json.loads(out, parse_constant=pytest.fail), err

    return as_json


def own_score(place, step, dataset="humanevalsynthesize_python", **changes):
    """A score on 30 problems of 20 samples that grows with the place of the method and the step of the size."""
    passed = tuple((3 * problem + 2 * place + 4 * step) % 21 * (problem < 12 + 5 * step) for problem in range(30))
    problems = ProblemCounts(problem_ids=tuple(range(30)), n_samples=(20,) * 30, n_passed=passed)
    known = {"language": "python", "setting": "t0.2,n20", "metric": "pass@1", "source": "measured", "n_items": 30}
    return Score(**({"dataset": dataset, "value": sum(passed) / 600, "problems": problems} | known | changes))


@pytest.fixture
def own_grid(make_record, tmp_path):
    """Write a grid of our own into a folder: methods at sizes with seeds, or without scores."""

    def write(
        methods=METHODS[:5], sizes=(300_000, 10**6, 10**7, 30_000_000), seeds=(0,), scored=lambda *_: True, **changes
    ):
        for step, n_params in enumerate(sizes):
            for place, method in enumerate(methods):
                for seed in seeds:
                    name = {"run_id": f"own-{n_params}-{method}-s{seed}", "grid": "own", "size": f"{n_params / 1e6:g}m"}
                    counts = {"n_params": n_params + 99, "n_params_base": n_params, "n_params_base_nonembedding": 9}
                    scores = (own_score(place, step),) if scored(method, n_params) else ()
                    fields = {"method": method, "seed": seed, "n_params_updated": 99, "scores": scores}
                    fields |= {"val_loss": None, "val_loss_se": None}
                    records.save(make_record(**(name | counts | fields | changes)), tmp_path / "runs")
        return tmp_path

    return write


@pytest.fixture
def two_grids(own_grid, tmp_path, released_folder):
    """The released models beside a grid of our own."""
    (tmp_path / "released").symlink_to(released_folder)
    return own_grid()


class TestRank:
    def test_all_data_sets(self, run):
        code, out, err = run("rank")
        assert code == 0 and "nan" not in out
        out, decisions = out.split("\nChoosing by a smaller size")
        ranks, transfer = out.split("\nOrder of methods at a smaller size against the largest\n")
        assert "pair_accuracy" in decisions
        assert "p_best" in ranks and "p_value" in transfer
        assert all(name in part for name in ("clone_detection", "recode_syntax") for part in (ranks, transfer))
        assert "95 % percentile intervals over problems" in err

    def test_json(self, as_json):
        found, _ = as_json("rank", "--dataset", "humanevalsynthesize_java", "--dataset", "recode_format")
        assert list(found) == ["ranks", "transfer", "decisions"]
        assert {row["rule"] for row in found["decisions"]} == {
            "best at the smaller size",
            "predicted from sizes up to it",
        }
        assert {row["dataset"] for row in found["ranks"]} == {"humanevalsynthesize_java", "recode_format"}
        best = [row for row in found["ranks"] if row["dataset"] == "recode_format" and row["size"] == "16b"]
        assert best[0]["rank"] == 1 and sum(row["p_best"] for row in best) == pytest.approx(1)
        assert {row["size_large"] for row in found["transfer"]} == {"7b", "16b"}
        assert all(-1 <= row["lower"] <= row["upper"] <= 1 and 0 < row["p_value"] <= 1 for row in found["transfer"])

    def test_level_and_seed(self, as_json):
        def widths(*options):
            rows = as_json("rank", "--dataset", "recode_format", *options)[0]["ranks"]
            return [row["upper"] - row["lower"] for row in rows], {row["level"] for row in rows}

        (wide, _), (narrow, level), (other, _) = widths(), widths("--level", "0.5"), widths("--seed", "7")
        assert level == {0.5} and all(a > b for a, b in zip(wide, narrow, strict=True))
        assert other != wide and other == pytest.approx(wide, abs=0.03)

    @pytest.mark.parametrize("name", ["mbpp", "aatk"])
    def test_unknown_data_set(self, refusal, name):
        assert refusal("rank", "--dataset", name).startswith(
            f"unknown data set {name!r}; choose from clone_detection, "
        )

    def test_data_set_without_scores(self, refusal):
        assert "no run has a primary score on recode_docstring; choose" in refusal(
            "rank", "--dataset", "recode_docstring"
        )

    def test_one_size_is_ranked_but_not_compared(self, as_json, own_grid):
        found, notes = as_json("rank", data=own_grid(sizes=(10**6,)))
        assert len(found["ranks"]) == 5 and found["transfer"] == []
        assert "no transfer: humanevalsynthesize_python: 1 size(s) have scores of 4 or more methods" in notes

    def test_no_scores_at_all(self, refusal, own_grid):
        assert "no run here has a primary score to rank by" in refusal("rank", data=own_grid(scored=lambda *_: False))


class TestPredict:
    def test_json_is_what_was_promised(self, as_json):
        found, notes = as_json(*PREDICT, "--dataset", "recode_format")
        assert isinstance(found, list) and [list(one) for one in found] == [KEYS]
        (one,) = found
        assert (one["size"], one["method"], one["quantity"]) == ("34b", "lora", "recode_format")
        assert one["n_params"] == 34_000_000_000 and isinstance(one["n_params"], int)
        assert one["reach"] == pytest.approx(34e9 / 15_517_456_384)
        assert {"logit_linear/shared_slope", "logit_linear/own_slopes"} <= set(one["weights"])
        assert sum(one["weights"].values()) == pytest.approx(1, abs=1e-5)
        intervals = {(i["level"], i["kind"]): i for i in one["intervals"]}
        assert set(intervals) == {(level, kind) for level in (0.5, 0.8, 0.95) for kind in ("mean", "observation")}
        for interval in intervals.values():
            assert list(interval) == ["level", "kind", "lower", "upper"]
            assert 0 <= interval["lower"] < one["value"] < interval["upper"] <= 1
        assert intervals[0.95, "mean"]["upper"] < intervals[0.95, "observation"]["upper"]
        assert "this is an extrapolation" in notes

    def test_the_back_test_and_the_weights_are_printed(self, run):
        code, out, _ = run(*PREDICT, "--dataset", "recode_format")
        (line,) = [line for line in out.splitlines() if line.startswith("recode_format")]
        assert code == 0 and "95 % PI" in out and line.split()[-2:] == ["4", "2.191"]
        assert "recode_format: 7 methods, mean error" in out and "laws: logit_linear/shared_slope" in out

    def test_what_cannot_be_back_tested_is_not_predicted(self, as_json, refusal):
        reason = "measured at 3 sizes; a back-test holds out the largest, and 2 leave no interval to check"
        assert f"humanevalfix_java: {reason}" in refusal(*PREDICT, "--dataset", "humanevalfix_java")
        found, notes = as_json("predict", "--method", "all", "--size", "34b")
        assert len(found) == 42 and len({(one["method"], one["quantity"]) for one in found}) == 42
        refused = "humanevalsynthesize_python, humanevalsynthesize_java, humanevalfix_python, humanevalfix_java"
        assert f"not predicted: {refused}: {reason}" in notes

    def test_repeats(self, as_json):
        options = [
            "--method",
            "ia3",
            "--dataset",
            "recode_format",
            "--dataset",
            "recode_syntax",
            "--dataset",
            "recode_format",
        ]
        assert len(as_json(*PREDICT, *options)[0]) == 4

    def test_measured_size_is_no_extrapolation(self, as_json):
        (one,), notes = as_json("predict", "--method", "lora", "--size", "7B", "--dataset", "recode_format")
        assert one["n_params"] == 7_327_263_232 and one["reach"] == 1.0 and notes == ""

    def test_too_far_is_refused_unless_forced(self, refusal, as_json):
        far = ["predict", "--method", "fft", "--size", "300b", "--dataset", "recode_syntax"]
        assert refusal(*far).endswith("the limit is 10 times. Add runs nearer to that size, or insist with --force")
        assert as_json(*far, "--force")[0][0]["reach"] == pytest.approx(19.33, abs=0.01)

    def test_all_methods_too_far(self, refusal):
        message = refusal("predict", "--method", "all", "--size", "3000b", "--dataset", "recode_format")
        assert message.startswith(
            "not predicted: recode_format: 3e+12 parameters lie 193.3 times beyond the fitted range"
        )

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (["--method", "qlora"], "unknown tuning method 'qlora'; choose from all, fft, lora, ptuning, ia3"),
            (
                ["--size", "huge"],
                "size 'huge' is not understood; give a measured size (1b, 3b, 7b, 16b), a number with",
            ),
            (["--size", "0b"], "size '0b' is not understood"),
            (["--grid", "mine"], "unknown grid 'mine'; choose from released"),
            (["--dataset", "mbpp"], "unknown data set 'mbpp'; choose from clone_detection"),
            (["--dataset", "aatk"], "aatk has no score to predict (parse rates are not security scores); choose from"),
            (
                ["--dataset", "humanevalexplain_java"],
                "humanevalexplain_java: only 1b, 7b measured; a line and its error",
            ),
            (["--method", "all", "--dataset", "humanevalexplain_java"], "humanevalexplain_java: only 1b, 7b measured"),
        ],
    )
    def test_refusals(self, refusal, changed, message):
        assert refusal(*PREDICT, *changed).startswith(message)

    def test_method_without_scores(self, as_json, refusal, own_grid):
        folder = own_grid(scored=lambda method, n_params: method != "ia3")
        known = ["--dataset", "humanevalsynthesize_python"]
        message = "ia3 has no score on humanevalsynthesize_python to fit; choose from fft, lora, ptuning, adapterh"
        assert refusal("predict", "--method", "ia3", "--size", "60m", *known, data=folder) == message
        assert message in refusal("predict", "--method", "ia3", "--size", "60m", data=folder)
        for options in ([], known):
            found, notes = as_json("predict", "--method", "all", "--size", "60m", *options, data=folder)
            assert [one["method"] for one in found] == ["fft", "lora", "ptuning", "adapterh"] and message not in notes

    def test_all_methods_go_on_past_one_that_is_refused(self, as_json, own_grid, two_grids, make_record):
        # A method at one size of its own shares none with the others: their fit would not say where it lies.
        lone = {"run_id": "lone", "grid": "own", "size": "2m", "method": "parallel", "n_params_base": 2 * 10**6}
        lone |= {
            "val_loss": None,
            "val_loss_se": None,
            "n_params": 2 * 10**6 + 1,
            "scores": (own_score(1, 1, dataset="humanevalfix_python"),),
        }
        records.save(make_record(**lone), two_grids / "runs")
        found, notes = as_json("predict", "--method", "all", "--size", "60m", "--grid", "own", data=two_grids)
        assert len(found) == 5 and "parallel" not in notes

    def test_no_scores_at_all(self, refusal, own_grid):
        folder = own_grid(scored=lambda *_: False)
        assert "no data set here has primary scores at three sizes" in refusal(*PREDICT, data=folder)

    def test_no_prediction_where_there_is_nothing_to_test(self, refusal, own_grid):
        def scored(method, n_params):
            return method == "lora" if n_params == 30_000_000 else method != "lora" or n_params == 300_000

        folder = own_grid(sizes=(300_000, 10**6, 30_000_000), scored=scored)
        assert "measured at 3 sizes; a back-test holds" in refusal(
            "predict", "--method", "fft", "--size", "60m", data=folder
        )


class TestSeveralGrids:
    @pytest.mark.parametrize("command", [["rank"], [*PREDICT, "--dataset", "recode_format"]])
    def test_are_never_mixed(self, run, two_grids, command):
        code, out, err = run(*command, data=two_grids)
        assert code == 0 and "grid released; there is also own (--grid NAME)" in err
        assert out == run(*command, "--grid", "released", data=two_grids)[1] == run(*command)[1]

    def test_without_released_models_one_must_be_named(self, refusal, two_grids):
        (two_grids / "released").unlink()
        one = json.loads(next((two_grids / "runs").rglob("*.json")).read_text())
        other = {**one, "grid": "other", "run_id": "other-run"}
        (two_grids / "runs" / "other-run.json").write_text(json.dumps(other))
        message = "scores of different grids do not compare, and there are 2: other, own; choose one with --grid"
        assert refusal("rank", data=two_grids) == message

    def test_own_grid_alone(self, as_json, two_grids):
        found, _ = as_json("rank", "--grid", "own", data=two_grids)
        assert {row["size"] for row in found["ranks"]} == {"0.3m", "1m", "10m", "30m"}
        found, _ = as_json("predict", "--method", "lora", "--size", "0.1b", "--grid", "own", data=two_grids)
        assert [one["reach"] for one in found] == [pytest.approx(100 / 30)]

    def test_are_all_shown(self, run, two_grids):
        rows = json.loads(run("records", "show", "--runs", "--format", "json", data=two_grids)[1])
        assert {row["grid"] for row in rows} == {"released", "own"} and len(rows) == 48

    def test_are_described(self, two_grids):
        described = describe_records(records.load_folder(two_grids / "runs"))
        assert described == {
            "Grid own": "20 runs: sizes 0.3m 1m 10m 30m; methods fft lora ptuning ia3 adapterh; scores: 20 measured"
        }


class TestSeveralSeeds:
    @pytest.mark.parametrize("command", [["rank"], ["predict", "--method", "all", "--size", "60m"]])
    def test_are_replicates_unless_one_is_chosen(self, refusal, run, own_grid, command):
        folder = own_grid(seeds=(3, 4))
        assert run(*command, data=folder)[0] == run(*command, "--run-seed", "4", data=folder)[0] == 0
        assert refusal(*command, "--run-seed", "5", data=folder) == "no run with seed 5; choose from 3, 4"

    def test_equal_seeds_change_no_value(self, as_json, own_grid):
        folder = own_grid(seeds=(3, 4))
        both, one = (as_json("rank", *option, data=folder)[0]["ranks"] for option in ([], ["--run-seed", "3"]))
        assert [row["value"] for row in both] == pytest.approx([row["value"] for row in one])
        assert {row["n_seeds"] for row in both} == {2} and {row["n_seeds"] for row in one} == {1}

    def test_show_filters_by_seed(self, run, own_grid):
        out = run("records", "show", "--run-seed", "3", "--format", "json", data=own_grid(seeds=(3, 4)))[1]
        assert {row["seed"] for row in json.loads(out)} == {3}

    def test_two_runs_of_one_seed(self, refusal, own_grid, make_record):
        folder = own_grid(sizes=(10**6,), methods=("lora",))
        twin = {"run_id": "again", "grid": "own", "size": "1m", "n_params_base": 10**6, "n_params": 10**6 + 99}
        records.save(make_record(**twin), folder / "runs")
        assert "1m lora of grid own has 2 runs of one seed: again, own-1000000-lora-s0" in refusal("rank", data=folder)
