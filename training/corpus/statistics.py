"""What the corpus is like, counted: lengths, vocabulary, mixture, balance, overlap of splits, chance levels."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import YES, Item
from training.corpus.programs import Program
from training.corpus.rows import encode
from training.corpus.settings import COMPLETION, SPLITS, TASKS
from training.corpus.space import ProgramSpace, draw_program

SAMPLE = 2000
"""Documents of each stream and split that are counted."""

_RANDOM_PROGRAMS = 500


def corpus_statistics(corpus: EmbeddedCorpus, seed: int = 0, sample: int = SAMPLE) -> dict[str, Any]:
    """Return the statistics of a sample of every stream and of all problem sets, as plain values."""
    streams: dict[str, dict[str, list[Item]]] = {"pretraining": {}, "instructions": {}}
    started = time.perf_counter()
    for split in SPLITS:
        streams["pretraining"][split] = list(islice(corpus.pretraining(seed, split), sample))
        streams["instructions"][split] = list(islice(corpus.instructions(seed, split), sample))
    elapsed = time.perf_counter() - started
    problems = {
        split: {task: corpus.problems(task, split) for task in (COMPLETION, *TASKS)} for split in ("validation", "test")
    }
    everything = {
        split: [item for stream in streams.values() for item in stream[split]]
        + [item for items in problems.get(split, {}).values() for item in items]
        for split in SPLITS
    }
    trained_on = {name: stream["train"] for name, stream in streams.items()}
    return {
        "corpus": corpus.settings.label,
        "streams": {name: _stream_statistics(corpus, items) for name, items in trained_on.items()},
        "problems": {split: _problem_statistics(corpus, sets) for split, sets in problems.items()},
        "vocabulary": _vocabulary(corpus, [item for items in everything.values() for item in items]),
        "overlap": count_overlap(corpus.space, everything),
        "programs": _program_statistics(corpus, [item for items in trained_on.values() for item in items]),
        "documents_per_second": round(2 * len(SPLITS) * sample / elapsed),
    }


def _stream_statistics(corpus: EmbeddedCorpus, items: Sequence[Item]) -> dict[str, Any]:
    lengths = np.array([len(row.tokens) for row in encode(corpus.tokenizer, [item.document for item in items])])
    tasks = Counter(item.task for item in items)
    answers = {
        task: sum(item.reference == YES for item in items if item.task == task) / tasks[task]
        for task in ("clone", "defect")
        if tasks[task]
    }
    return {
        "documents": len(items),
        "tokens": int(lengths.sum()),
        "mean_length": round(float(lengths.mean()), 1),
        "longest": int(lengths.max()),
        "tasks": {task: round(count / len(items), 4) for task, count in sorted(tasks.items())},
        "yes_share": {task: round(share, 4) for task, share in answers.items()},
        "unsafe_share": _unsafe_shares(items),
    }


def _unsafe_shares(items: Iterable[Item]) -> dict[str, float]:
    by_origin: dict[str, list[bool]] = {}
    for item in items:
        if item.task == "security":
            by_origin.setdefault(item.details["origin"], []).append(item.details["is_unsafe"])
    return {origin: round(float(np.mean(unsafe)), 4) for origin, unsafe in sorted(by_origin.items())}


def _problem_statistics(corpus: EmbeddedCorpus, sets: dict[str, tuple[Item, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task, items in sets.items():
        headline = [item for item in items if not item.seen]
        by_ops = Counter(item.n_ops for item in headline if item.n_ops)
        found[task] = {
            "headline": len(headline),
            "seen": len(items) - len(headline),
            "n_ops": dict(sorted(by_ops.items())),
        }
        if headline[0].cases:
            found[task]["mean_cases"] = round(float(np.mean([len(item.cases) for item in headline])), 2)
            found[task]["random_program_pass_rate"] = random_pass_rate(corpus, headline)
        elif task in ("clone", "defect"):
            found[task]["yes_share"] = round(float(np.mean([item.reference == YES for item in headline])), 4)
    return found


def random_pass_rate(corpus: EmbeddedCorpus, items: Sequence[Item], n: int = _RANDOM_PROGRAMS) -> float:
    """Return the chance of a program drawn from the training stream to pass all cases of a problem."""
    rng = np.random.default_rng(0)
    programs = [draw_program(corpus.space, None, "train", rng) for _ in range(n)]
    passes = [
        all(case.holds(program) for case in item.cases)
        for item in items
        for program in programs
        if program.kind == item.programs[0].kind
    ]
    return float(np.mean(passes)) if passes else 0.0


def _vocabulary(corpus: EmbeddedCorpus, items: Sequence[Item]) -> dict[str, int]:
    rows = encode(corpus.tokenizer, [item.document for item in items])
    return {
        "tokens": corpus.tokenizer.get_vocab_size(),
        "used": len({token for row in rows for token in row.tokens}),
    }


def count_overlap(space: ProgramSpace, items: dict[str, list[Item]]) -> dict[str, dict[str, int]]:
    """Return how many programs two splits share, among those of two and more operations that any text shows."""
    shown: dict[str, set[Program]] = {
        split: {program for item in found for program in item.programs if not space.is_seen(program)}
        for split, found in items.items()
    }
    keys = {split: {space.key(program) for program in programs} for split, programs in shown.items()}
    prints = {split: {space.fingerprint(program) for program in programs} for split, programs in shown.items()}
    texts = {split: {item.document.text for item in found if not item.seen} for split, found in items.items()}
    return {
        f"{first}-{second}": {
            "keys": len(keys[first] & keys[second]),
            "fingerprints": len(prints[first] & prints[second]),
            "texts": len(texts[first] & texts[second]),
        }
        for first, second in combinations(items, 2)
    }


def _program_statistics(corpus: EmbeddedCorpus, items: Sequence[Item]) -> dict[str, Any]:
    programs = [item.programs[0] for item in items if item.programs]
    steps = [step for program in programs for step in program.steps]
    sizes = Counter(program.n_ops for program in programs)
    return {
        "distinct": len({corpus.space.key(program) for program in programs}),
        "constant_share": round(sum(step.constant > 0 for step in steps) / len(steps), 4),
        "n_ops": {n_ops: round(count / len(programs), 4) for n_ops, count in sorted(sizes.items())},
        "operations": {name: round(n / len(steps), 4) for name, n in sorted(Counter(s.name for s in steps).items())},
    }
