"""What comes of scoring a data set: metrics with standard errors and the counts problem by problem, in every form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from astraios_analysis.records.frame import ProblemCounts, Score, chance_level

# Metrics that can be the plain mean of a data set's counts: with the first that is, the counts are stored in a record.
_MEANS = ("mean_pass@1", "pass@1", "overall_accuracy", "accuracy")
_SAME = 1e-9


@dataclass(frozen=True)
class ProblemCount:
    """Outcomes of one problem.

    Attributes
    ----------
    problem_id : int
        Its place in the problem set, from 0.
    n_samples, n_passed : int
        Programs or answers that were scored, and how many of them were right.
    """

    problem_id: int
    n_samples: int
    n_passed: int


@dataclass(frozen=True)
class Part:
    """Scores of one setting of a data set.

    Attributes
    ----------
    values : mapping of str to float
        Value of each metric.
    stderr : mapping of str to float
        Standard error over problems of those that have one.
    per_problem : tuple of ProblemCount
        In the order of the problem set.
    """

    values: Mapping[str, float]
    stderr: Mapping[str, float]
    per_problem: tuple[ProblemCount, ...]

    @property
    def n_samples(self) -> int:
        """Programs or answers that were scored, over all problems."""
        return sum(count.n_samples for count in self.per_problem)

    def counts_to_json(self) -> list[dict[str, int]]:
        """Return the counts as plain values, in their order."""
        return [
            {"problem_id": count.problem_id, "n_samples": count.n_samples, "n_passed": count.n_passed}
            for count in self.per_problem
        ]


@dataclass(frozen=True)
class Report:
    """Scores of one data set.

    Attributes
    ----------
    dataset, language : str
        What was scored.
    metric : str
        The metric that stands for the data set in means.
    whole : Part
        Scores over everything that was read.
    settings : mapping of str to Part
        Scores of parts that have a name: a published sub-sample, ReCode's transformations.
    sandbox : str or None
        What contained the programs; None where none was executed.
    details : mapping of str to object
        What else belongs into the JSON form.
    notes : tuple of str
        What a reader of the table must know.
    """

    dataset: str
    language: str
    metric: str
    whole: Part
    settings: Mapping[str, Part] = field(default_factory=dict)
    sandbox: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values: the interface of ``python -m training score --json``."""
        settings = [
            {
                "setting": name,
                "n_problems": len(part.per_problem),
                "n_samples": part.n_samples,
                **part.values,
                "stderr": dict(part.stderr),
                "per_problem": part.counts_to_json(),
            }
            for name, part in self.settings.items()
        ]
        return {
            "dataset": self.dataset,
            "language": self.language,
            "n_problems": len(self.whole.per_problem),
            "n_samples": self.whole.n_samples,
            "primary_metric": self.metric,
            **self.whole.values,
            "stderr": dict(self.whole.stderr),
            **self.details,
            **({"settings": settings} if settings else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            "sandbox": self.sandbox,
            "per_problem": self.whole.counts_to_json(),
        }

    def to_table(self) -> str:
        """Return the report as a table for people."""
        rows = [("setting", "metric", "value", "stderr")]
        for setting, part in {"all": self.whole, **self.settings}.items():
            for name, value in part.values.items():
                error = part.stderr.get(name)
                rows.append((setting, name, f"{value:.4f}", "" if error is None else f"{error:.4f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{setting:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}  {error:>{widths[3]}}".rstrip()
            for setting, name, value, error in rows
        ]
        head = f"{self.dataset}: {len(self.whole.per_problem)} problems, {self.whole.n_samples:,} samples"
        where = f"programs were executed in: {self.sandbox}" if self.sandbox else "no program was executed"
        foot = f"stderr: over problems, which are resampled; {where}"
        return "\n".join([head, "", *lines, "", *self.notes, foot])

    def to_scores(self, setting: str, source_file: str | None = None) -> tuple[Score, ...]:
        """Return the report as scores of a record.

        Parameters
        ----------
        setting : str
            Under which condition the data set was asked. ReCode's transformations are settings of their own; any
            other part of the report is this setting, a stroke, and the part's name.
        source_file : str, optional
            The file that was scored.

        Returns
        -------
        tuple of Score
            The counts are stored with the metric that is their plain mean.
        """
        is_robustness = self.dataset.startswith("recode")
        parts = {setting: self.whole} | {
            name if is_robustness else f"{setting}/{name}": part for name, part in self.settings.items()
        }
        return tuple(
            self._make_score(name, part, metric, source_file) for name, part in parts.items() for metric in part.values
        )

    def _make_score(self, setting: str, part: Part, metric: str, source_file: str | None) -> Score:
        n_problems = len(part.per_problem)
        mean = sum(count.n_passed / count.n_samples for count in part.per_problem) / n_problems
        carrier = next((name for name in _MEANS if abs(part.values.get(name, -1.0) - mean) < _SAME), None)
        counts = ProblemCounts(
            problem_ids=tuple(count.problem_id for count in part.per_problem),
            n_samples=tuple(count.n_samples for count in part.per_problem),
            n_passed=tuple(count.n_passed for count in part.per_problem),
        )
        return Score(
            dataset=self.dataset,
            language=self.language,
            setting=setting,
            metric=metric,
            value=part.values[metric],
            stderr=part.stderr.get(metric),
            chance=chance_level(self.dataset, metric),
            n_items=n_problems,
            n_samples=part.n_samples,
            problems=counts if metric == carrier else None,
            source="measured",
            source_file=source_file,
        )


def make_counts(n_samples: list[int], n_passed: list[int]) -> tuple[ProblemCount, ...]:
    """Return counts of problems in their order, numbered from 0."""
    return tuple(
        ProblemCount(place, samples, passed)
        for place, (samples, passed) in enumerate(zip(n_samples, n_passed, strict=True))
    )
