"""What the released models solve, from the table of counts alone: no code of the project reads it here."""

import pandas as pd

# The five data sets of generation that all seven methods have at 1b, 3b and 7b.
FIVE = [f"humaneval{task}_{language}" for task in ("synthesize", "fix") for language in ("python", "java")]
FIVE += ["humanevalexplain_python"]


def problem_shares(folder):
    """Mean share of samples that pass over the five data sets: a row a problem, columns (size, method)."""
    counts = pd.read_csv(folder / "problem_counts.csv.gz")
    counts = counts[counts["dataset"].isin(FIVE) & (counts["setting"] == "t0.2,n20") & (counts["size"] != "16b")]
    counts = counts.assign(share=counts["n_passed"] / counts["n_samples"])
    return counts.pivot_table(index="problem_id", columns=["size", "method"], values="share", aggfunc="mean")
