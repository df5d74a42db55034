"""The command ``generate``: what a tuned model answers to a data set of the study, in the published layout."""

from dataclasses import fields
from types import SimpleNamespace
from typing import get_args

import click

from astraios_analysis.records.commands import flag, option
from astraios_analysis.records.frame import load
from astraios_analysis.records.notation import say
from astraios_analysis.records.refusal import Refusal
from training.cli.shared import CACHE, Command, Number, at_most_one, folder
from training.published.tasks import TASKS
from training.published.writing import Writing, lay_out_texts
from training.spec.run import Precision, spec_of

HELP = """\
Let a model answer a data set of the study: prompts, sampling and cutting are the study's, and so is the file's layout.

The model is that of a finished run (--run), or a folder, with an adapter or without (--model, --adapter). Samples are
kept as they come: the same command goes on where it was stopped. `python -m training score` reads the file, and with
--record puts its scores into the run's record.
"""

EPILOG = f"""\
data sets: {", ".join(list(TASKS)[:6])},
  {", ".join(list(TASKS)[6:])}

--for-vllm DIR writes a plain model (merged where the method allows it), its tokenizer and prompts.jsonl, objects
{{prompt, n, temperature, top_p, max_tokens, seed}} as vLLM takes them; what it answers, a JSON list of texts a line
in the order of the prompts, is laid out by --texts FILE. Progress goes to standard error.

Exit status: 0; 2 with a message on standard error, 1 where a file cannot be written; 130 after Ctrl-C.

examples:
  python -m training generate --run data/runs/own/RUN.json --dataset humanevalsynthesize_python \\
      --problems humanevalpack_python.jsonl --out generations.json
  python -m training generate --model DIR --adapter DIR --dataset defect_detection --one-shot --out answers.json
  python -m training score --dataset humanevalsynthesize_python generations.json --record data/runs/own/RUN.json
"""


_COUNT = click.IntRange(min=1)


@click.command("generate", cls=Command, help=HELP, epilog=EPILOG)
@folder("--run", "the record of a finished run, whose tuned model lies in the cache", metavar="FILE", names=("record",))
@folder("--model", "a folder of a model, tuned or not")
@folder("--adapter", "a folder of an adapter of PEFT, put on --model")
@CACHE
@option("--dataset", "NAME", "what is asked; `score --list` names them", required=True)
@folder("--problems", "JSONL file of the problems (default: from the hub)", metavar="FILE")
@click.option("--samples", "n_samples", metavar="N", type=_COUNT, help="samples a prompt (default: the study's)")
@option("--temperature", "T", "of sampling, 0 greedy (default: the study's)", type=Number(min=0))
@option("--max-length", "N", "tokens of prompt and answer (default: the study's)", type=_COUNT)
@option("--first", "N", "only the first N prompts", type=_COUNT)
@flag("--one-shot", "yes/no questions: after the first one and its answer")
@option("--seed", "N", "of the draws", type=click.IntRange(min=0), default=0, show_default=True)
@option("--tokens-per-batch", "N", "tokens of a batch, padding included: bounds memory", type=_COUNT)
@option(
    "--precision",
    "P",
    "of the weights: fp32 or bf16",
    default="fp32",
    show_default=True,
    type=click.Choice(get_args(Precision)),
)
@folder("--out", "the file to write", metavar="FILE")
@folder("--for-vllm", "write model and prompts for vLLM into this folder instead")
@folder("--texts", "lay out texts that another program wrote after the prompts", metavar="FILE")
def command(given: SimpleNamespace) -> None:
    """Write a file of generations, or what another program needs to write one."""
    out, for_vllm = given.out, given.for_vllm
    at_most_one(out=out, for_vllm=for_vllm)
    at_most_one(for_vllm=for_vllm, texts=given.texts)
    if out is None and for_vllm is None:
        raise Refusal("--out is missing: name the file to write, or a folder with --for-vllm")
    if out is not None and out.is_dir():
        raise Refusal(f"--out is {out}, a folder; name the file to write")
    writing = Writing(**{field.name: getattr(given, field.name) for field in fields(Writing)})
    writing.setting  # noqa: B018  # an unknown data set is refused before a model is read
    if given.texts is not None:
        say(f"{lay_out_texts(writing, given.texts, out)} is written")
        return
    _check_model(given)
    # Brings torch, which help and refusals do without.
    import torch
    from peft import PeftModel

    from training.grid.bases import load_tuned
    from training.grid.published import drafts_of, write_for_vllm, write_generations
    from training.models.pretrained import on_accelerator, open_model

    if given.record is not None:
        record = load(given.record)
        if (spec := spec_of(record)) is None:
            raise Refusal(f"record {record.run_id} has no specification of its run; give its model with --model")
        (model, tokenizer), subject = load_tuned(spec, given.cache), record.run_id
    else:
        model, tokenizer = open_model(str(given.model))
        if given.adapter is not None:
            model = PeftModel.from_pretrained(model, given.adapter)
        model.eval()
        subject = f"{given.model.resolve()}, {given.adapter and given.adapter.resolve()}"
    if for_vllm is not None:
        say(f"written into {for_vllm}: {write_for_vllm(model, tokenizer, writing, for_vllm)}")
        return
    model = on_accelerator(model if given.precision == "fp32" else model.to(torch.bfloat16))
    write_generations(model, tokenizer, writing, out, subject=f"{subject}, {given.precision}", progress=writing.dataset)
    drafts_of(out).unlink(missing_ok=True)
    say(f"{out} is written ({writing.setting}); score it with `python -m training score`")


def _check_model(given: SimpleNamespace) -> None:
    at_most_one(run=given.record, model=given.model)
    # The run's own tuning stays on its base.
    at_most_one(run=given.record, adapter=given.adapter)
    if given.record is None and given.model is None:
        raise Refusal("there is no model: give --run, or --model with --adapter where there is one")
    for place in filter(None, (given.model, given.adapter)):
        if not place.is_dir():
            raise Refusal(f"{place} is no folder; give that of a model or adapter, with its configuration and weights")
