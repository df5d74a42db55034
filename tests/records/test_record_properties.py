"""Whatever a record holds comes back equal."""

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from astraios_analysis.records import frame as records
from astraios_analysis.records.frame import METRICS, ProblemCounts, Score, ValidationPoint

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAME = st.from_regex(r"[a-z0-9][a-z0-9_]{0,8}", fullmatch=True)
small, positive, text = st.integers(0, 10**6), st.floats(0, 1e9), st.text(max_size=10)


@st.composite
def scores(draw):
    """A score, with counts of problems or without."""
    metric = METRICS[draw(st.sampled_from(sorted(METRICS)))]
    fields = {"dataset": draw(NAME), "language": draw(st.sampled_from(["python", "java", "c"]))}
    fields |= {"setting": draw(text.filter(bool)), "metric": metric.name, "source": "measured"}
    fields |= {"stderr": draw(st.none() | positive), "source_file": draw(st.none() | text)}
    if (metric.lower, metric.upper) != (0, 1) or draw(st.booleans()):
        value = draw(st.floats(max(metric.lower, -1e6), min(metric.upper, 1e6)))
        return Score(**fields, value=value, n_items=draw(st.integers(1, 10**6)))
    ids = draw(st.lists(st.integers() | text, min_size=1, max_size=5, unique=True))
    n = [draw(st.integers(1, 30)) for _ in ids]
    passed = [draw(st.integers(0, most)) for most in n]
    problems = ProblemCounts(problem_ids=tuple(ids), n_samples=tuple(n), n_passed=tuple(passed))
    shares = [c / k for c, k in zip(passed, n, strict=True)]
    value = sum(passed) / sum(n) if metric.name == "insecure_rate" else sum(shares) / len(shares)
    return Score(**fields, value=value, n_items=len(n), problems=problems)


@st.composite
def run_records(draw):
    base, updated = draw(st.integers(1, 2**40)), draw(st.integers(1, 2**40))
    steps = sorted(draw(st.sets(small, max_size=4)))
    loss = draw(st.none() | positive)
    amounts = {name: st.none() | positive for name in ("seconds", "flop")}
    told = {"device": st.none() | text, "versions": st.none() | st.dictionaries(text, text, max_size=2)}
    spec = st.none() | st.dictionaries(text, json_values, max_size=3)
    counts = {"n_params": base + updated, "n_params_base": base, "n_params_updated": updated}
    return records.RunRecord(
        **counts,
        run_id=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
        grid=draw(NAME),
        method=draw(st.sampled_from(records.METHODS) | st.from_regex(r"[^\s,]{1,20}", fullmatch=True)),
        size=draw(text.filter(bool)),
        seed=draw(st.none() | small),
        held_out=draw(st.booleans()),
        n_params_base_nonembedding=draw(st.none() | st.integers(1, base)),
        val_loss=loss,
        val_loss_se=None if loss is None else draw(st.none() | positive),
        val_curve=tuple(ValidationPoint(step=step, loss=draw(positive)) for step in steps),
        scores=tuple(draw(st.lists(scores(), max_size=3, unique_by=lambda score: score.key))),
        cost=draw(st.none() | st.builds(records.Cost, peak_memory_bytes=st.none() | small, **amounts)),
        provenance=draw(st.builds(records.Provenance, spec=spec, **told)),
    )


@settings(max_examples=75)
@given(record=run_records())
def test_record_comes_back_equal(record):
    with tempfile.TemporaryDirectory() as folder:
        path = records.save(record, folder)
        assert records.load(path) == record
        assert path.read_bytes().endswith(b"}\n")
