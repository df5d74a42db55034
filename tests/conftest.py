"""Records to test with, a browser, and the reference data that the project does not carry.

Tests marked `reference` need that data; tests marked `browser` need Chromium and the package that drives it.
"""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import simulated_grids
from hypothesis import HealthCheck, settings

from astraios_analysis.records.files import load_folder
from astraios_analysis.records.frame import Cost, ProblemCounts, Provenance, RunRecord, Score, ValidationPoint
from astraios_analysis.records.sources import load_records

VARIABLE = "ASTRAIOS_REFERENCE"

REQUIRED = {"browser": ("needs a browser",), "sandbox": ("needs bwrap", "needs javac", "needs a Python")}
"""By marker, how reasons for a skip begin that name something that can be installed."""

BROWSERS = "chromium", "chromium-browser", "google-chrome"
"""Names under which distributions install Chromium or what is built from it."""

BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


# The same examples every time, and no opinion on how long they take: that is for the machine to say.
settings.register_profile("astraios", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config):
    """Declare the marker of what opens pages; let Ctrl-C reach children even where the suite runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.load_profile("astraios")
    config.addinivalue_line("markers", "browser: opens pages in headless Chromium; skipped where that is missing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where ASTRAIOS_REQUIRE_BROWSER or ..._SANDBOX is set, tests marked so fail instead of skipping for want of it."""
    report = yield
    for marker, reasons in REQUIRED.items():
        variable = f"ASTRAIOS_REQUIRE_{marker.upper()}"
        if report.skipped and os.environ.get(variable) and item.get_closest_marker(marker):
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            if reason.startswith(reasons):
                report.outcome, report.longrepr = "failed", f"skipped, though {variable} is set: {reason}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Say last, in one line, what was not tested and what to do about it: reasons are "needs WHAT: REMEDY"."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    needs = Counter(reason.removeprefix("Skipped: ") for reason in reasons if "needs " in reason)
    if needs:
        parts = [f"{n} x {reason}" for reason, n in needs.most_common()]
        terminalreporter.write_line(f"Not tested: {'; '.join(parts)}")


def pytest_collection_modifyitems(items):
    """Skip the tests that need reference data where there is none; a wrong path is an error, not a skip."""
    folder = os.environ.get(VARIABLE)
    if folder and not Path(folder).is_dir():
        raise pytest.UsageError(f"{VARIABLE} names no folder: {folder!r}; correct it or unset it")
    if not folder:
        skip = pytest.mark.skip(reason=f"needs reference data: set {VARIABLE} to the folder that holds it")
        for item in items:
            if item.get_closest_marker("reference"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def reference_folder():
    """Folder of the reference data; only for tests marked `reference`."""
    return Path(os.environ[VARIABLE])


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium for pages; only for tests marked `browser`.

    It lives as long as a test module and no longer: while it does, this thread has a running event loop, and
    nothing that starts another one there (papermill does) works.
    """
    driver = pytest.importorskip("playwright.sync_api", reason="needs a browser: install the package playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: install chromium (looked for {', '.join(BROWSERS)})")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def make_record():
    """Factory of a full, valid record of a trained run; keyword arguments replace fields."""

    def make(**changes):
        problems = ProblemCounts(problem_ids=(0, 1, 2, 3), n_samples=(20, 20, 20, 20), n_passed=(20, 5, 0, 3))
        passed = {"dataset": "humanevalsynthesize_python", "language": "python", "source": "measured", "n_items": 4}
        fields = {
            "run_id": "mini-1b-lora-s0",
            "grid": "mini",
            "method": "lora",
            "size": "1b",
            "seed": 0,
            "held_out": False,
            "n_params": 1_100,
            "n_params_base": 1_000,
            "n_params_base_nonembedding": 800,
            "n_params_updated": 100,
            "n_tokens": 4_096,
            "base_val_loss": 3.25,
            "val_loss": 2.5,
            "val_loss_se": 0.01,
            "val_curve": (ValidationPoint(step=0, loss=3.25), ValidationPoint(step=10, loss=2.5, stderr=0.01)),
            "scores": (
                Score(**passed, setting="t0.2,n20", metric="pass@1", value=0.35, problems=problems),
                Score(**passed, setting="t0.2,n20", metric="timeout_rate", value=0.0, stderr=0.0),
            ),
            "cost": Cost(seconds=12.5, flop=1e12, peak_memory_bytes=2**30),
            "provenance": Provenance(spec={"size": "1b", "learning_rate": 1e-4}, commit="abc", dirty=False),
        }
        return RunRecord(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_score():
    """Factory of a measured score from passes by problem, its value their mean; keyword arguments replace fields."""
    return simulated_grids.make_score


@pytest.fixture
def draw_once(monkeypatch):
    """Draw a figure that is saved once, and not twice for each of two formats; its files are empty."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figure.draw_without_rendering())


@pytest.fixture(scope="session")
def released_folder():
    """Folder of the released models in this checkout: records, and the tables that they are made from."""
    return Path(__file__).parents[1] / "data" / "released"


@pytest.fixture(scope="session")
def released_data(released_folder, tmp_path_factory):
    """Data folder with the released models and no trained run."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "released").symlink_to(released_folder)
    return folder


@pytest.fixture(scope="session")
def released_records(released_folder):
    """Records of the 28 released models."""
    return load_folder(released_folder)


@pytest.fixture(scope="session")
def released_runs(released_data):
    """Runs of the 28 released models as `load` gives them: with means over data sets."""
    return load_records(released_data)
