"""What is asked for the study's data sets, the layout of answers as it was published, and scores as records hold them.

Importable without torch: models that answer are `training.grid.published`'s.
"""

import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from astraios_analysis.records.files import write_whole
from astraios_analysis.records.frame import METRICS, ProblemCounts, RunRecord, Score, chance_level
from astraios_analysis.records.reading import parse_json, read_text
from astraios_analysis.records.refusal import Refusal
from training.published.measures import Part, Report, read_answer
from training.published.problems import Problem
from training.published.scorers import make_blocks
from training.published.tasks import EvaluationTask, Sampling, find_task, task_problems

WRITING_VERSION = 2
"""Of what is generated: raised when the same model would write something else."""

NOTES = "scores"
"""Where a record's ``provenance.spec`` holds a note for every measure that was taken."""


@dataclass(frozen=True)
class Writing:
    """What is asked of a model, and how it answers; what is left out is as the study has it."""

    dataset: str
    # From the hub without a file.
    problems: Path | None = None
    n_samples: int | None = None
    temperature: float | None = None
    max_length: int | None = None
    # Yes/no questions: after one example with its answer, the first problem, which is then not asked.
    one_shot: bool = False
    first: int | None = None
    seed: int = 0
    tokens_per_batch: int | None = None

    @property
    def sampling(self) -> Sampling:
        """How samples are drawn; greedy ones are one."""
        usual = find_task(self.dataset).sampling
        temperature = (usual.temperature or 0.0) if self.temperature is None else self.temperature
        n_samples = self.n_samples or (usual.n_samples if temperature else 1)
        return Sampling(n_samples, temperature, self.max_length or usual.max_length)

    @property
    def setting(self) -> str:
        """What records call this way of asking and answering."""
        task, sampling = find_task(self.dataset), self.sampling
        if task.kind == "answers":
            return "one_shot" if self.one_shot else "zero_shot"
        return f"t{sampling.temperature:g},n{sampling.n_samples}" if sampling.temperature else "greedy"


def asked(writing: Writing) -> tuple[list[Problem], list[str]]:
    """Return problems in the order of the published files, and the prompt of each."""
    task = find_task(writing.dataset)
    problems, _ = task_problems(task, writing.problems)
    if task.category is not None:
        if all(problem.perturbation is None for problem in problems):
            raise Refusal(f"{task.name} asks with perturbed prompts, and the problems have none; give ReCode's own")
        problems = [problem for block in make_blocks(task.category, problems).values() for problem in block]
    example = ()
    if writing.one_shot:
        if task.kind != "answers":
            raise Refusal(f"an example goes before yes/no questions only, and {task.name} has none; leave it out")
        example, problems = (problems[0],), problems[1:]
    problems = problems[: writing.first]
    return problems, [task.ask(problem, *example) for problem in problems]


def laid_out(
    task: EvaluationTask,
    problems: Sequence[Problem],
    prompts: Sequence[str],
    texts: Sequence[Sequence[str]],
    again: Callable[[list[str]], list[str]],
) -> list[list[Any]]:
    """Return what follows the prompts in the layout that the study published."""
    pairs = list(zip(problems, prompts, texts, strict=True))
    if task.kind == "answers":
        return [
            [
                {
                    "ID": place,
                    "prediction": str(read_answer(text, task.rule)),
                    "true_label": str(problem.label),
                    "raw_text": text,
                }
            ]
            for place, (problem, _, (text,)) in enumerate(pairs)
        ]
    if task.kind == "security":
        return [
            [{"scenario_id": problem.scenario_id, "prompt": prompt, "completion": text} for text in several]
            for problem, prompt, several in pairs
        ]
    cut = [[task.cut(problem, text) for text in several] for problem, _, several in pairs]
    if task.ask_again is None:
        return cut
    asked_of = [(problem, text) for problem, several in zip(problems, cut, strict=True) for text in several]
    answers = again([task.ask_again(problem, text) for problem, text in asked_of])
    return [[task.cut_again(problem, text)] for (problem, _), text in zip(asked_of, answers, strict=True)]


