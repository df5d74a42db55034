"""The study's claims and the rules by which each is judged, as data. `docs/claims.md` says the same in prose."""

from dataclasses import dataclass
from typing import Literal, get_args

from astraios_analysis.scores.contrasts import OTHER, THESE

Verdict = Literal["supported", "contradicted", "mixed", "not supported", "not known", "not testable here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
SCOPES = (THESE, OTHER)

ALPHA = 0.05
LEVEL = 0.95
MIN_METHODS = 4
# Sizes that carry a trend; fewer leave no error that is worth the name.
MIN_SIZES = 4
# Programs of a model below which a share of them says nothing.
MIN_PROGRAMS = 30
# A tenfold cost is worth this share of full fine-tuning's score.
PRICE = 0.1

VERDICT_RULE = (
    "supported: the effect is positive and its p-value, Holm-corrected over the claims tested in the same scope on the "
    "same records, is below 0.05; no part contradicts it (Holm-corrected over parts of a kind), and it stays positive "
    "whichever data set is left out. "
    "contradicted: the same of the opposite, where the claim has one. "
    "mixed: the corrected p-value is below 0.05 either way, but a part or a left-out data set says otherwise; or it is "
    "not, but a part on its own supports the claim. "
    "not supported: otherwise. "
    "not known: there is one run a model, so that other runs are not known; the run-to-run SD at which the conclusion "
    "on these models would turn is given. "
    "not testable here: the records lack what the rule needs, or the interval leaves the range of a share."
)


@dataclass(frozen=True)
class Claim:
    """A claim of the study: what is estimated (positive values speak for it), what parts are, and the test in full.

    ``counted`` says what the ``n`` of its evidence counts: methods, models or sizes.
    """

    name: str
    statement: str
    effect: str
    unit: str
    part: str
    counted: str
    rule: str


CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            "fft_best",
            "Full fine-tuning performs best, across scales.",
            "full fine-tuning's mean score less that of the strongest other method",
            "score",
            "data set; size",
            "methods",
            "For each other method, the difference of scores from full fine-tuning, averaged over sizes and then over "
            "data sets with a vote. All differences must be positive: the p-value is the largest of theirs "
            "(intersection-union). The opposite is that some method is better: the smallest p-value, times the number "
            "of methods. A size is the mean over the data sets that all its methods share.",
        ),
        Claim(
            "lora_tradeoff",
            "LoRA offers the best trade-off between cost and performance.",
            "LoRA's net score less that of the strongest other method; net of cost, a tenfold of which is worth a "
            "tenth of full fine-tuning's score",
            "score",
            "data set; size; cost",
            "methods",
            "As for fft_best, with the score less a tenth of full fine-tuning's for each tenfold of recorded cost: "
            "floating-point operations, peak memory and seconds, averaged over those by which the methods differ; "
            "updated parameters where none is recorded. The price is a choice; the detail gives the effect without "
            "it.",
        ),
        Claim(
            "methods_differ_by_scale",
            "How well the methods do relative to each other depends on the size.",
            "standard deviation of the methods' slopes beyond noise",
            "score per tenfold parameters",
            "data set",
            "methods",
            "Each method's slope of the score against log10 of the base parameters, less the mean of all methods', "
            "averaged over the data sets with a vote that share the most models; a chi-square test that all are 0, "
            "with their covariance over resampled problems. The interval is that of the noncentrality. Nothing counts "
            "as the opposite.",
        ),
        Claim(
            "larger_less_robust",
            "Larger models are less robust.",
            "change of the relative robust drop",
            "drop per tenfold parameters",
            "category of changed prompts",
            "sizes",
            "The relative drop (nominal - robust) / nominal under all transformations of a category, averaged over the "
            "methods measured at every size, and over categories with a vote; slope against log10 of the base "
            "parameters. These models: problems resampled. Other models: a t test over four sizes or more.",
        ),
        Claim(
            "larger_less_secure",
            "Larger models write less secure programs.",
            "change of the insecure share from the smaller to the larger size",
            "share",
            "method",
            "methods",
            "The share of valid programs with a flaw, by the rules that concern a scenario's own weakness where they "
            "are known, at the two sizes farthest apart that share the most methods: difference paired by method, "
            "averaged. A model with fewer than 30 valid programs takes no part.",
        ),
        Claim(
            "small_carries_over",
            "What is seen of the methods on small models carries over to large ones.",
            "mean Spearman correlation of the order of methods at each smaller size with that at the largest",
            "correlation",
            "data set",
            "methods",
            "The correlation is averaged over the smaller sizes and then over the data sets with a vote that share the "
            "most models. The p-value is from permuting the methods' names at the largest size, all orders or 20,000 "
            "of them, the same order for all data sets. The interval is of noise-free scores (shrunk, then ranked).",
        ),
        Claim(
            "loss_indicates",
            "Validation loss indicates downstream performance.",
            "mean Spearman correlation of validation loss with the score among the methods of a size, sign turned",
            "correlation",
            "data set; size",
            "models",
            "The correlation among the methods of each size, seeds averaged, averaged over sizes and then over data "
            "sets with a vote: what a method would be chosen by. The p-value is from 5,000 permutations of methods "
            "within sizes, the same for all data sets. Other models: a t test over four sizes or more.",
        ),
    )
}
