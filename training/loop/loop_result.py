"""What a training run hands back, and the error that says there is nothing to hand back."""

from dataclasses import dataclass
from typing import Literal

from astraios_analysis.records.frame import ValidationPoint
from training.spec.run import LoopSettings

Status = Literal["trained", "resumed", "loaded"]


class DivergedError(RuntimeError):
    """Training gave a loss or gradient that is not a finite number: there is nothing to record."""


@dataclass(frozen=True)
class LoopResult:
    """What a finished run measured.

    Attributes
    ----------
    status : {"trained", "resumed", "loaded"}
        Whether the run went through at once, went on from a checkpoint, or was found finished.
    base_validation : ValidationPoint
        The base model without what tuning adds, which P-Tuning and adapters that do not start at the identity change
        before the first step already.
    curve : tuple of ValidationPoint
        The tuned model's validation cross-entropy, nats per token, before the first step (step 0), every
        ``validate_every`` steps and after the last; its standard error over rows, and the tokens trained on so far.
    train_losses : tuple of float
        Loss of every step before its update, nats per scored token.
    n_tokens, n_targets, n_rows : int
        Tokens without padding, scored tokens, and rows trained on.
    n_passes : float
        How many times the training rows were gone through.
    n_validation_targets, n_validation_rows : int
        Scored tokens and rows of the validation set.
    seconds : float
        Wall-clock time in the loop, validation and checkpoints included, work lost in interruptions not.
    step_seconds : float
        Of it, time in training steps alone. A step ends when its loss is known on the host, so that a device's queue
        is empty then.
    flop : float
        Estimated floating-point operations of training (`training.loop.flop.estimate_flop`).
    peak_memory_bytes : int, optional
        Largest peak of a process (`training.loop.flop.PeakMemory`); absent where it cannot be measured.
    settings : LoopSettings
        Settings with the batch sizes that were used.
    n_processes : int
        Processes.
    n_processes_before : tuple of int
        Processes that wrote the checkpoints it went on from, where that were others.
    device : str
        Type of the device, such as "cpu" or "cuda".
    """

    status: Status
    base_validation: ValidationPoint
    curve: tuple[ValidationPoint, ...]
    train_losses: tuple[float, ...]
    n_tokens: int
    n_targets: int
    n_rows: int
    n_passes: float
    n_validation_targets: int
    n_validation_rows: int
    seconds: float
    step_seconds: float
    flop: float
    peak_memory_bytes: int | None
    settings: LoopSettings
    n_processes: int
    n_processes_before: tuple[int, ...]
    device: str

    @property
    def final(self) -> ValidationPoint:
        """Return the validation after the last step."""
        return self.curve[-1]
