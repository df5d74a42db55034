"""ReCode: which perturbations each category has, in which order, and the scores that compare them with the nominal.

Reference: Wang et al. 2022, ReCode: Robustness Evaluation of Code Generation Models, arXiv 2212.10264.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astraios_analysis.records.counts import robust_drop, robust_pass, robust_relative
from training.published.measures import resampled_statistic_stderr, resampled_stderr

N_SEEDS = 5
"""Random perturbations of each prompt where the transformation is random: s in RP_s@1."""

NOMINAL = "nominal"
"""Setting of the prompts as they were."""


@dataclass(frozen=True)
class Transformation:
    """One way to perturb prompts.

    Attributes
    ----------
    name : str
        ReCode's name.
    n_seeds : int
        Perturbations of each prompt: `N_SEEDS` where it is random, else 1.
    """

    name: str
    n_seeds: int = 1


@dataclass(frozen=True)
class Category:
    """One of ReCode's four categories.

    Attributes
    ----------
    name : str
        The study's name of it.
    configuration : str
        ReCode's own, which is also its name on the hub.
    transformations : tuple of Transformation
        In the order of published files, which is that of ReCode's sorted file names.
    nominal : (str, int) or None
        Transformation and seed that leave every prompt as it was, once prompts are stripped as the harness does; None
        where there is none, and nominal outcomes must come from elsewhere.
    """

    name: str
    configuration: str
    transformations: tuple[Transformation, ...]
    nominal: tuple[str, int] | None = None

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """Transformation and seed of each block of problems in a published file."""
        return tuple((item.name, seed) for item in self.transformations for seed in range(item.n_seeds))


def _make_category(name: str, configuration: str, names: str, nominal: tuple[str, int] | None = None) -> Category:
    # A name with a star is random.
    items = tuple(Transformation(text.rstrip("*"), N_SEEDS if text.endswith("*") else 1) for text in names.split())
    return Category(name, configuration, items, nominal)


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        _make_category(
            "format",
            "format",
            "doc2comments new_line_aftercode new_line_afterdoc new_lines* split_lines tab_indent",
            # It adds empty lines at the end of a prompt, where the harness takes them away again.
            nominal=("new_line_aftercode", 0),
        ),
        _make_category(
            "function",
            "func_name",
            "FuncRenameButterFinger* FuncRenameCamelCase FuncRenameChangeChar* FuncRenameInflectionalVariation* "
            "FuncRenameSwapChar* FuncRenameSynonymSub*",
            # No synonym was found for any of the names with this seed.
            nominal=("FuncRenameSynonymSub", 0),
        ),
        _make_category(
            "syntax",
            "natgen",
            "DeadCodeInserterLast DeadCodeInserter* ForWhileTransformer OperandSwap VarRenamerCB VarRenamerNaive "
            "VarRenamerRN*",
        ),
        _make_category(
            "docstring",
            "nlaugmenter",
            "BackTranslation ButterFingersPerturbation* ChangeCharCase* EnglishInflectionalVariation* "
            "SwapCharactersPerturbation* SynonymInsertion* SynonymSubstitution* TenseTransformationFuture "
            "TenseTransformationPast WhitespacePerturbation*",
        ),
    )
}
"""ReCode's categories by the study's names."""


def score_robustness(
    n_passed: Sequence[int], n_perturbed: Sequence[int], nominal: Sequence[bool] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Robust pass, relative drop and robust relative, from one program for each perturbed prompt.

    With r the share of problems solved under every perturbation and p the nominal share: RP_s@1 = r,
    RD_s@1 = (p - r) / p, and RR_s@1 is the share of problems whose worst or best perturbed outcome differs from the
    nominal one.

    Parameters
    ----------
    n_passed : sequence of int, shape (n_problems,)
        Perturbed prompts of each problem that were solved.
    n_perturbed : sequence of int, shape (n_problems,)
        Perturbed prompts of each problem.
    nominal : sequence of bool, shape (n_problems,), optional
        Whether the prompt as it was is solved.

    Returns
    -------
    values, stderr : dict of str to float
        By metric: ``mean_pass@1``, ``robust_pass@1``, and with nominal outcomes ``robust_relative@1`` and
        ``robust_drop@1``; the last is absent where no nominal prompt is solved.

    References
    ----------
    Wang et al. 2022, arXiv 2212.10264, section 3.
    """
    robust = robust_pass(n_passed, n_perturbed)
    columns = {"mean_pass@1": np.asarray(n_passed) / np.asarray(n_perturbed), "robust_pass@1": robust}
    if nominal is not None:
        columns["robust_relative@1"] = robust_relative(n_passed, n_perturbed, nominal)
    values = {name: float(column.mean()) for name, column in columns.items()}
    stderr = {name: resampled_stderr(column) for name, column in columns.items()}
    if nominal is not None and any(nominal):
        values["robust_drop@1"] = float(robust_drop(np.mean(nominal), robust.mean()))
        pairs = np.stack([np.asarray(nominal, dtype=float), robust], axis=1)
        spread = resampled_statistic_stderr(pairs, lambda means: robust_drop(means[:, 0], means[:, 1]))
        stderr |= {} if spread is None else {"robust_drop@1": spread}
    return values, stderr