def lay_out_texts(writing: Writing, texts: Path, path: Path) -> Path:
    """Put what another program wrote after the prompts, a list of texts a line, into the published layout."""
    task = find_task(writing.dataset)
    problems, prompts = asked(writing)
    lines = [(place, line) for place, line in enumerate(read_text(texts).split("\n"), 1) if line.strip()]
    several = [parse_json(texts, line, f"line {place}") for place, line in lines]
    if len(several) != len(prompts):
        raise Refusal(f"{texts}: has {len(several)} lines for {len(prompts)} prompts; give one list of texts a line")
    for (place, _), one in zip(lines, several, strict=True):
        if not (isinstance(one, list) and one and all(isinstance(text, str) for text in one)):
            raise Refusal(f"{texts}: line {place} is no list of texts; give one list of texts a line")
        if task.kind == "answers" and len(one) > 1:
            raise Refusal(f"{texts}: line {place} has {len(one)} texts; each question is answered once, greedily")

    def refuse(prompts: list[str]) -> list[str]:
        raise Refusal(f"{task.name} asks again with what was answered first; generate it here")

    write_whole(path, json.dumps(laid_out(task, problems, prompts, several, refuse)))
    return path


def published_scores(report: Report, setting: str) -> tuple[Score, ...]:
    """Return a report's scores as records hold them, under the registry's names of settings."""
    task = find_task(report.dataset)
    whole = "all_transformations" if task.kind == "robustness" else setting
    if task.name == "defect_detection":
        whole = f"{setting}/full{len(report.whole.per_problem)}"
    inner = "" if task.kind == "robustness" else f"{setting}/"
    parts = {whole: report.whole, **{f"{inner}{name}": part for name, part in report.settings.items()}}
    return tuple(
        _score(report, name, part, metric)
        for name, part in parts.items()
        for metric in part.values
        if metric in METRICS
    )


def _score(report: Report, setting: str, part: Part, metric: str) -> Score:
    shares = [count.n_passed / count.n_samples for count in part.per_problem]
    counts: dict[str, Any] = {}
    # Counts stand with the metric that is their mean.
    if abs(sum(shares) / len(shares) - part.values[metric]) < 1e-9 and metric != "parse_rate":
        ids, n_samples, n_passed = zip(*part.per_problem, strict=True)
        problems = ProblemCounts(problem_ids=ids, n_samples=n_samples, n_passed=n_passed)
        counts = {"n_samples": sum(n_samples), "n_passed": sum(n_passed), "problems": problems}
    return Score(
        dataset=report.dataset,
        language=report.language,
        setting=setting,
        metric=metric,
        value=part.values[metric],
        stderr=part.stderr.get(metric),
        chance=chance_level(report.dataset, metric),
        n_items=len(shares),
        source="measured",
        source_file=report.details.get("source_file"),
        **counts,
    )


def with_published(record: RunRecord, report: Report, setting: str, note: dict[str, JsonValue]) -> RunRecord:
    """Return a record with a data set's scores in place of those it had, and a note of how they were got."""
    scores = published_scores(report, setting)
    replaced = {score.key for score in scores}
    kept = tuple(score for score in record.scores if score.key not in replaced)
    note = {"version": WRITING_VERSION, "sandbox": report.sandbox, **note}
    return renewed(record, {**notes_of(record), report.dataset: note}, scores=(*kept, *scores))


def notes_of(record: RunRecord) -> Mapping[str, Any]:
    """Return the notes of the measures that a record has: version of the suite, containment, time, versions."""
    notes = (record.provenance.spec or {}).get(NOTES)
    return notes if isinstance(notes, dict) else {}


def note_of(model: Any, started: float, *packages: str) -> dict[str, JsonValue]:
    """Return what a note says of how a model was scored: device, time, and versions that may change what it scores."""
    return {
        "device": model.device.type,
        "seconds": round(time.perf_counter() - started, 3),
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: importlib.metadata.version(name) for name in ("astraios", "torch", *packages)},
    }


def renewed(record: RunRecord, notes: Mapping[str, Any], **fields: Any) -> RunRecord:
    """Return a record with other fields and the notes of all its measures, which say what contained their programs."""
    spec = {**(record.provenance.spec or {}), NOTES: dict(notes)}
    sandboxes = ", ".join(sorted({note["sandbox"] for note in notes.values() if note.get("sandbox")}))
    provenance = record.provenance.model_copy(update={"spec": spec, "sandbox": sandboxes or "none"})
    # Made anew and not copied: only then is it checked.
    kept = {name: getattr(record, name) for name in RunRecord.model_fields}
    return RunRecord(**{**kept, **fields, "provenance": provenance})
