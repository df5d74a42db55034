"""What a run shows while it trains: a progress bar on standard error, and accelerate's trackers."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from tqdm import tqdm

Progress = bool | str | None
"""Whether there is a progress bar: always, never, or (None, or a label for it) where standard error is a terminal."""


def progress_bar(progress: Progress, total: int, *, label: str, unit: str, initial: int = 0) -> tqdm:
    """Return a progress bar on standard error."""
    # tqdm reads None as: where standard error is a terminal.
    disable = not progress if isinstance(progress, bool) else None
    label = progress if isinstance(progress, str) else label
    return tqdm(desc=label, total=total, initial=initial, unit=unit, file=sys.stderr, disable=disable)


@dataclass(frozen=True)
class Reporting:
    """Where a run reports."""

    name: str = "astraios"
    # Trackers, by accelerate's names ("tensorboard", "wandb", ...) or made.
    log_with: tuple[str | GeneralTracker, ...] = ()
    # Of trackers that write files; without it the run's own, which goes when the run is finished.
    folder: Path | None = None
    # None: where standard error is a terminal.
    show_progress: bool | None = None


class Reporter:
    """A run's progress bar and trackers, in use."""

    def __init__(self, accelerator: Accelerator, bar: tqdm) -> None:
        self._accelerator = accelerator
        self._bar = bar
        self._started = time.perf_counter()
        self._n_tokens = 0
        self._shown: dict[str, str] = {}

    def step(self, step: int, loss: float, gradient_norm: float, learning_rate: float, n_tokens: int) -> None:
        """Report a training step: loss in nats per scored token, and tokens of the step."""
        self._n_tokens += n_tokens
        speed = self._n_tokens / max(time.perf_counter() - self._started, 1e-9)
        self._show(loss=f"{loss:.3f}", **{"tokens/s": f"{speed:,.0f}"})
        self._bar.update()
        self._log(
            {
                "train/loss": loss,
                "train/gradient_norm": gradient_norm,
                "train/learning_rate": learning_rate,
                "train/tokens_per_second": speed,
            },
            step,
        )

    def validation(self, step: int, loss: float, stderr: float | None) -> None:
        """Report a validation point, nats per token."""
        self._show(validation=f"{loss:.3f}")
        self._log({"validation/loss": loss, **({} if stderr is None else {"validation/stderr": stderr})}, step)

    def _show(self, **values: str) -> None:
        self._shown |= values
        self._bar.set_postfix(self._shown, refresh=False)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if self._accelerator.trackers:
            self._accelerator.log(dict(values), step=step)


@contextmanager
def reporter(
    accelerator: Accelerator, reporting: Reporting, *, first_step: int, n_steps: int, config: Mapping[str, Any]
) -> Iterator[Reporter]:
    """Open a run's progress bar and trackers, and close them however the run ends."""
    if reporting.log_with:
        accelerator.init_trackers(reporting.name, config=_flat(config))
    shown = reporting.show_progress if accelerator.is_main_process else False
    bar = progress_bar(shown, n_steps, label=reporting.name, unit="step", initial=first_step)
    try:
        with bar:
            yield Reporter(accelerator, bar)
    finally:
        # Not accelerate's end_training: it also ends the process group, and the next run of a grid needs it.
        for tracker in accelerator.trackers:
            tracker.finish()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    flat: dict[str, int | float | str | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[f"{prefix}{name}"] = ", ".join(str(item) for item in value)
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat
