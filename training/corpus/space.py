"""The space of programs that some settings allow: which are the same, which are needed, and which split each is in."""

import hashlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

from training.corpus.inputs import PROBES
from training.corpus.operations import Kind, Operation
from training.corpus.programs import OPERATIONS, Program, Step, canonical
from training.corpus.settings import CorpusSettings, Split

_DIGEST_SIZE = 8
_REMEMBERED = 2**17


class ProgramSpace:
    """All programs that some settings allow, with the identity of each.

    Two programs are the same when they agree on every probe input (`fingerprint`); those that differ by exchanging
    steps that commute also share a `key`. The split is drawn from the fingerprint, so that no two splits share a
    fingerprint or a key.

    Parameters
    ----------
    settings : CorpusSettings
        Which operations, constants and splits there are.
    """

    def __init__(self, settings: CorpusSettings) -> None:
        self.settings = settings
        self.steps: dict[Kind, tuple[Step, ...]] = {
            kind: tuple(step for operation in self._operations(kind) for step in self._steps(operation))
            for kind in settings.kinds
        }
        self.steps_with_constant = {kind: tuple(s for s in steps if s.constant) for kind, steps in self.steps.items()}
        self.steps_without_constant = {
            kind: tuple(s for s in steps if not s.constant) for kind, steps in self.steps.items()
        }
        # Streams meet the same programs again and again; bounded, because a stream has no end.
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._fingerprint)

    def _operations(self, kind: Kind) -> Iterator[Operation]:
        for operation in OPERATIONS.values():
            is_chosen = operation.takes == kind and operation.gives in self.settings.kinds
            if is_chosen and operation.grade <= self.settings.max_grade:
                yield operation

    def _steps(self, operation: Operation) -> Iterator[Step]:
        if operation.constants:
            yield from (Step(operation.name, k) for k in operation.constants if k in self.settings.constants)
        else:
            yield Step(operation.name)

    @cached_property
    def _commuting(self) -> frozenset[tuple[Step, Step]]:
        # Decided on the probes for each pair, not declared: a table by hand would have to be right for every option.
        return frozenset(
            (first, second)
            for kind, steps in self.steps.items()
            for first, second in product(steps, repeat=2)
            if first.operation.gives == second.operation.gives == kind
            and self._outputs(Program(kind, (first, second))) == self._outputs(Program(kind, (second, first)))
        )

    def commute(self, first: Step, second: Step) -> bool:
        """Return whether two steps give the same in either order, on every probe input."""
        return (first, second) in self._commuting

    def canonical(self, program: Program) -> Program:
        """Return the representative of the program's orders (`programs.canonical`)."""
        return canonical(program, self.commute)

    def key(self, program: Program) -> str:
        """Return the program's identity up to renaming and exchange of steps that commute."""
        return self.canonical(program).label

    def fingerprint(self, program: Program) -> str:
        """Return the program's identity as a function: a digest of its outputs on the probe inputs.

        It is that of the canonical program, so that programs of one key have one fingerprint.
        """
        return self._remembered(program)

    def _fingerprint(self, program: Program) -> str:
        return self._digest(program.kind, self._outputs(self.canonical(program)))

    @staticmethod
    def _outputs(program: Program) -> list[Any]:
        return [program.run(probe) for probe in PROBES[program.kind]]

    @staticmethod
    def _digest(kind: Kind, outputs: list[Any]) -> str:
        return hashlib.blake2b(repr((kind, outputs)).encode(), digest_size=_DIGEST_SIZE).hexdigest()

    @cached_property
    def fewest_ops(self) -> dict[str, int]:
        """Fewest operations that make each function, for all functions of fewer than ``max_ops`` operations.

        A function that ignores its argument counts as needing none, so that no program of it is ever drawn.
        """
        fewest: dict[str, int] = {}
        layer = [(kind, kind, list(PROBES[kind])) for kind in self.settings.kinds]
        for n_ops in range(self.settings.max_ops):
            new = []
            for start, kind, outputs in layer:
                digest = self._digest(start, outputs)
                # A function that fewer operations make is not extended: fewer make its extensions too.
                if digest not in fewest:
                    is_constant = all(output == outputs[0] for output in outputs)
                    fewest[digest] = 0 if is_constant else n_ops
                    new.append((start, kind, outputs))
            if n_ops < self.settings.max_ops - 1:
                layer = list(self._extended(new))
        return fewest

    def _extended(self, layer: list[tuple[Kind, Kind, list[Any]]]) -> Iterator[tuple[Kind, Kind, list[Any]]]:
        for start, kind, outputs in layer:
            for step in self.steps[kind]:
                operation = step.operation
                yield start, operation.gives, [operation.apply(value, step.constant) for value in outputs]

    def is_needed(self, program: Program) -> bool:
        """Return whether no program of fewer operations computes the same.

        Decided against all such programs, on the probe inputs.
        """
        return self.fewest_ops.get(self.fingerprint(program), program.n_ops) >= program.n_ops

    def is_seen(self, program: Program) -> bool:
        """Return whether at most one operation computes the same: such functions occur in every split."""
        return self.fewest_ops.get(self.fingerprint(program), self.settings.max_ops) <= 1

    def split(self, program: Program) -> Split:
        """Return the split of a program of two and more operations: a hash of its fingerprint and ``split_seed``."""
        text = f"{self.settings.split_seed}:{self.fingerprint(program)}"
        share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56
        if share < self.settings.test_share:
            return "test"
        return "validation" if share < self.settings.test_share + self.settings.validation_share else "train"

    def is_allowed(self, program: Program, split: Split) -> bool:
        """Return whether a text of a split may show the program: it belongs to the split, or is seen everywhere."""
        return self.is_seen(program) or self.split(program) == split
