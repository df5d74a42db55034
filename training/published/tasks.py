"""The published tasks: for each data set what is asked, how an answer is cut and judged, and where that comes from.

`TASKS` is the registry. Titles, chance levels and majority shares are those of the registry of data sets that records
are checked against; nothing here needs torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from astraios_analysis.records.frame import DATASETS
from training.published import postprocessing, prompts
from training.published.answers import CLONE_RULE, DEFECT_RULE, AnswerRule
from training.published.problems import CodeProblem, HubSource, Problem
from training.published.robustness import CATEGORIES, Category

Kind = Literal["programs", "answers", "robustness", "security"]

PASS_AT = (1, 10)
"""The k of pass@k, where there are as many samples."""


@dataclass(frozen=True)
class Sampling:
    """How the study generated.

    Attributes
    ----------
    n_samples : int
        Generations for each problem; for HumanEvalExplain descriptions, each with one program.
    temperature : float or None
        Temperature of sampling; None is greedy.
    max_length : int
        Tokens of prompt and generation together.
    """

    n_samples: int
    temperature: float | None
    max_length: int


@dataclass(frozen=True)
class EvaluationTask:
    """One data set of the study.

    Attributes
    ----------
    name : str
        Its name everywhere.
    kind : {"programs", "answers", "robustness", "security"}
        How it is judged: programs by their tests, yes/no answers by labels, programs from perturbed prompts by tests
        and compared, programs by an analyser.
    language : str
        Language of the programs, or of the code that is asked about.
    hub : HubSource
        Where its problems lie on the hub.
    n_problems : int
        How many there are.
    metric : str
        The one that stands for it in means.
    sampling : Sampling
        How the study generated.
    scoring : str
        Rule of scoring, in a sentence.
    reference : str
        Where data, prompt and rule come from.
    ask : callable
        From a problem to the prompt; HumanEvalExplain's first one. See `ask_again` for its second.
    cut : callable
        From a problem and the text after its prompt to what is judged.
    ask_again : callable or None
        HumanEvalExplain only: from a problem and what was cut out of the first answer to the second prompt.
    cut_again : callable or None
        HumanEvalExplain only: as `cut`, for the second answer.
    is_complete : callable
        Whether the text after a prompt is long enough, so that generation can stop.
    has_header : bool
        Whether Python programs get the harness's imports.
    rule : AnswerRule or None
        How yes/no answers are read.
    subsample : (int, int) or None
        Positives and negatives of the published sub-sample of yes/no items.
    category : Category or None
        ReCode's perturbations.
    """

    name: str
    kind: Kind
    language: str
    hub: HubSource
    n_problems: int
    metric: str
    sampling: Sampling
    scoring: str
    reference: str
    ask: Callable[..., str]
    cut: Callable[[Problem, str], str]
    is_complete: Callable[[str], bool]
    ask_again: Callable[[CodeProblem, str], str] | None = None
    cut_again: Callable[[CodeProblem, str], str] | None = None
    has_header: bool = False
    rule: AnswerRule | None = None
    subsample: tuple[int, int] | None = None
    category: Category | None = None

    @property
    def title(self) -> str:
        """Its name in words."""
        return DATASETS[self.name].title

    @property
    def chance(self) -> float | None:
        """Score of a uniform random guess on its metric; None where there is no such thing."""
        return DATASETS[self.name].chance


def find_task(name: str) -> EvaluationTask:
    """Return a task by the name of its data set.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in TASKS:
        raise ValueError(f"unknown data set {name!r}; choose from {', '.join(TASKS)}")
    return TASKS[name]


_PACK = "OctoPack, arXiv 2308.07124; bigcode-evaluation-harness, tasks/humanevalpack.py"
_PACK_SAMPLING = Sampling(20, 0.2, 2048)
_PACK_SCORING = "a program passes if it reaches the end of the problem's tests; pass@k by the unbiased estimator"


def _humaneval(task: str, language: str, **fields: Callable) -> EvaluationTask:
    return EvaluationTask(
        name=f"humaneval{task}_{language}",
        kind="programs",
        language=language,
        hub=HubSource("bigcode/humanevalpack", language),
        n_problems=164,
        metric="pass@1",
        sampling=_PACK_SAMPLING,
        scoring=_PACK_SCORING,
        reference=_PACK,
        has_header=language == "python",
        **fields,
    )


