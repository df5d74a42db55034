"""What a model writes for the study's data sets, in the published layout, and its scores in the run's record.

Prompts, sampling and cutting are those of `training.published.tasks`; `training.published.score` reads what is written
here as it reads the study's own files. Samples are kept one by one as they come, so that an interrupted generation goes
on, and gives the file that it would have given.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from pydantic import JsonValue
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from astraios_analysis.records.files import write_whole
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.notation import say
from astraios_analysis.records.refusal import Refusal
from training.corpus.rows import END_OF_TEXT, encode_context
from training.generation.generate import TOKENS_PER_BATCH, Decoding, generate
from training.loop.checkpoints import weights_digest
from training.loop.validation import count_virtual_tokens
from training.models.tuning import merge_tuning
from training.published.score import Request, score_file
from training.published.tasks import TOP_P, EvaluationTask, find_task, is_function_complete
from training.published.writing import WRITING_VERSION, Writing, asked, laid_out, note_of, with_published
from training.spec.files import Journal
from training.suite.request import Scoring, missing_datasets


def decoding_of(writing: Writing, model: PreTrainedModel | PeftModel) -> Decoding:
    """Return how a data set's samples are drawn, within the positions that a model has."""
    sampling, positions = writing.sampling, getattr(model.config, "max_position_embeddings", None)
    longest = min(sampling.max_length, (positions or sampling.max_length) - count_virtual_tokens(model))
    return Decoding(
        max_new_tokens=longest,
        max_length=longest,
        temperature=sampling.temperature,
        top_p=TOP_P,
        n_samples=sampling.n_samples,
        seed=writing.seed,
        tokens_per_batch=writing.tokens_per_batch or max(TOKENS_PER_BATCH, 2 * longest),
    )


def write_generations(
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    writing: Writing,
    path: Path,
    *,
    subject: str,
    progress: bool | str | None = None,
) -> Path:
    """Let a model answer a data set and write the file; ``subject`` says which model it is, also to go on later.

    The samples stay in their journal: who has no more use for them removes it (`drafts_of`).
    """
    task, decoding = find_task(writing.dataset), decoding_of(writing, model)
    problems, prompts = asked(writing)
    # A folder may hold another model than when it was stopped.
    of_model = {"model": subject, "weights": weights_digest(model)}

    def is_complete(place: int, text: str) -> bool:
        if task.ask_again is not None and len(text.strip()) > len(problems[place].docstring):
            return True
        return task.is_complete(text)

    with Drafts(drafts_of(path), {**of_model, "prompts": prompts, **decoding.model_dump()}) as drafts:
        writer = _Writer(model, tokenizer, drafts, progress)
        texts = writer.write("first", prompts, decoding, is_complete)
        written = laid_out(task, problems, prompts, texts, _second_answers(task, writer, decoding))
        write_whole(path, json.dumps(written))
    return path


def _second_answers(task: EvaluationTask, writer: "_Writer", decoding: Decoding) -> Callable[[list[str]], list[str]]:
    """Return what answers the second prompts of a data set that asks twice, one sample each."""

    def again(prompts: list[str]) -> list[str]:
        once = decoding.model_copy(update={"n_samples": 1})
        complete = writer.write("again", prompts, once, lambda place, text: is_function_complete(text, task.language))
        return [text for (text,) in complete]

    return again


def drafts_of(target: Path) -> Path:
    """Return the journal of the samples that a file of generations is made of."""
    return target.with_name(f".{target.name}.drafts.jsonl")


class Drafts(Journal):
    """Samples that are there already, and the file that new ones are added to."""

    CONTENT, WORK = "samples", "generating the same file"

    def __init__(self, path: Path, subject: Mapping[str, Any]) -> None:
        self.known: dict[str, dict[tuple[int, int], list[int]]] = {"first": {}, "again": {}}
        super().__init__(path, {"version": WRITING_VERSION, **subject})

    def add(self, part: str, prompt: int, sample: int, tokens: list[int]) -> None:
        """Write a sample down."""
        self._write([part, prompt, sample, tokens])

    def _take(self, value: Any) -> None:
        part, prompt, sample, tokens = value
        self.known[part][prompt, sample] = tokens


