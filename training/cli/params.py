"""The command ``params``: parameters of tuned models, without their weights."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.records.commands import JSON, option
from astraios_analysis.records.notation import table_text
from astraios_analysis.records.refusal import Refusal
from training.cli.shared import METHOD, Command, at_most_one, folder, several
from training.spec.grids import PRESETS, preset
from training.spec.run import ParameterCounts

HELP = """\
Count the parameters of tuned models exactly, without their weights.

Models are built on the meta device: every shape, no memory. All 28 published models take a few seconds.
Below width 2048, LoRA's rank (8) and the adapters' bottleneck (256) shrink in proportion to the width, so that the
share of updated parameters stays near that of the published 1B models.
"""

EPILOG = """\
columns:
  size                 name of the size in the preset
  method               tuning method
  n_params             parameters of the tuned model, added ones included
  n_params_base        parameters of the base model, embeddings included
  n_params_embedding   of these, token and position embeddings, and the output head where it is not tied
  n_params_updated     parameters that tuning updates
  percent_updated      100 n_params_updated / n_params

With --adapter a row has its folder in place of size and method; `astraios import trainer --counts` reads the JSON.
The table goes to standard output, and with --json a list of objects with these keys and nothing else.
Exit status: 0, or 2 with a message on standard error.

examples:
  python -m training params --size 1b 7b --method lora adapterh --json
  python -m training params --adapter out/lora out/dora --config path/to/base --json > counts.json
"""


@click.command("params", cls=Command, help=HELP, epilog=EPILOG)
@option("--preset", "NAME", f"models of a grid: {', '.join(PRESETS)} (default: starcoderbase)")
@several("--adapter", "FOLDER", "folders of adapters, of any PEFT method", type=Path)
@folder("--config", "--adapter's base: config.json, or its folder", metavar="PATH")
@several("--size", "SIZE", "sizes of the preset to count (default: all)")
@METHOD
@JSON
def command(given: SimpleNamespace) -> None:
    """Count the models of a grid, or adapters."""
    at_most_one(preset=given.preset, adapter=given.adapter)
    if given.adapter is None and given.config is not None:
        raise Refusal("--config is the base of --adapter: name the adapters, or leave it out")
    # Brings torch, which help does without.
    from training.models.counts import count_adapter, count_parameters
    from training.models.pretrained import size_config

    if given.adapter is None:
        # Seeds share their counts: one row for each size and method.
        runs = preset(given.preset or "starcoderbase").runs(given.size, given.method)
        models = {(run.size.name, run.tuning.method): run for run in runs}
        counted = {name: count_parameters(size_config(run.size), run.tuning) for name, run in models.items()}
        rows = [{"size": size, "method": method, **_counts(counts)} for (size, method), counts in counted.items()]
    elif given.size or given.method:
        raise Refusal("--size and --method are those of a preset; leave them out with --adapter")
    elif given.config is None:
        raise Refusal("--adapter counts on a base model; give its config.json, or the folder of it, with --config")
    else:
        counted = {str(place.resolve()): count_adapter(place, given.config) for place in given.adapter}
        rows = [{"adapter": place, **_counts(counts)} for place, counts in counted.items()]
    if given.as_json:
        print(json.dumps(rows, indent=2))
        return
    shown = [{name: f"{n:,}" if isinstance(n, int) else n for name, n in row.items()} for row in rows]
    print(table_text([{**row, "percent_updated": f"{row['percent_updated']:.4f}"} for row in shown]))


def _counts(counts: ParameterCounts) -> dict[str, Any]:
    names = ("n_params", "n_params_base", "n_params_embedding", "n_params_updated", "percent_updated")
    return {name: getattr(counts, name) for name in names}
