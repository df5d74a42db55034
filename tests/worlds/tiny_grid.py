"""The smallest grid that goes through the whole chain: what the tests of bases, runs and launches train."""

import multiprocessing
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM

from astraios_analysis.records.frame import RunRecord, save
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.rows import save_tokenizer
from training.corpus.settings import CorpusSettings
from training.grid import workers
from training.grid.rows import run_corpus
from training.spec.grids import Grid, embedded_size
from training.spec.run import LoopSettings, Schedule, closed_form_counts

STEPS = 6
N_PROBLEMS = 40
# Forked, not spawned: the libraries are in memory already.
FORK = multiprocessing.get_context("fork")


def in_a_process(function, *arguments):
    """Call a function in a process of its own, and return how that ended."""
    return in_processes(function, [arguments])[0]


def in_processes(function, several):
    """Call a function at once in as many processes as there are arguments, and return how they ended."""
    processes = [FORK.Process(target=function, args=arguments) for arguments in several]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    return [process.exitcode for process in processes]


def living_processes(group):
    """Processes of a group that have not ended, as Linux's /proc shows them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def fork_workers(patch):
    """Let the workers of launches be forked; `test_workers` spawns them, as users do."""
    patch.setattr(workers, "multiprocessing", SimpleNamespace(get_context=lambda _: FORK))
    # An idle one does not notice that it is not needed any more: it holds the other end of its connection, too.
    patch.setattr(workers, "_SECONDS_TO_END", 0.1)


class FewProblems(EmbeddedCorpus):
    """The corpus with a fifth of the problems of a set that count, for what is the same with all of them."""

    def problems(self, task, split="test", n=N_PROBLEMS):
        return super().problems(task, split, n)


def tiny_grid(**changes):
    """A grid of one 16-wide model with a handful of steps; keyword arguments replace fields."""
    learning = {"learning_rate": 5e-3, "warmup_steps": 1, "validate_every": 3}
    schedule = Schedule(steps=STEPS, global_batch=4, sequence_length=290, **learning)
    fields = {"name": "tiny", "sizes": (embedded_size(16, 1, 2),), "methods": ("fft", "lora", "ptuning", "adapterh")}
    fields |= {"schedule": schedule, "pretraining": schedule, "data": CorpusSettings().label, "n_validation": 8}
    fields |= {"loop": LoopSettings(layout="documents")}
    return Grid(**{**fields, **changes})


def save_model(folder, config):
    """Save a model of a configuration, always the same, with the tokenizer of the default corpus."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(run_corpus(CorpusSettings().label).tokenizer, folder)


def stop_at(patch, step, stop):
    """Let every training of this process call `stop` when it has taken so many steps."""
    from training.loop.train import _Loop

    take = _Loop._step

    def take_or_stop(loop, report):
        if loop.progress.step == step:
            stop()
        take(loop, report)

    patch.setattr(_Loop, "_step", take_or_stop)


def write_record(folder, spec):
    """Write the least record that a finished run may have."""
    counts = closed_form_counts(spec.size, spec.tuning)
    numbers = {name: getattr(counts, name) for name in ("n_params", "n_params_base", "n_params_updated")}
    labels = {"method": spec.tuning.method, "size": spec.size.name, "seed": spec.seed, "held_out": spec.held_out}
    return save(RunRecord(run_id=spec.run_id, grid=spec.grid, **labels, **numbers), folder)