class _Writer:
    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: Tokenizer,
        drafts: Drafts,
        progress: bool | str | None,
    ) -> None:
        self._model, self._tokenizer, self._drafts, self._progress = model, tokenizer, drafts, progress

    def write(
        self, part: str, prompts: Sequence[str], decoding: Decoding, is_complete: Callable[[int, str], bool]
    ) -> list[list[str]]:
        """Return the texts after prompts; one that leaves no room for any is answered by none."""
        encoded = [encode_context(self._tokenizer, prompt) for prompt in prompts]
        places = [place for place, tokens in enumerate(encoded) if len(tokens) < decoding.max_length]
        if len(places) < len(prompts):
            n_cut, most = len(prompts) - len(places), decoding.max_length
            say(f"{n_cut} of {len(prompts)} prompts have {most} tokens or more, which leaves no room for an answer")
        end = self._tokenizer.token_to_id(END_OF_TEXT)
        known = {
            (places.index(prompt), sample): tokens
            for (prompt, sample), tokens in self._drafts.known[part].items()
            if prompt in places
        }
        written = generate(
            self._model,
            [encoded[place] for place in places],
            decoding,
            eos_token_id=end,
            pad_token_id=end,
            progress=self._progress,
            is_complete=lambda number, new: is_complete(places[number], self._decode(new)),
            known=known,
            keep=lambda number, sample, new: self._drafts.add(part, places[number], sample, new),
        )
        texts = [[""] * decoding.n_samples for _ in prompts]
        for place, samples in zip(places, written, strict=True):
            # Of the whole, less the prompt: some tokenizers' first token of a text loses its blank.
            prompt = self._decode(encoded[place])
            texts[place] = [self._decode([*encoded[place], *new])[len(prompt) :] for new in samples]
        return texts

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)


def write_for_vllm(
    model: PreTrainedModel | PeftModel, tokenizer: Tokenizer, writing: Writing, folder: Path
) -> dict[str, Any]:
    """Write a plain model, its tokenizer and the prompts as vLLM takes them; returns the settings of its sampling."""
    task = find_task(writing.dataset)
    if task.ask_again is not None:
        raise Refusal(f"{task.name} asks again with what was answered first; generate it here, without --for-vllm")
    _, prompts = asked(writing)
    merge_tuning(model).save_pretrained(folder / "model")
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    decoding = decoding_of(writing, model)
    rows = [
        {
            "prompt": prompt,
            "n": decoding.n_samples,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_length - len(encode_context(tokenizer, prompt)),
            "seed": decoding.seed,
        }
        for prompt in prompts
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {"n_prompts": len(rows), **{name: rows[0][name] for name in ("n", "temperature", "seed")}}


def score_published(
    record: RunRecord,
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    scoring: Scoring,
    folder: Path,
    keep: Callable[[RunRecord], None] = lambda record: None,
) -> RunRecord:
    """Return a run's record with the scores of the study's data sets that it lacks: generated, then scored."""
    for dataset in missing_datasets(record, scoring):
        started = time.perf_counter()
        writing = replace(scoring.writing or Writing(dataset), dataset=dataset, problems=scoring.problems_of(dataset))
        path = folder / f"{dataset}.json"
        write_generations(model, tokenizer, writing, path, subject=record.run_id, progress=False)
        request = Request(
            dataset,
            path,
            problems=writing.problems,
            is_unsafe=scoring.unsafe,
            folder=folder / "verdicts",
            shows_progress=False,
        )
        report = score_file(request)
        note: dict[str, JsonValue] = {
            "decoding": decoding_of(writing, model).model_dump(mode="json"),
            "problems": None if writing.problems is None else writing.problems.name,
            **note_of(model, started, "transformers", "peft"),
        }
        record = with_published(record, report, writing.setting, note)
        keep(record)
        # Only now: what stops the scoring of it costs no sample.
        drafts_of(path).unlink(missing_ok=True)
    return record
