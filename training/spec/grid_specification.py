"""A grid: sizes x methods x seeds -> RunSpecs. Importable without torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from astraios_analysis.records.frame import METHODS, known_method
from training.spec.loop_settings import LoopSettings
from training.spec.run import ModelSize, RunSpec, Schedule, Tuning

_Name = TypeVar("_Name", str, int)


class Grid(BaseModel):
    """A grid of runs: every size with every method and every seed, on one corpus with one schedule.

    Attributes
    ----------
    name : str
        Name of the grid.
    sizes : tuple of ModelSize
        Base models, smallest first.
    methods : tuple of str
        Tuning methods.
    seeds : tuple of int
        One run for each seed.
    schedule : Schedule
        Optimisation schedule of every run.
    learning_rates : mapping of str to float
        Peak learning rates by method; a method that is not named has the schedule's.
    data : str
        Label of the corpus.
    reference_width : int, optional
        Width w at which the learning rates hold, those of pre-training and of tuning: a model of width d has them times
        (w / d) ** width_exponent. Without it every size has the same rates, as in the study.
    width_exponent : float
        How fast rates fall with the width.
    width_exponents : mapping of str to float
        The same by method, for those whose rates fall otherwise.
    held_out_sizes : tuple of str
        Names of the sizes kept out of every fit and every choice.
    pretraining : Schedule, optional
        Schedule of base models that are trained from scratch.
    pretraining_instructions : float, optional
        Share of instruction documents among those a base model is trained on, in (0, 1); none without it. A tokenizer
        shared by both streams has tokens that documented functions never show: a base that has only seen such functions
        gives the instructions' words a probability near zero, and no method that leaves the embedding as it is can
        raise it. The published base models had seen issues and commit messages (Li et al. 2023, arXiv 2305.06161).
    loop : LoopSettings
        Layout, batch sizes and precision.
    n_validation : int
        Rows of the fixed validation sets.

    Raises
    ------
    pydantic.ValidationError
        If a method is unknown, a size name repeats, a held-out size is not in the grid, or a learning rate is not
        positive.

    References
    ----------
    Yang et al. 2022, Tensor Programs V, arXiv 2203.03466: under Adam the best rate of matrices between layers falls as
    1 / width when models are wide, and that of embeddings not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    sizes: Annotated[tuple[ModelSize, ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = METHODS
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    schedule: Schedule = Schedule()
    learning_rates: Mapping[str, Annotated[float, Field(gt=0)]] = {}
    reference_width: PositiveInt | None = None
    width_exponent: Annotated[float, Field(ge=0)] = 0.5
    width_exponents: Mapping[str, Annotated[float, Field(ge=0)]] = {}
    data: str
    held_out_sizes: tuple[str, ...] = ()
    pretraining: Schedule | None = None
    pretraining_instructions: Annotated[float, Field(gt=0, lt=1)] | None = None
    loop: LoopSettings = LoopSettings()
    n_validation: PositiveInt = 512

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [size.name for size in self.sizes]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"size {repeated[0]!r} is in grid {self.name!r} twice; give every size its own name")
        for method in (*self.methods, *self.learning_rates, *self.width_exponents):
            known_method(method)
        self._known(self.held_out_sizes, names, "held-out size")
        return self

    def runs(
        self,
        sizes: Iterable[str] | None = None,
        methods: Iterable[str] | None = None,
        seeds: Iterable[int] | None = None,
    ) -> tuple[RunSpec, ...]:
        """Return the grid's runs, size by size, then method by method, then seed by seed.

        Parameters
        ----------
        sizes, methods : iterable of str, optional
            Keep these only; all without it. The order is the grid's, whatever the order here.
        seeds : iterable of int, optional
            Likewise.

        Returns
        -------
        tuple of RunSpec
            One specification for each run.

        Raises
        ------
        ValueError
            If a size, method or seed is not in the grid; the message names the choices.
        """
        size_names = self._known(sizes, [size.name for size in self.sizes], "size")
        methods = None if methods is None else [known_method(method) for method in methods]
        method_names = self._known(methods, self.methods, "tuning method")
        chosen_seeds = self._known(seeds, self.seeds, "seed")
        return tuple(
            RunSpec(
                grid=self.name,
                size=size,
                tuning=Tuning.for_width(method, size.d_model),
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
