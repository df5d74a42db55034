"""Which worker processes a machine has room for, and on which GPU each works. Importable without torch."""

from collections.abc import Sequence
from pathlib import Path

from training.grid.devices import Gpu
from training.grid.estimates import shortage
from training.grid.memory import estimate_memory, in_gib
from training.spec.files import record_path
from training.spec.run import RunSpec, Tuning


def needed_bytes(spec: RunSpec) -> float:
    """Return the memory of the fullest moment of a run: its own training, or that of its base from scratch."""
    own = estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total
    if spec.pretraining is None:
        return own
    in_float32 = spec.loop.model_copy(update={"base_precision": None})
    return max(own, estimate_memory(spec.size, Tuning(method="fft"), spec.pretraining, in_float32).total)


def place(
    specs: Sequence[RunSpec], jobs: int, gpus: Sequence[Gpu], memory_bytes: float | None
) -> tuple[str | None, ...]:
    """Return a place for each worker process: as many as were asked for, as far as memory goes.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs that are to be trained; any worker may get any of them.
    jobs : int
        Worker processes asked for.
    gpus : sequence of Gpu
        GPUs; one after the other gets a worker.
    memory_bytes : float, optional
        The machine's free memory, where there is no GPU; not limited without it.

    Returns
    -------
    tuple of str or None
        For each worker the GPU it is pinned to; None where there is none.

    Raises
    ------
    ValueError
        If not even one run at a time fits; the message says what is needed and what would do.
    """
    needs = sorted((needed_bytes(spec) for spec in specs), reverse=True)
    if not gpus:
        return (None,) * _fitting(specs, needs, jobs, memory_bytes)
    per_gpu = [_fitting(specs, needs, jobs, gpu.free_bytes) for gpu in gpus]
    # The first worker of every GPU before the second of any.
    rounds = [gpu.index for turn in range(max(per_gpu)) for gpu, room in zip(gpus, per_gpu, strict=True) if turn < room]
    return tuple(rounds[:jobs])


def _fitting(specs: Sequence[RunSpec], needs: Sequence[float], jobs: int, memory_bytes: float | None) -> int:
    if memory_bytes is None or not needs:
        return jobs
    taken, n_fitting = 0.0, 0
    # The largest runs at once are the worst that can happen; there are no more workers than runs.
    for need in needs[:jobs]:
        taken += need
        if taken > memory_bytes:
            break
        n_fitting += 1
    if n_fitting:
        return n_fitting
    largest = max(specs, key=needed_bytes)
    reason = shortage(largest, memory_bytes) or (
        f"needs {in_gib(needs[0])} GiB for the training of its base, has {in_gib(memory_bytes)}: use --micro-batch"
    )
    raise ValueError(f"run {largest.run_id} does not fit: {reason} (or --no-memory-check to try it all the same)")


def unfinished(specs: Sequence[RunSpec], runs_dir: str | Path) -> list[RunSpec]:
    """Return the runs that have no record yet."""
    return [spec for spec in specs if not record_path(runs_dir, spec.run_id).exists()]
