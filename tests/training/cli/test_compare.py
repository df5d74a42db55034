"""Records of one grid, trained twice, held against each other."""

import pytest

from astraios_analysis.records.frame import Provenance, ValidationPoint, save
from training.cli.grid import difference


@pytest.fixture
def record(make_record, make_score):
    """Factory of a record with a loss, a curve, scores by passes of two problems, and a kind of processor."""

    def record(run_id="tiny-run", loss=1.0, curve=(3.0, 2.0, 1.0), passes=((1, 0),), processor=None):
        points = tuple(ValidationPoint(step=step, loss=each) for step, each in enumerate(curve))
        scores = tuple(make_score(passed, n=1, dataset="embedded_fix", setting="greedy") for passed in passes)
        measured = {"base_val_loss": 3.0, "val_loss": loss, "val_curve": points, "scores": scores}
        return make_record(run_id=run_id, **measured, provenance=Provenance(processor=processor))

    return record


@pytest.mark.parametrize(
    ("changes", "loss", "score"),
    [
        ({}, 0.0, 0.0),
        ({"loss": 1.25}, 0.25, 0.0),
        ({"curve": (3.0, 2.5, 1.0)}, 0.5, 0.0),
        ({"curve": (3.0, 2.0)}, float("inf"), 0.0),
        ({"passes": ((1, 1),)}, 0.0, 0.5),
        ({"passes": ()}, 0.0, None),
    ],
)
def test_difference_is_the_largest_of_losses_and_of_scores(record, changes, loss, score):
    assert difference(record(), record(**changes)) == (loss, score)


@pytest.fixture
def folders(tmp_path, tiny, record):
    fft, lora, *_ = (run.run_id for run in tiny.runs())
    for name, losses in (("one", (1.0, 2.0)), ("other", (1.0005, 2.0))):
        for run_id, loss in zip((fft, lora), losses, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            save(record(run_id, loss), tmp_path / name)
    return ["--preset", "tiny", "--runs", str(tmp_path / "one"), "--with", str(tmp_path / "other")]


def test_command_says_which_runs_are_apart(folders, told):
    command = ["grid", "compare", *folders]
    captured = told(*command)
    assert [line.split()[1:] for line in captured.out.splitlines()] == [["loss", "score"], ["0.0005", "0"], ["0", "0"]]
    assert "2 of 4 runs are not in both folders" in captured.err
    assert "2 of 2 runs have losses within 0.001 nats per token; the largest difference is 0.0005" in captured.err
    assert "1 of 2 runs have losses within 0.0001" in told(*command, "--tolerance", "1e-4", status=1).err


def test_nothing_in_common_is_an_error_that_says_what_to_do(folders, refused):
    message = refused("grid", "compare", *folders[:-1], "nowhere")
    assert "none of the 4 runs has a record both in" in message and "train them with `grid run`" in message


def test_another_kind_of_processor_is_named_where_losses_differ(tmp_path, tiny, told, record):
    run_id = next(run.run_id for run in tiny.runs())
    for name, loss, processor in (("one", 1.0, "A, AVX2"), ("other", 1.1, None), ("same", 1.0, "B, AVX2")):
        (tmp_path / name).mkdir()
        save(record(run_id, loss, processor=processor), tmp_path / name)
    command = ["grid", "compare", "--preset", "tiny", "--runs", tmp_path / "one", "--with"]
    errors = told(*command, tmp_path / "other", status=1).err
    assert "trained on A, AVX2 and on an unknown kind: kinds of processors round" in errors
    assert "processors round" not in told(*command, tmp_path / "same").err