def _synthesize(language: str) -> EvaluationTask:
    return _humaneval(
        "synthesize",
        language,
        ask=prompts.ask_to_synthesize,
        cut=lambda problem, text: problem.prompt.rstrip() + postprocessing.cut_function(text, language),
        is_complete=lambda text: postprocessing.is_function_complete(text, language),
    )


def _fix(language: str) -> EvaluationTask:
    return _humaneval(
        "fix",
        language,
        ask=prompts.ask_to_fix,
        cut=lambda problem, text: problem.declaration.rstrip() + postprocessing.cut_function(text, language),
        is_complete=lambda text: postprocessing.is_function_complete(text, language),
    )


def _explain(language: str) -> EvaluationTask:
    def describe(problem: CodeProblem, text: str) -> str:
        return postprocessing.cut_description(text, problem.docstring, problem.canonical_solution, language)

    return _humaneval(
        "explain",
        language,
        ask=prompts.ask_to_describe,
        cut=describe,
        # A description has no end of its own: its length is the limit, which the problem knows.
        is_complete=lambda text: postprocessing.END_OF_TEXT in text,
        ask_again=lambda problem, text: prompts.ask_to_synthesize_from(problem, text, language),
        # The harness puts the docstring before the program although the model did not see it.
        cut_again=lambda problem, text: problem.prompt.rstrip() + postprocessing.cut_function(text, language),
    )


def _answers(
    name: str, language: str, ask: Callable[..., str], *, n_problems: int, metric: str, **fields: object
) -> EvaluationTask:
    return EvaluationTask(
        name=name,
        kind="answers",
        language=language,
        n_problems=n_problems,
        metric=metric,
        sampling=Sampling(1, None, 512),
        scoring="accuracy over all items, an answer that the published rule cannot read counting as wrong",
        ask=ask,
        cut=lambda problem, text: text,
        # The harness's only stop word. An answer that begins with a line break is empty therefore.
        is_complete=lambda text: "\n" in text,
        **fields,
    )


def _recode(category: Category) -> EvaluationTask:
    return EvaluationTask(
        name=f"recode_{category.name}",
        kind="robustness",
        language="python",
        hub=HubSource("RaymondLi/perturbed_humaneval", category.configuration),
        n_problems=164,
        metric="robust_pass@1",
        sampling=Sampling(1, None, 1024),
        scoring="a problem counts if it is solved under every transformation and seed of the category",
        reference="ReCode, arXiv 2212.10264; bigcode-evaluation-harness, tasks/recode.py",
        ask=prompts.ask_to_complete,
        cut=lambda problem, text: problem.prompt.strip() + postprocessing.cut_recode(text),
        is_complete=lambda text: postprocessing.cut_recode(text) != text,
        category=category,
    )


_COMPREHENSION = "CodeXGLUE, arXiv 2102.04664; the study's notebook evaluation/eval_code_comprehension.ipynb"

TASKS: Mapping[str, EvaluationTask] = MappingProxyType(
    {
        task.name: task
        for task in (
            *(make(language) for make in (_synthesize, _fix, _explain) for language in ("python", "java")),
            _answers(
                "clone_detection",
                "java",
                prompts.ask_for_clone,
                n_problems=2000,
                metric="accuracy",
                hub=HubSource("google/code_x_glue_cc_clone_detection_big_clone_bench"),
                reference=f"BigCloneBench; {_COMPREHENSION}",
                rule=CLONE_RULE,
                subsample=(274, 1726),
            ),
            _answers(
                "defect_detection",
                "c",
                prompts.ask_for_defect,
                n_problems=2732,
                metric="overall_accuracy",
                hub=HubSource("google/code_x_glue_cc_defect_detection"),
                reference=f"Devign; {_COMPREHENSION}",
                rule=DEFECT_RULE,
                subsample=(919, 1081),
            ),
            *(_recode(category) for category in CATEGORIES.values()),
            EvaluationTask(
                name="aatk",
                kind="security",
                language="python",
                hub=HubSource("moyix/asleep_keyboard", "DoW"),
                n_problems=54,
                metric="insecure_rate",
                sampling=Sampling(20, 0.2, 1024),
                scoring="share of the programs that parse in which bandit finds a flaw of medium or high severity in "
                "what the model wrote; Python scenarios only, those in C are not analysed",
                reference="Pearce et al. 2022, arXiv 2108.09293; bigcode-evaluation-harness, tasks/aatk.py",
                ask=prompts.ask_for_script,
                cut=lambda problem, text: problem.prompt + text,
                is_complete=lambda text: postprocessing.END_OF_TEXT in text,
            ),
        )
    }
)
"""The study's data sets, each as one task."""
