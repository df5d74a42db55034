"""Sizes as people write them, how far they lie beyond the data, and what the data cannot support."""

import pytest
from simulated_grids import LARGEST, simulate
from simulated_grids import SIZES as GRID_SIZES

from astraios_analysis.prediction.forecast import fit_supported, record_outcome, require_near
from astraios_analysis.prediction.limits import (
    parse_size,
    predictable_datasets,
    reach,
    require_predictable,
    require_reach,
)
from astraios_analysis.records.refusal import Refusal

KNOWN = {"1b": 1_137_207_296, "16B": 15_517_456_384}
RANGE = (1.137e9, 15.517e9)
SIZES = {**KNOWN, "1B": KNOWN["1b"], "16b": KNOWN["16B"], "34b": 34e9, " 7B ": 7e9, "350m": 350e6, "0.5b": 0.5e9}
SIZES |= {"120k": 120e3, "1.5t": 1.5e12, "3.4e10": 3.4e10, "3.4E+10": 3.4e10, "1137207296": 1_137_207_296}


@pytest.mark.parametrize(("text", "expected"), SIZES.items())
def test_sizes(text, expected):
    assert parse_size(text, KNOWN) == pytest.approx(expected, rel=1e-15)
    # A label that nobody measured is a round number.
    assert parse_size("1b") == 1e9


@pytest.mark.parametrize("text", ["big", "-3b", "0", "0b", "", " ", "nanb", "nan", "inf", "1e999", "7bb", "b"])
def test_other_text_is_refused(text):
    with pytest.raises(Refusal, match=r"is not understood; give a measured size \(1b, 16B\)") as caught:
        parse_size(text, KNOWN)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "expected"), [(1e9, 1), (4e9, 1), (16e9, 1), (32e9, 2), (160e9, 10), (5e8, 2), (1e8, 10)]
)
def test_reach_counts_how_many_times_beyond(size, expected):
    assert reach(size, (1e9, 16e9)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [1.137e9 / 10.02, 15.517e9 * 10.01])
def test_far_sizes_need_force_on_both_sides(size):
    with pytest.raises(Refusal, match=r"10\.0 times beyond the fitted range .*or insist with --force"):
        require_reach(size, RANGE, force=False)
    require_reach(size, RANGE, force=True)
    require_reach(15.517e10, RANGE, force=False)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("humanevalexplain_java", "humanevalexplain_java: only 1b, 7b measured; .*at least 3 sizes.*choose from"),
        ("recode_docstring", "recode_docstring: nothing measured"),
        ("aatk", "aatk: only 1b, 16b measured; .*at least 3 sizes.*choose from clone_detection"),
        ("humaneval", "unknown data set 'humaneval'; choose from clone_detection"),
    ],
)
def test_data_sets_that_cannot_be_predicted(released_records, dataset, message):
    known = predictable_datasets(released_records)
    assert dataset not in known and len(known) == 11
    with pytest.raises(Refusal, match=message):
        require_predictable(released_records, dataset)


def few(*sizes, **options):
    return simulate(sizes=sizes, methods=("fft", "lora"), seeds=(0,), **options)


ENOUGH = few(*GRID_SIZES)
FLAT = [run.model_copy(update={"val_loss": 1.0}) for run in ENOUGH]
# One method at all sizes and another one at the largest, with and without the first one there.
PAIR = [run for run in few(*GRID_SIZES, LARGEST) if run.method == "fft" or run.n_params_base == LARGEST]
LONE = [run for run in PAIR if run.method == "lora" or run.n_params_base < LARGEST]


@pytest.mark.parametrize(
    ("refused", "said", "lifted"),
    [
        (few(*GRID_SIZES[:2]), "val_loss: measured at 2 sizes.*Measure another size, 4 in all", ENOUGH),
        (few(*GRID_SIZES[:3]), "measured at 3 sizes.*Measure another size, 4 in all", ENOUGH),
        (LONE, "predict no method of the largest.*Measure more methods at the largest", PAIR),
        (FLAT, "the points are equal.*add seeds", ENOUGH),
        (few(*GRID_SIZES, val_loss=None), "no validation loss.*a grid trained here measures it", ENOUGH),
    ],
    ids=["two sizes", "three sizes", "another method at the largest", "no scatter", "no loss"],
)
def test_a_refusal_says_what_lifts_it(refused, said, lifted):
    with pytest.raises(Refusal, match=said):
        fit_supported(record_outcome(refused, "val_loss"))
    fitted = fit_supported(record_outcome(lifted, "val_loss"))
    with pytest.raises(Refusal, match=r"val_loss: .* Add runs nearer to that size, or insist with --force"):
        require_near(fitted, 100 * LARGEST)
    assert require_near(fitted, 100 * LARGEST, force=True) > 10 and require_near(fitted, 2 * LARGEST) < 10
