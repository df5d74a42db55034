"""Models that a data set lacks, filled in from the data sets that they have: all on one scale.

On the logit scale what the score of model i on data set d lies above chance is additive, with a slope in the log of the
size that is the data set's own: z_di = a_d + b_d x_i + t_i + e_di. The ability t_i is what a model's other scores say
of it; e_di has the binomial variance of the problems and what the sum leaves over, by the method of Paule and Mandel
(1982); where cells that are left out are missed by more than that, intervals are as wide as these errors ask for. What
is filled in is an estimate and is called so; it enters no fit, mean or rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import t as student

from astraios_analysis.records.counts import inside_unit_interval, open_ends
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, chance_level
from astraios_analysis.scores.bootstrap import NO_RESAMPLES
from astraios_analysis.scores.models import model_scores, require_one_grid

KINDS = ("generation", "robustness")
# Models of a data set, so that its level and slope rest on more than a few of them.
MIN_MODELS = 6
MEASURED, ESTIMATE = "measured", "estimate"


def score_cells(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return the measured cells: ``dataset, method, size, n_params_base, metric, value, n_items, higher_is_better``."""
    require_one_grid(records)
    parts = []
    for name, data in DATASETS.items():
        if data.kind in KINDS and not data.parts:
            scores = model_scores([r for r in records if not r.held_out], name, NO_RESAMPLES)
            if len(scores.table) >= MIN_MODELS and scores.table["n_params_base"].nunique() > 1:
                columns = scores.table[["method", "size", "n_params_base", "value", "n_items"]]
                ways = {"metric": scores.metric, "higher_is_better": scores.higher_is_better}
                parts.append(columns.assign(dataset=name, **ways))
    if len(parts) < 2:
        raise Refusal(
            f"filling in needs two data sets of programs with {MIN_MODELS} models each, at two sizes; add scores"
        )
    return pd.concat(parts, ignore_index=True)


def complete(cells: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return measured cells, and estimates of those that are missing, with intervals for what scoring them would give.

    ``cells`` are those of `score_cells`. Added are ``lower, upper, level`` and ``kind``, measured or estimate.
    """
    models = cells[["method", "size", "n_params_base"]].drop_duplicates()
    all_cells = cells[["dataset", "metric", "higher_is_better"]].drop_duplicates().merge(models, how="cross")
    whole = all_cells.merge(cells, how="left")
    known = whole["value"].notna().to_numpy()
    turned = whole["higher_is_better"].to_numpy(dtype=bool)
    share = np.where(turned, whole["value"], 1 - whole["value"]).astype(float)
    items = whole.groupby("dataset")["n_items"].transform("mean").to_numpy(dtype=float)
    chance = np.array([chance_level(*cell) or 0.0 for cell in zip(whole["dataset"], whole["metric"], strict=True)])
    chance = np.where(turned, chance, 0.0)
    above = np.clip((share - chance) / (1 - chance), 0, 1)
    z = logit(inside_unit_interval(above[known], items[known]))
    found = _Sum.of(_design(whole), known, z, items, chance)
    turned, items, chance = (one[~known] for one in (turned, items, chance))
    mean, spread = found.predict(~known)
    at = chance + (1 - chance) * expit(mean)
    half = found.quantile(level) * np.sqrt(found.scale * (spread + found.between + _noise(mean, items, chance)))
    ends = open_ends(chance + (1 - chance) * expit(np.array([mean - half, mean + half])), items)
    whole.loc[~known, "value"] = np.where(turned, at, 1 - at)
    whole.loc[~known, "lower"] = np.where(turned, ends[0], 1 - ends[1])
    whole.loc[~known, "upper"] = np.where(turned, ends[1], 1 - ends[0])
    kind = np.where(known, MEASURED, ESTIMATE)
    return whole.drop(columns="higher_is_better").assign(level=level, kind=kind)


def _noise(z: np.ndarray, items: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Return the binomial variance of the logit of what lies above chance, no closer to its ends than a thousandth."""
    above = np.clip(expit(z), 1e-3, 1 - 1e-3)
    share = chance + (1 - chance) * above
    return share * (1 - share) / (items * ((1 - chance) * above * (1 - above)) ** 2)


@dataclass(frozen=True)
class _Sum:
    """The sum fitted to the known cells: parameters, their covariance, and how each cell is met when it is left out.

    ``between`` is the variance beyond the noise, ``scale`` what all variances are multiplied with, ``left_out`` the
    sizes of errors of left-out cells in units of the standard error that an estimate there would be given.
    """

    design: np.ndarray
    theta: np.ndarray
    covariance: np.ndarray
    between: float
    scale: float
    dof: float
    left_out: np.ndarray

    @classmethod
    def of(cls, design: np.ndarray, known: np.ndarray, z: np.ndarray, items: np.ndarray, chance: np.ndarray) -> "_Sum":
        """Fit by weighted least squares; leaving a cell out is exact by its leverage."""
        from statsmodels.regression.linear_model import WLS  # Loads slowly.

        items, chance = items[known], chance[known]
        noise = _noise(z, items, chance)
        between = _between(design[known], z, noise)
        fitted = WLS(z, design[known], weights=1 / (between + noise)).fit()
        # Where models answer the same problems, fewer outcomes differ than problems alone would have it.
        scale = fitted.scale if between == 0 else 1.0
        spread = np.einsum("ij,jk,ik->i", design[known], fitted.normalized_cov_params, design[known])
        rest = 1 - spread / (between + noise)
        rest[rest <= 1e-6] = np.nan
        error = fitted.resid / rest
        own = spread / rest + between + _noise(z - error, items, chance)
        left_out = np.abs(error) / np.sqrt(scale * own)
        numbers = (fitted.params, fitted.normalized_cov_params, between, scale, float(fitted.df_resid))
        return cls(design, *numbers, left_out[np.isfinite(left_out)])

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances (before the scale) of the sum at rows of the design."""
        own = self.design[rows]
        return own @ self.theta, np.einsum("ij,jk,ik->i", own, self.covariance, own)

    def quantile(self, level: float) -> float:
        """Return Student's t or, where left-out cells were missed by more, the quantile of their errors."""
        return max(float(student.ppf((1 + level) / 2, self.dof)), float(np.quantile(self.left_out, level)))


def _design(whole: pd.DataFrame) -> np.ndarray:
    """Return levels of data sets, of models and slopes of data sets, the last two against those of the first."""
    x = np.log10(whole["n_params_base"].to_numpy(dtype=float))
    data = pd.get_dummies(whole["dataset"], dtype=float).to_numpy()
    models = pd.get_dummies(whole["size"] + "/" + whole["method"], dtype=float).to_numpy()
    slopes = data * (x - x.mean())[:, None]
    return np.column_stack([data, models[:, 1:], slopes[:, 1:]])


def _between(design: np.ndarray, z: np.ndarray, noise: np.ndarray) -> float:
    """Return the variance beyond the noise at which residuals are as large as expected; 0 where noise explains all."""
    rank = np.linalg.matrix_rank(design)
    if rank < design.shape[1]:
        raise Refusal(
            "data sets share no models at two sizes, so that nothing puts them on one scale; score a model on both"
        )
    dof = len(z) - rank
    if dof < 1:
        raise Refusal("every score is needed to place a model or a data set; nothing shows how far an estimate falls")

    def excess(variance: float) -> float:
        root = 1 / np.sqrt(variance + noise)
        theta = np.linalg.lstsq(design * root[:, None], z * root, rcond=None)[0]
        return float((((z - design @ theta) * root) ** 2).sum() - dof)

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 10 * float(z.var()) + 1))
