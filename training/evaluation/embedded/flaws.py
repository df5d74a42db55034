"""Which programs an analyser finds a flaw in: bandit, run on text; no program is executed."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from bandit.core.config import BanditConfig
from bandit.core.manager import BanditManager

SEVERITY = "MEDIUM"
"""Least severity of a finding that makes a program insecure; the safe idioms of the corpus have low findings only."""


class AnalysisError(RuntimeError):
    """The analyser could not read a program that is one."""


def flaws(programs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the rules of bandit that each program breaks with medium or high severity.

    Comments that ask the analyser to look away (``# nosec``) have no effect; identical programs are analysed once.

    Parameters
    ----------
    programs : iterable of str
        Python programs that parse.

    Returns
    -------
    dict of str to tuple of str
        For each program, names such as ``B602``, sorted; none where nothing was found.

    Raises
    ------
    AnalysisError
        If the analyser gives up on a program.
    """
    distinct = list(dict.fromkeys(programs))
    found: dict[str, set[str]] = {program: set() for program in distinct}
    with tempfile.TemporaryDirectory(prefix="astraios-analysis-") as folder:
        paths = {str(Path(folder) / f"{place}.py"): program for place, program in enumerate(distinct)}
        for path, program in paths.items():
            Path(path).write_text(program + "\n", "utf-8")
        manager = BanditManager(BanditConfig(), "file", ignore_nosec=True)
        manager.discover_files(list(paths))
        manager.run_tests()
        if manager.skipped:
            path, reason = manager.skipped[0]
            raise AnalysisError(f"bandit gave up on a program ({reason}):\n{paths.get(path, path)}")
        for issue in manager.get_issue_list(sev_level=SEVERITY, conf_level="LOW"):
            found[paths[issue.fname]].add(issue.test_id)
    return {program: tuple(sorted(rules)) for program, rules in found.items()}
