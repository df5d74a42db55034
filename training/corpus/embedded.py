"""The embedded corpus: endless streams for training, fixed problem sets for validation and test."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from astraios_analysis.records.refusal import require_known
from training.corpus.idioms import draw_idiom
from training.corpus.items import QUESTIONS, Item, Maker, told_in_code
from training.corpus.rows import word_tokenizer
from training.corpus.settings import COMPLETION, TASKS, CorpusSettings, Mixture, Split
from training.corpus.space import ProgramSpace, discriminating_cases, draw_program, pick_weighted

N_PROBLEMS = 200
"""Problems of a set that count for the headline score."""

N_SEEN = 24
"""Further problems of a set whose program is one operation; marked `seen`, kept out of the headline score."""

# Of the headline problems: those of two operations are fewer, because there are few such programs.
_OPS_SHARES = {2: 0.25, 3: 0.375, 4: 0.375}

_MOST_REPETITIONS = 300


class EmbeddedCorpus:
    """The corpus of some settings. The same settings and seed give the same bytes, in any process."""

    def __init__(self, settings: CorpusSettings | None = None) -> None:
        self.settings = settings or CorpusSettings()
        self.space = ProgramSpace(self.settings)
        # Making a set takes a second or more, and scores, choices and losses ask for the same ones.
        self._kept = lru_cache(maxsize=32)(self._problems)

    def pretraining(self, seed: int, split: Split = "train") -> Iterator[Item]:
        """Yield base text, one document an item, without end: documented functions, or the mixture of the settings."""
        rng = self._generator(seed, "pretraining", split)
        if self.settings.pretraining_mixture is not None:
            yield from self._items(rng, split, self.settings.pretraining_mixture, is_told=True)
        maker = Maker(self.space, split, rng)
        while True:
            yield self._program_item(maker, COMPLETION, answer=True)

    def instructions(self, seed: int, split: Split = "train") -> Iterator[Item]:
        """Yield items of the instruction tasks in the mixture's shares, without end.

        Answers to yes/no questions, and origins of security items, come in pairs of both values: every stream is
        balanced, whatever its length, up to one item a task.
        """
        return self._items(self._generator(seed, "instructions", split), split, self.settings.mixture)

    def _items(
        self, rng: np.random.Generator, split: Split, mixture: Mixture, *, is_told: bool = False
    ) -> Iterator[Item]:
        maker = Maker(self.space, split, rng)
        weights = [getattr(mixture, task) for task in TASKS]
        answers = {task: _balanced_answers(rng) for task in TASKS}
        while True:
            task = pick_weighted(TASKS, weights, rng)
            answer = next(answers[task])
            if is_told and task == "synthesis":
                yield self._program_item(maker, COMPLETION, answer)
                continue
            if task == "security":
                item = draw_idiom(self.settings, split, answer, rng)
            else:
                item = self._program_item(maker, task, answer)
            yield told_in_code(item) if is_told else item

    def problems(self, task: str, split: Split = "test", n: int = N_PROBLEMS) -> tuple[Item, ...]:
        """Return the problem set of a task: the same for every run, whatever its seed.

        Headline problems have two to four operations; `N_SEEN` more of one operation, marked seen, come last. No two
        are about the same program, except that yes/no questions ask about one at most once for either answer.
        """
        require_known("task", [task], (COMPLETION, *TASKS))
        return self._kept(task, split, n)

    def _problems(self, task: str, split: Split, n: int) -> tuple[Item, ...]:
        rng = self._generator(self.settings.split_seed, f"problems {task}", split)
        maker = Maker(self.space, split, rng)
        # One sequence of answers for all sizes keeps the headline problems balanced as a whole.
        answers = _balanced_answers(rng)
        marks = np.floor(np.cumsum([0, *_OPS_SHARES.values()]) * n + 1e-9)
        counts = [*zip(_OPS_SHARES, np.diff(marks).astype(int).tolist(), strict=True), (1, N_SEEN)]
        if task == "security":
            counts = [(0, n)]
        return tuple(
            item for n_ops, count in counts for item in self._distinct(maker, task, n_ops, islice(answers, count))
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the corpus, of the words of its training split; the same for every run."""
        documents = self.settings.tokenizer_documents
        seed = self.settings.split_seed
        streams = (self.pretraining(seed), self.instructions(seed))
        return word_tokenizer(item.document.text for stream in streams for item in islice(stream, documents))

    def _program_item(self, maker: Maker, task: str, answer: bool) -> Item:
        while True:
            item = maker.make(task, draw_program(self.space, None, maker.split, maker.rng), answer)
            # A program without a near miss in its split is passed over; that happens in the small splits only.
            if item is not None:
                return item

    def _distinct(self, maker: Maker, task: str, n_ops: int, answers: Iterable[bool]) -> Iterator[Item]:
        used: set[tuple[str, bool]] = set()
        for answer in answers:
            for _ in range(_MOST_REPETITIONS):
                if task == "security":
                    item = draw_idiom(self.settings, maker.split, answer, maker.rng)
                    name = (item.prompt, False)
                else:
                    program = draw_program(self.space, n_ops, maker.split, maker.rng)
                    name = (self.space.fingerprint(program), answer and task in QUESTIONS)
                    item = None if name in used else maker.make(task, program, answer)
                if item is not None and name not in used:
                    break
            else:
                what = f"problems of {n_ops} operations" if n_ops else "problems"
                raise ValueError(
                    f"{task!r} has too few different {what} in split {maker.split!r}: "
                    f"found {len(used)}; ask for fewer, or raise the share of the split"
                )
            used.add(name)
            yield self._as_problem(item, maker.rng)

    def _as_problem(self, item: Item, rng: np.random.Generator) -> Item:
        if item.task == "security":
            details = {key: value for key, value in item.details.items() if key != "is_unsafe"}
            return replace(item, reference=item.choices[0], details=details)
        if item.choices:
            return item
        return replace(item, cases=discriminating_cases(self.space, item.programs[0], rng))

    @staticmethod
    def _generator(seed: int, stream: str, split: Split) -> np.random.Generator:
        # A checksum, not hash(): that one differs from process to process.
        return np.random.default_rng([seed, zlib.crc32(f"{stream}/{split}".encode())])


def _balanced_answers(rng: np.random.Generator) -> Iterator[bool]:
    while True:
        first = bool(rng.random() < 0.5)
        yield first
        yield not first
