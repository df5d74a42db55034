"""The journal of a scoring run: every verdict is on disk before the next one is waited for.

A JSONL file: first what the verdicts hold for, then one line for each distinct program. Whoever scores the same file
again, with the same problems, limits and containment, goes on after the last line.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from training.sandbox.programs import Program, Verdict

VERSION = 1
"""Changes when the same program could get another verdict by another rule of scoring."""

_DIGEST_LENGTH = 32


class JournalError(RuntimeError):
    """The journal cannot be written, or another process writes it; the message says what is kept and what to do."""


def identify_program(program: Program) -> str:
    """Return a digest of everything that a program's verdict depends on: language, text, test and limits."""
    content = json.dumps(asdict(program), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]


class Journal:
    """Verdicts that are known already, and the file that new ones are added to. Use it as a context manager.

    Parameters
    ----------
    folder : Path
        Where journals lie; made if it is missing.
    subject : mapping of str to object
        What the verdicts hold for: data set, digests of files, containment. Another subject has another file.
    is_fresh : bool
        Whether to forget what is known.

    Attributes
    ----------
    path : Path
        The file.
    verdicts : dict of str to Verdict
        What is known, by `identify_program`.

    Raises
    ------
    JournalError
        If the file cannot be opened, or another process has it.
    """

    def __init__(self, folder: Path, subject: Mapping[str, Any], *, is_fresh: bool = False) -> None:
        header = json.dumps({"version": VERSION, **subject}, sort_keys=True)
        name = hashlib.sha256(header.encode()).hexdigest()[:16]
        self.path = folder / f"{subject['dataset']}-{name}.jsonl"
        self.verdicts: dict[str, Verdict] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be opened ({error}); name a writable folder") from error
        try:
            self._lock()
            if is_fresh:
                os.ftruncate(self._descriptor, 0)
            self._size = self._read()
            if not self._size:
                self._append(header)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)

    def add(self, key: str, verdict: Verdict) -> None:
        """Write a verdict down.

        Parameters
        ----------
        key : str
            From `identify_program`.
        verdict : Verdict
            The program's.

        Raises
        ------
        JournalError
            If it cannot be written; what was written before is whole.
        """
        fields = {"program": key, "status": verdict.status, "cpu": round(verdict.cpu_seconds, 4)}
        self._append(json.dumps(fields | ({"message": verdict.message} if verdict.message else {})))
        self.verdicts[key] = verdict

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"{self.path}: another process is scoring the same file; wait until it is done"
            ) from error

    def _read(self) -> int:
        """Take over the verdicts; a last line that was not finished is cut off."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._descriptor, whole)
        for line in content[:whole].splitlines()[1:]:
            # What is damaged is run again.
            try:
                fields = json.loads(line)
                verdict = Verdict(fields["status"], fields.get("message", ""), fields["cpu"])
                self.verdicts[fields["program"]] = verdict
            except (ValueError, TypeError, KeyError):
                continue
        return whole

    def _append(self, line: str) -> None:
        data = line.encode() + b"\n"
        try:
            n_written = os.write(self._descriptor, data)
            if n_written < len(data):
                # A full disk may take a part; the attempt to write the rest says why.
                os.write(self._descriptor, data[n_written:])
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise JournalError(
                f"{self.path}: cannot be written ({error.strerror}); the {len(self.verdicts)} verdicts in it are kept: "
                "free some space, and the same command goes on"
            ) from error
        self._size += len(data)
