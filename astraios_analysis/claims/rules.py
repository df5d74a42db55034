"""The study's claims and the rules by which each is judged: written down as data before anything is computed.

`docs/claims.md` says the same in prose; a test holds the two together.
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "not supported", "mixed", "not testable here"]
VERDICTS: tuple[Verdict, ...] = ("supported", "not supported", "mixed", "not testable here")

ALPHA = 0.05
LEVEL = 0.95
MIN_SIZES = 3
MIN_METHODS = 4
# LoRA must keep this share of full fine-tuning's score and update at most this share of the parameters.
RETAINED = 0.9
UPDATED_SHARE = 0.1

VERDICT_RULE = (
    "supported: the claim's p-value, Holm-corrected over the claims tested on the same records, is below 0.05, and no "
    "part contradicts it (p-value of the opposite, Holm-corrected over parts, below 0.05). "
    "mixed: the corrected p-value is below 0.05 but a part contradicts the claim; or it is not, but a part on its own "
    "supports it (Holm-corrected over parts). "
    "not supported: otherwise. "
    "not testable here: the records lack what the rule needs."
)


@dataclass(frozen=True)
class Claim:
    """A claim of the study: what is estimated (positive values speak for it), what a part is, and the test in full.

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
            "Full fine-tuning performs best.",
            "full fine-tuning's mean score less that of the strongest other method",
            "score",
            "data set",
            "methods",
            "For each other method, the difference of scores from full fine-tuning, averaged over sizes and then over "
            "the suite's comprehension and generation data sets. All differences must be positive: the p-value is the "
            "largest of theirs (intersection-union). The opposite is that some method is better: the smallest p-value, "
            "times the number of methods.",
        ),
        Claim(
            "lora_tradeoff",
            "LoRA offers the best trade-off between cost and performance.",
            "smallest of: LoRA's mean score less that of each other parameter-efficient method, and less 0.9 times "
            "that of full fine-tuning",
            "score",
            "data set",
            "methods",
            "LoRA must score above every other method that is not full fine-tuning, and above 0.9 times full "
            "fine-tuning, while it updates at most a tenth of the parameters at every size. Differences are averaged "
            "and tested as for fft_best. If it updates more than a tenth, the claim is not supported.",
        ),
        Claim(
            "methods_differ_by_scale",
            "How well the methods do relative to each other depends on the size.",
            "standard deviation of the methods' slopes",
            "logit per tenfold parameters",
            "data set",
            "models",
            "F test of own slopes for each method in the logit of the score against log10 of the base parameters, "
            "beside levels of methods and of sizes; the scatter around these lines is the error. The overall test uses "
            "the mean logit over the data sets that share the most models. Nothing counts as the opposite.",
        ),
        Claim(
            "larger_less_robust",
            "Larger models are less robust.",
            "change of the relative robust drop",
            "drop per tenfold parameters",
            "category of changed prompts",
            "sizes",
            "The relative drop (nominal - robust) / nominal under all transformations of a category, averaged over the "
            "methods measured at every size; slope of these means against log10 of the base parameters, t test with "
            "sizes - 2 degrees of freedom. The overall test uses the mean over categories.",
        ),
        Claim(
            "larger_less_secure",
            "Larger models write less secure programs.",
            "change of the insecure share",
            "share per tenfold parameters",
            "security data set",
            "sizes",
            "The share of valid programs with a flaw, averaged over the methods measured at every size; slope against "
            "log10 of the base parameters, t test with sizes - 2 degrees of freedom.",
        ),
        Claim(
            "small_carries_over",
            "What is seen of the methods on small models carries over to large ones.",
            "mean Spearman correlation of the order of methods at each smaller size with that at the largest",
            "correlation",
            "data set",
            "methods",
            "The correlation is averaged over the smaller sizes and then over data sets. The p-value is from permuting "
            "the methods' names at the largest size, all orders or 20,000 of them, the same order for all data sets.",
        ),
        Claim(
            "loss_indicates",
            "Validation loss indicates downstream performance.",
            "mean Spearman correlation of validation loss with the score, sign turned",
            "correlation",
            "data set",
            "models",
            "The correlation over all models (one value a size and method, seeds averaged), averaged over data sets. "
            "The p-value is from 5,000 permutations of models, the same for all data sets.",
        ),
    )
}
