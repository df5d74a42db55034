"""Whatever a record holds comes back equal; whatever is done to its file is refused in words or read as it stands."""

import copy
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from astraios_analysis.records import frame as records
from astraios_analysis.records.frame import METRICS, ProblemCounts, Score, ValidationPoint

# What a record says where its file does not.
DEFAULTS = {"schema_version": 2, "provenance": {}, "scores": [], "val_curve": []}
DEFAULTS |= {"task_losses": {}, "base_task_losses": {}}


def to_fields(record):
    return json.loads(json.dumps(record.model_dump(mode="json", exclude_none=True)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
small, positive, text = st.integers(0, 10**6), st.floats(0, 1e9), st.text(max_size=10)


@st.composite
def scores(draw):
    """A score, with counts of problems or without."""
    metric = METRICS[draw(st.sampled_from(sorted(METRICS)))]
    fields = {
        "dataset": draw(st.from_regex(r"[a-z0-9][a-z0-9_]{0,8}", fullmatch=True)),
        "language": draw(st.sampled_from(["python", "java", "c"])),
        "setting": draw(text.filter(bool)),
        "metric": metric.name,
        "source": "measured",
        "stderr": draw(st.none() | positive),
        "source_file": draw(st.none() | text),
    }
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
    return records.RunRecord(
        run_id=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
        grid=draw(st.from_regex(r"[a-z0-9][a-z0-9_]{0,8}", fullmatch=True)),
        method=draw(st.sampled_from(records.METHODS) | st.from_regex(r"[^\s,]{1,20}", fullmatch=True)),
        size=draw(text.filter(bool)),
        seed=draw(st.none() | small),
        held_out=draw(st.booleans()),
        n_params=base + updated,
        n_params_base=base,
        n_params_base_nonembedding=draw(st.none() | st.integers(1, base)),
        n_params_updated=updated,
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


def paths_into(value, prefix=()):
    """Return every place below a JSON value, as tuples of keys and positions."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, part in inner:
        found += [(*prefix, key), *paths_into(part, (*prefix, key))]
    return found


def at(value, path):
    for part in path:
        value = value[part]
    return value


def without_none(value, path=()):
    """Drop absent values outside the free-form specification, where null is a value."""
    if isinstance(value, dict) and path[:2] != ("provenance", "spec"):
        return {key: without_none(part, (*path, key)) for key, part in value.items() if part is not None}
    return [without_none(part, path) for part in value] if isinstance(value, list) else value


def says_the_same(read, written):
    """Compare JSON values; a whole number in a field of fractions is read as the nearest one."""
    if isinstance(read, dict) and isinstance(written, dict):
        return read.keys() == written.keys() and all(says_the_same(read[key], written[key]) for key in read)
    if isinstance(read, list) and isinstance(written, list):
        return len(read) == len(written) and all(map(says_the_same, read, written))
    if type(read) is float and type(written) is int:
        return read == float(written)
    return type(read) is type(written) and read == written


junk = json_values | st.sampled_from([float("nan"), float("-inf"), 10**25, -1, 1.5, [[[]]] * 3, {}, "\ud800", "lora"])


@st.composite
def broken_texts(draw, fields):
    fields = copy.deepcopy(fields)
    for _ in range(draw(st.integers(1, 2))):
        places = paths_into(fields)
        place, other = draw(st.sampled_from(places)), draw(st.sampled_from(places))
        parent, key = at(fields, place[:-1]), place[-1]
        action = draw(st.sampled_from(["drop", "change", "swap", "add"]))
        if action == "drop":
            del parent[key]
        elif action == "change":
            parent[key] = copy.deepcopy(draw(junk))
        elif action == "swap":
            parent[key] = copy.deepcopy(at(fields, other))
        elif isinstance(parent, dict):
            parent[draw(st.text(max_size=5))] = copy.deepcopy(draw(junk))
    data = json.dumps(fields).encode()
    cut = draw(st.none() | st.integers(0, len(data)))
    noise = draw(st.sampled_from([b"", b"", b"", b"\xff", b"}", b",", b"\0", b"NaN"]))
    where = draw(st.integers(0, len(data)))
    data = data[:where] + noise + data[where:]
    return data if draw(st.booleans()) else data[:cut]


@settings(max_examples=200)
@given(data=st.data())
def test_broken_record_is_refused_or_read_as_it_stands(make_record, data):
    text = data.draw(broken_texts(to_fields(make_record())))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        path.write_bytes(text)
        try:
            record = records.load(path)
        except records.RecordError as error:
            assert error.problems and all(problem.path == path and problem.message for problem in error.problems)
            assert records.check([path])[1] == error.problems
        else:
            assert says_the_same(to_fields(record), DEFAULTS | without_none(json.loads(text)))
