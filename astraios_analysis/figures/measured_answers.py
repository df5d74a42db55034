"""What figures of measurements answer: functions from a figure's table to one sentence."""

import pandas as pd

from astraios_analysis.figures.style import join, name_dataset, name_method


def average_models(table: pd.DataFrame, value: str, *more: str) -> pd.DataFrame:
    """Return the mean of a column for each model, seeds averaged, sizes in order; what is held out is left out."""
    if "held_out" in table:
        table = table[~table["held_out"].astype(bool)]
    found = table.groupby([*more, "n_params_base", "size", "method"], sort=True, as_index=False)[value].mean()
    return found.dropna(subset=[value])


def keep_largest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the largest size."""
    return table[table["n_params_base"] == table["n_params_base"].max()]


def find_extreme(table: pd.DataFrame, value: str, *, lowest: bool = False) -> pd.Series:
    """Return the row with the highest value, or the lowest."""
    return table.sort_values(value, ascending=lowest).iloc[0]


def answer_updated_parameters(table: pd.DataFrame) -> str | None:
    """Answer for `updated_parameters`."""
    tuned = table[table["method"] != "fft"]
    if tuned.empty:
        return None
    least, most = find_extreme(tuned, "percent_updated", lowest=True), find_extreme(tuned, "percent_updated")
    ends = [f"{row['percent_updated']:.2g} % ({name_method(row['method'])}, {row['size']})" for row in (least, most)]
    return f"Apart from full fine-tuning, from {ends[0]} to {ends[1]} of the tuned model."


def answer_training_cost(table: pd.DataFrame) -> str | None:
    """Answer for `training_cost`."""
    words = {"flop": "operations", "seconds": "seconds", "peak_memory_bytes": "peak memory"}
    largest, parts = keep_largest(average_models(table, "value", "measure")), []
    for measure, rows in largest.groupby("measure", sort=False):
        least, most = find_extreme(rows, "value", lowest=True), find_extreme(rows, "value")
        ratio = most["value"] / least["value"] if least["value"] > 0 else float("nan")
        if len(rows) > 1 and ratio == ratio:
            names = f"{name_method(most['method'])} against {name_method(least['method'])}"
            parts.append(f"{words.get(measure, measure)} by a factor of {ratio:.2g} ({names})")
    return f"At {largest['size'].iloc[0]}, methods differ in {join(parts)}." if parts else None


def answer_cross_entropy(table: pd.DataFrame) -> str | None:
    """Answer for `cross_entropy`."""
    models = average_models(table[table["kind"] != "line"], "val_loss")
    largest = keep_largest(models)
    best, worst = find_extreme(largest, "val_loss", lowest=True), find_extreme(largest, "val_loss")
    sizes = list(models.groupby("n_params_base"))
    firsts = sum(find_extreme(rows, "val_loss", lowest=True)["method"] == best["method"] for _, rows in sizes)
    values = [f"{row['val_loss']:.3g} ({name_method(row['method'])})" for row in (best, worst)]
    return (
        f"At {best['size']}, from {values[0]} to {values[1]} nats per token; {name_method(best['method'])} has the "
        f"lowest loss at {firsts} of {len(sizes)} sizes."
    )


def answer_cross_entropy_by_step(table: pd.DataFrame) -> str | None:
    """Answer for `cross_entropy_by_step`."""
    curves = table.groupby(["size", "method", *(c for c in ("seed", "kind") if c in table)], sort=False)
    lowest = [rows.loc[rows["loss"].idxmin(), "step"] == rows["step"].max() for _, rows in curves]
    return f"In {sum(lowest)} of {len(lowest)} curves the last validation loss is the lowest."


def answer_cross_entropy_by_updated(table: pd.DataFrame) -> str | None:
    """Answer for `cross_entropy_by_updated_parameters`."""
    models = average_models(table, "val_loss", "n_params_updated")
    found = [
        (rows["size"].iloc[0], rows["n_params_updated"].corr(rows["val_loss"], method="spearman"))
        for _, rows in models.groupby("n_params_base")
        if len(rows) > 2
    ]
    if not found:
        return None
    listed = join(f"{value:.2f} at {size}" for size, value in found)
    return f"Spearman's correlation of updated parameters and loss among the methods of one size is {listed}."


def answer_growth(table: pd.DataFrame) -> str | None:
    """Answer for `task_performance` and `embedded_performance`."""
    rising, other = [], []
    for dataset, rows in average_models(table, "value", "dataset").groupby("dataset", sort=False):
        wide = rows.pivot_table(index="method", columns="n_params_base", values="value")
        counts = wide.notna().sum()
        full = counts[counts >= max(counts.max() / 2, 1)].index
        pair = wide[[full.min(), full.max()]].dropna() if len(full) > 1 else pd.DataFrame()
        if len(pair):
            gain = float((pair.iloc[:, 1] - pair.iloc[:, 0]).mean())
            (rising if gain > 0 else other).append(f"{name_dataset(dataset)} ({100 * gain:+.1f})")
    if not rising + other:
        return None
    rest = f"; not on {join(other)}" if other else ""
    return (
        f"From the smallest to the largest size that most methods have, the mean over methods rises on {len(rising)} "
        f"of {len(rising) + len(other)} data sets, in points of 100: {join(rising) or 'none'}{rest}."
    )


def answer_mean_performance(table: pd.DataFrame) -> str | None:
    """Answer for `mean_performance`."""
    parts = []
    for panel, rows in table.groupby("panel", sort=False):
        largest = keep_largest(average_models(rows, "value"))
        if len(largest) > 1:
            first, second = largest.sort_values("value", ascending=False).to_dict("records")[:2]
            parts.append(
                f"{panel}: {name_method(first['method'])} at {first['size']} ({100 * first['value']:.1f}), then "
                f"{name_method(second['method'])} ({100 * second['value']:.1f})"
            )
    return f"Highest mean at the largest size, of 100 points: {'; '.join(parts)}." if parts else None


def answer_one_shot(table: pd.DataFrame) -> str | None:
    """Answer for `zero_against_one_shot`."""
    parts = []
    for dataset, rows in table.groupby("dataset", sort=False):
        wide = rows.pivot_table(index=["size", "method"], columns="shots", values="value").dropna()
        if len(wide) and {"zero_shot", "one_shot"} <= set(wide.columns):
            better = int((wide["one_shot"] > wide["zero_shot"]).sum())
            parts.append(f"{better} of {len(wide)} models on {name_dataset(dataset)}")
    return f"One example raises the accuracy of {join(parts)}." if parts else None


def answer_robustness(table: pd.DataFrame) -> str | None:
    """Answer for `recode_categories` and `embedded_robustness`."""
    drops, parts = table[table["measure"] == "relative drop"], []
    for dataset, rows in average_models(drops, "value", "dataset").groupby("dataset", sort=False):
        largest = keep_largest(rows)
        parts.append(f"{100 * largest['value'].mean():.0f} % on {name_dataset(dataset)} ({largest['size'].iloc[0]})")
    return f"The mean over methods loses of what it solves, at the largest size: {join(parts)}." if parts else None


def answer_transformations(table: pd.DataFrame) -> str | None:
    """Answer for `recode_transformations` and `embedded_transformations`."""
    largest = keep_largest(table)
    most, least = find_extreme(largest, "value"), find_extreme(largest, "value", lowest=True)
    ends = [f"{row['setting'].replace('_', ' ')} ({100 * row['value']:.0f} %)" for row in (most, least)]
    return f"At {most['size']}, most by {ends[0]} and least by {ends[1]}."


def answer_parse_rates(table: pd.DataFrame) -> str | None:
    """Answer for `parse_rates`."""
    low, high = table["value"].min(), table["value"].max()
    return f"Between {100 * low:.0f} % and {100 * high:.0f} % of completions parse; how secure they are is not known."


def answer_security(table: pd.DataFrame) -> str | None:
    """Answer for `embedded_security`."""
    flaws = table[table["metric"] == "insecure_rate"]
    models = average_models(flaws, "value", "setting")
    if models.empty:
        return None
    parts = []
    for setting, rows in models.groupby("setting", sort=False):
        largest = keep_largest(rows)
        own = flaws[(flaws["setting"] == setting) & (flaws["size"] == largest["size"].iloc[0])]
        low, high = (f"{100 * value:.0f}" for value in (largest["value"].min(), largest["value"].max()))
        share = f"{low} %" if low == high else f"{low} to {high} %"
        n = f"{len(largest)} {'method' if len(largest) == 1 else 'methods'}"
        least = f"as few as {int(own['n_items'].min())} programs of a method"
        parts.append(f"{share} where the input is {setting} ({own['size'].iloc[0]}: {n}, {least})")
    return f"Of the valid programs of the largest models, {join(parts)} have a flaw."
