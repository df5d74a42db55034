"""The grid for GPUs, cut to two steps of its smallest size, on a CPU: corpus, bf16, base, tuning, record."""

from itertools import islice

import pytest

from training.corpus.rows import encode
from training.grid.rows import run_corpus
from training.grid.run import run
from training.spec.grids import HARDER_VOCABULARY, preset
from training.spec.run import closed_form_counts

SHORT = {"steps": 2, "warmup_steps": 1, "global_batch": 4, "validate_every": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of records and of the base that all methods share."""
    return tmp_path_factory.mktemp("gpu")


@pytest.mark.parametrize("method", ["fft", "ptuning"])
def test_smallest_size_trains_in_bf16(method, folder):
    (spec,) = preset("gpu").runs(sizes=["160x4"], methods=[method])
    short = {name: getattr(spec, name).model_copy(update=SHORT) for name in ("schedule", "pretraining")}
    short |= {"grid": "gpu_short", "n_validation": 8, "loop": spec.loop.model_copy(update={"micro_batch": 2})}
    record = run(spec.model_copy(update=short), folder / "runs", folder / "cache")
    assert record.provenance.spec["loop"]["precision"] == "bf16"
    assert {"list", "number", "string"} <= {kind.rstrip("s") for kind in record.provenance.spec["corpus"]["kinds"]}
    assert 5 < record.base_val_loss < 8
    assert [point.step for point in record.val_curve] == [0, 2]
    assert record.val_loss != record.base_val_loss and 0 < record.val_loss < 9
    assert record.provenance.spec["throughput"]["tokens_per_second"] > 0


def test_the_grid_for_a_gpu_spans_a_factor_of_100_and_has_room_for_its_corpus():
    runs = preset("gpu").runs()
    counts = [closed_form_counts(run.size, run.tuning).n_params_base_nonembedding for run in runs]
    assert max(counts) / min(counts) > 100
    assert {run.loop.precision for run in runs} == {"bf16"}
    corpus = run_corpus(runs[0].data)
    assert corpus.tokenizer.get_vocab_size() == HARDER_VOCABULARY == runs[0].size.vocab_size
    rows = encode(corpus.tokenizer, [item.document for item in islice(corpus.instructions(0, "train"), 200)])
    assert max(len(row.tokens) for row in rows) < runs[0].schedule.sequence_length
