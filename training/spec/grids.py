"""Grids by name, and their corpora. Importable without torch."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, PositiveInt, model_validator

from astraios_analysis.records.frame import METHODS, known_method
from astraios_analysis.records.refusal import require_known
from training.corpus.settings import CorpusSettings, Frozen
from training.corpus.texts import TEXTS_VARIABLE, TextCorpus, find_text
from training.spec.run import STARCODERBASE_SIZES, GridName, LoopSettings, ModelSize, RunSpec, Schedule, Tuning

_Name = TypeVar("_Name", str, int)


class Grid(Frozen):
    """A grid of runs: every size with every method and every seed, on one corpus with one schedule.

    At width d learning rates are those given times (reference_width / d) ** width_exponent: under Adam the best rate of
    matrices falls as 1 / width, that of embeddings not at all (Yang et al. 2022, Tensor Programs V, arXiv 2203.03466).
    """

    name: GridName
    sizes: Annotated[tuple[ModelSize, ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = METHODS
    # PEFT's configurations of methods beside the seven, by their names.
    peft: Mapping[str, dict[str, Any]] = {}
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    schedule: Schedule = Schedule()
    learning_rates: Mapping[str, Annotated[float, Field(gt=0)]] = {}
    # Without it every size has the same rates, as in the study.
    reference_width: PositiveInt | None = None
    width_exponent: Annotated[float, Field(ge=0)] = 0.5
    width_exponents: Mapping[str, Annotated[float, Field(ge=0)]] = {}
    data: str
    held_out_sizes: tuple[str, ...] = ()
    pretraining: Schedule | None = None
    # Share of instruction documents: a base that has only seen documented functions gives the instructions' words a
    # probability near zero, which no method can raise that leaves the embedding as it is. The published bases had seen
    # issues and commit messages (Li et al. 2023, arXiv 2305.06161).
    pretraining_instructions: Annotated[float, Field(gt=0, lt=1)] | None = None
    loop: LoopSettings = LoopSettings()
    n_validation: PositiveInt = 512

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [size.name for size in self.sizes]
        for kind, given in {"size": names, "tuning method": self.methods, "seed": self.seeds}.items():
            for one in dict.fromkeys(name for name in given if given.count(name) > 1):
                raise ValueError(f"{kind} {one!r} is in grid {self.name!r} twice; name each once")
        for method in {*self.methods, *self.learning_rates, *self.width_exponents} - self.peft.keys():
            known_method(method)
        self._known(self.held_out_sizes, names, "held-out size")
        return self

    def runs(
        self,
        sizes: Iterable[str] | None = None,
        methods: Iterable[str] | None = None,
        seeds: Iterable[int] | None = None,
    ) -> tuple[RunSpec, ...]:
        """Return the grid's runs, size by size, then method by method, then seed by seed."""
        size_names = self._known(sizes, [size.name for size in self.sizes], "size")
        methods = None if methods is None else [m if m in self.peft else known_method(m) for m in methods]
        method_names = self._known(methods, self.methods, "tuning method")
        chosen_seeds = self._known(seeds, self.seeds, "seed")
        return tuple(
            RunSpec(
                grid=self.name,
                size=size,
                tuning=self._tuning(method, size),
                schedule=self._at_width(self._schedule_of(method), size, self.width_exponents.get(method)),
                data=self.data,
                seed=seed,
                held_out=size.name in self.held_out_sizes,
                pretraining=None if size.pretrained else self._at_width(self.pretraining, size),
                pretraining_instructions=None if size.pretrained else self.pretraining_instructions,
                loop=self.loop,
                n_validation=self.n_validation,
            )
            for size in self.sizes
            if size.name in size_names
            for method in self.methods
            if method in method_names
            for seed in self.seeds
            if seed in chosen_seeds
        )

    def _tuning(self, method: str, size: ModelSize) -> Tuning:
        if method in self.peft:
            return Tuning(method=method, peft=self.peft[method])
        return Tuning.for_width(method, size.d_model)

    def _schedule_of(self, method: str) -> Schedule:
        rate = self.learning_rates.get(method, self.schedule.learning_rate)
        return self.schedule.model_copy(update={"learning_rate": rate})

    def _at_width(self, schedule: Schedule | None, size: ModelSize, exponent: float | None = None) -> Schedule | None:
        if schedule is None or self.reference_width is None:
            return schedule
        exponent = self.width_exponent if exponent is None else exponent
        shrink = (self.reference_width / size.d_model) ** exponent
        return schedule.model_copy(update={"learning_rate": schedule.learning_rate * shrink})

    def _known(self, names: Iterable[_Name] | None, choices: Sequence[_Name], what: str) -> set[_Name]:
        if names is None:
            return set(choices)
        chosen = list(names)
        for name in chosen:
            if name not in choices:
                allowed = ", ".join(map(str, choices))
                raise ValueError(f"unknown {what} {name!r} in grid {self.name!r}; choose from {allowed}")
        return set(chosen)


