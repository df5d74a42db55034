"""The explorer in JupyterLab in a real browser: a widget is moved, and the plot and the tables follow."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.browser
# Cold starts of server, kernel and page on a busy machine; a test that passes does not wait for them.
PATIENCE = 400
ATTEMPTS = 3
PICTURE = ".js-plotly-plot .main-svg"
# Where the lines of laws run.
CONTENT = (
    "[...document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line')].map(x => x.getAttribute('d')).join()"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project folder of its own: the notebook, and the records of one grid."""
    root = tmp_path_factory.mktemp("project")
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "explore.ipynb", root / "notebooks")
    (root / "data" / "runs").mkdir(parents=True)
    (root / "data" / "runs" / "ladder").symlink_to(ROOT / "data" / "runs" / "ladder")
    return root


@pytest.fixture(scope="module")
def lab(browser, folder):
    """Address of JupyterLab on that folder, with empty settings and a token; `browser` first, so that it may skip."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
    own = {name: str(folder / ".jupyter" / name.lower()) for name in names}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "JUPYTER_TOKEN": token}
    options = ["--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}"]
    options += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]
    log = folder / "lab.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
        yield f"http://127.0.0.1:{port}/doc/tree/notebooks/explore.ipynb?token={token}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for_server(address, server, log):
    """Return once the server answers; fail with its last words where it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def page(browser, lab):
    """The notebook, run, with its widgets shown; whatever is not on this machine is refused."""
    context = browser.new_context(viewport={"width": 1400, "height": 1500})
    context.set_default_timeout(1000 * PATIENCE)
    context.route("**/*", lambda r: r.continue_() if "//127.0.0.1:" in r.request.url else r.abort("failed"))
    page = opened(context, lab)
    # Until profile intervals are there.
    page.wait_for_function("!document.querySelector('.jp-NotebookPanel').innerText.includes('are being computed')")
    yield page
    context.close()


def opened(context, lab):
    """Return the notebook's page with the picture on it; one whose kernel gets lost is opened anew."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(ATTEMPTS):
        page = context.new_page()
        try:
            run_all(page, lab)
        except Late as error:
            found = f"{error}\nThe page shows:\n{page.locator('body').inner_text()[-3000:]}"
            page.close()
        else:
            return page
    pytest.fail(found)


def run_all(page, lab):
    """Open the notebook, wait for its kernel, and run all cells until the picture is there."""
    page.goto(lab)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    # What is asked of a kernel that is only starting may be lost.
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.locator(".jp-NotebookPanel .jp-Cell").first.click()
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".js-plotly-plot .scatterlayer path.js-line", state="attached")


def shown(page):
    """Text of what the explorer shows beside its controls."""
    return page.locator(".widget-html-content").all_inner_texts()


def picture_after(page, action):
    """Return where lines run before and after an action that changes them; a page that is busy may lose the first."""
    before = after = page.evaluate(CONTENT)
    deadline = time.monotonic() + PATIENCE
    while after in (before, "") and time.monotonic() < deadline:
        action()
        for _ in range(60):
            page.wait_for_timeout(500)
            if (after := page.evaluate(CONTENT)) not in (before, ""):
                break
    return before, after


def test_every_cell_runs_and_the_explorer_shows_fit_prediction_and_backtest(page):
    page.wait_for_function("!document.querySelector('.jp-NotebookPanel').innerText.includes('[*]')")
    words = " ".join(shown(page))
    captions = ("Prediction for a new run", "Back-test: sizes the fit has not seen", "Fit diagnostics", "Laws averaged")
    assert all(caption in words for caption in captions)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    page.wait_for_function(f"document.querySelector('{PICTURE}')?.getBoundingClientRect().width > 500")
    assert len(page.locator("textarea").first.input_value().splitlines()) == 3
    cut = "x => x.filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)"
    assert page.locator(".widget-label").evaluate_all(cut) == []


def test_another_law_changes_plot_tables_and_certificate(page):
    words = shown(page)
    law = page.locator(".widget-inline-hbox").filter(has=page.get_by_text("law", exact=True)).locator("select")
    before, after = picture_after(page, lambda: law.select_option(label="power"))
    assert before != after
    # Tables follow the picture.
    page.wait_for_function(
        "[...document.querySelectorAll('.widget-html-content')].some(one => one.innerText.includes('identified'))"
    )
    assert shown(page) != words