def starcoderbase() -> Grid:
    """Return the published grid: four StarCoderBase models x seven methods (Zhuo et al. 2024, arXiv 2401.00788)."""
    return Grid(name="starcoderbase", sizes=STARCODERBASE_SIZES, data="commitpackft+oasst")


EMBEDDED_VOCABULARY = 385
"""Tokens of the embedded corpus' tokenizer at its default settings (docs/corpus.md), which a test holds to it."""

EMBEDDED_POSITIONS = 320
"""Positions of models for the embedded corpus: its rows (one of 60,000 is longer than 290) and 30 virtual tokens."""

_EMBEDDED_LENGTH = EMBEDDED_POSITIONS - 30

_schedule = partial(Schedule, global_batch=32, sequence_length=_EMBEDDED_LENGTH)


def embedded_size(d_model: int, n_layers: int, n_heads: int, vocab_size: int = EMBEDDED_VOCABULARY) -> ModelSize:
    """Return a base model for the embedded corpus, trained from scratch and named by its shape: ``32x2``."""
    return ModelSize(
        name=f"{d_model}x{n_layers}",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        vocab_size=vocab_size,
        n_positions=EMBEDDED_POSITIONS,
    )


def smoke() -> Grid:
    """Return the smallest whole grid: two tiny models x seven methods on the embedded corpus, in a minute or two.

    It shows that the chain works and that methods learn, not how they compare: rates are set by hand, not searched.
    """
    return Grid(
        name="smoke",
        sizes=(embedded_size(16, 2, 2), embedded_size(32, 2, 4)),
        schedule=_schedule(steps=60, learning_rate=3e-3, warmup_steps=6, validate_every=20),
        learning_rates={"fft": 2e-3, "lora": 5e-3, "ptuning": 1e-2, "ia3": 2e-2},
        data=CorpusSettings().label,
        pretraining=_schedule(steps=300, learning_rate=5e-3, warmup_steps=20, validate_every=100),
        loop=LoopSettings(layout="documents", micro_batch=8),
        n_validation=256,
    )


POSITION_OFFSETS = EMBEDDED_POSITIONS - _EMBEDDED_LENGTH
"""Last position at which a row of a base's text starts: where P-Tuning's 30 virtual tokens put the rows of tuning."""


def ladder() -> Grid:
    """Return the grid in which size and method can be told apart: five sizes and a held-out sixth, seven methods.

    Non-embedding parameters span a factor of 179. Why it is what it is, and what it shows, is in docs/ladder.md.
    """
    shapes = ((16, 2, 2), (32, 2, 4), (56, 3, 4), (88, 4, 4), (128, 4, 4), (160, 4, 4))
    sizes = tuple(embedded_size(*shape) for shape in shapes)
    return Grid(
        name="ladder",
        sizes=sizes,
        held_out_sizes=(sizes[-1].name,),
        seeds=(0, 1, 2),
        schedule=_schedule(steps=300, learning_rate=4e-2, warmup_steps=12, validate_every=100),
        # Searched at 16x2 and 56x3 (data/pilots/ladder_learning_rates*.csv): the best at 16x2, and of the exponents 0,
        # 1/2 and 1 the one that comes nearest to the best at 56x3.
        learning_rates={
            "fft": 8e-3,
            "lora": 4e-2,
            "ptuning": 2e-2,
            "ia3": 4e-2,
            "adapterh": 1.6e-1,
            "adapterp": 3.2e-1,
            "parallel": 8e-2,
        },
        reference_width=sizes[0].d_model,
        width_exponents={"fft": 1.0, "ia3": 0.0, "adapterh": 1.0, "adapterp": 1.0},
        data=CorpusSettings().label,
        pretraining=_schedule(steps=2000, learning_rate=1.35e-2, warmup_steps=40, validate_every=500),
        # So few that what a method adds to its base is large beside seeds (docs/ladder.md).
        pretraining_instructions=0.0025,
        loop=LoopSettings(layout="documents", micro_batch=8, position_offsets=POSITION_OFFSETS),
        n_validation=256,
    )


HARDER_CORPUS = CorpusSettings(
    kinds=("list", "number", "string"), ops_weights=(0.05, 0.2, 0.35, 0.4), constant_share=0.25, phrasings=3
)
"""The embedded corpus with three kinds of values, longer programs and more ways to say things: for larger models."""

HARDER_VOCABULARY = 1051
"""Tokens of its tokenizer, which a test holds to it."""


def gpu() -> Grid:
    """Return the grid for a GPU: the seven methods at five sizes, non-embedding parameters from 1.1 M to 213 M, bf16.

    Not trained yet, and its learning rates are not searched: those of `ladder`, found at width 16, carried over by the
    widths' rules far beyond where they were looked at. `grid search --preset gpu` comes first. The base of the largest
    size takes 9e16 operations, four minutes of an H100 at 40 % of its peak in bfloat16 (`python -m training estimate`).
    """
    shapes = ((160, 4, 4), (256, 6, 4), (512, 8, 8), (768, 12, 12), (1024, 20, 16))
    sizes = tuple(embedded_size(*shape, HARDER_VOCABULARY) for shape in shapes)
    small = ladder()
    return Grid(
        name="gpu",
        sizes=sizes,
        held_out_sizes=(sizes[-1].name,),
        schedule=small.schedule.model_copy(update={"steps": 400, "global_batch": 64, "validate_every": 50}),
        learning_rates=small.learning_rates,
        reference_width=small.reference_width,
        width_exponents=small.width_exponents,
        data=HARDER_CORPUS.label,
        pretraining=small.pretraining.model_copy(
            update={"steps": 4000, "global_batch": 256, "warmup_steps": 200, "validate_every": 1000}
        ),
        pretraining_instructions=small.pretraining_instructions,
        loop=LoopSettings(layout="documents", precision="bf16", position_offsets=POSITION_OFFSETS),
        n_validation=512,
    )


CORPORA: dict[str, CorpusSettings] = {
    settings.label: settings
    for own in (CorpusSettings(), HARDER_CORPUS)
    for settings in (own, own.model_copy(update={"pretraining_mixture": None}))
}
"""Corpora that a run can be trained on, by label: each also with base text of documented functions alone."""


def corpus_settings(label: str) -> CorpusSettings:
    """Return the settings of an embedded corpus by its label."""
    if label not in CORPORA:
        raise ValueError(
            f"unknown corpus {label!r}; runs are trained here on {', '.join(CORPORA)}: choose a preset that names it, "
            f"or put the text itself, objects with 'prompt' and 'completion', into DIR/{label}.jsonl and set "
            f"{TEXTS_VARIABLE}=DIR"
        )
    return CORPORA[label]


def check_corpus(label: str) -> None:
    """Raise ValueError if there is no such corpus."""
    if label in CORPORA or find_text(label, os.environ) is None:
        corpus_settings(label)


def fetch_corpus(label: str) -> None:
    """Read a text that is a data set, so that worker processes find it in the library's cache."""
    source = None if label in CORPORA else find_text(label, os.environ)
    if source is not None and not Path(source).is_file():
        TextCorpus(label, source)


PRESETS: dict[str, Callable[[], Grid]] = {
    "smoke": smoke,
    "ladder": ladder,
    "gpu": gpu,
    "starcoderbase": starcoderbase,
}
"""Grids by name."""


def preset(name: str) -> Grid:
    """Return a preset grid by name."""
    require_known("preset", [name], sorted(PRESETS))
    return PRESETS[name]()
