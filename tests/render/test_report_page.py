"""The report as a reader gets it: opened in a browser, at the width of a laptop and in print."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from astraios_analysis.records.sources import load_records
from astraios_analysis.render.report import count_seeds, describe_records, write_report

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 1280, 800

OVERLAPS = """
selector => {
  // Lines of text by element; an element's own lines and those inside it are one text.
  const boxes = [];
  for (const element of document.querySelectorAll(selector)) {
    if (!element.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(element);
    for (const box of range.getClientRects())
      if (box.width > 1 && box.height > 1) boxes.push([element, box.left, box.top, box.right, box.bottom]);
  }
  boxes.sort((a, b) => a[2] - b[2]);
  const found = [];
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j][2] < boxes[i][4] - 2; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const isOne = a[0] === b[0] || a[0].contains(b[0]) || b[0].contains(a[0]);
      if (!isOne && Math.min(a[3], b[3]) - Math.max(a[1], b[1]) > 2)
        found.push(a[0].textContent.trim().slice(0, 40) + " | " + b[0].textContent.trim().slice(0, 40));
    }
  return found;
}
"""
TEXTS = "h1, h2, h3, h4, p, li, dt, dd, figcaption, summary, th, td"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(ROOT / "figures", folder / "figures")
    records = load_records(ROOT / "data")
    arguments = describe_records(records), count_seeds(records)
    return write_report(folder / "build", folder / "figures", ROOT / "notebooks", *arguments)


@pytest.fixture(scope="module")
def page(report, browser):
    """The page opened, with what it complained of and asked for in `complaints` and `requests`."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.complaints, page.requests = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(report.as_uri())
    yield page
    page.close()


@pytest.fixture
def printed(page):
    """The page as it is printed, on A4 with margins of 1.6 cm."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 672, "height": 1000})
    yield page
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def test_page_asks_for_nothing_and_complains_of_nothing(page, report):
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.complaints == []


def test_every_picture_is_whole_and_described(page):
    page.evaluate("[...document.images].forEach(x => x.loading = 'eager')")
    page.wait_for_function("[...document.images].every(x => x.complete)")
    pictures = page.evaluate("[...document.images].map(x => [x.naturalWidth > 50, x.alt])")
    assert len(pictures) > 20
    assert all(is_whole and alt for is_whole, alt in pictures)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(page, scheme):
    """Contrast, language, landmarks and the order of headings among them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    found = axe.run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img id=x src=data:,>')")
    assert [one["id"] for one in axe.run(page).response["violations"] if one["id"] == "image-alt"]
    page.evaluate("document.getElementById('x').remove()")
    is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="light")
    assert is_dark == (scheme == "dark")


def test_no_text_lies_on_other_text(page):
    assert page.evaluate(OVERLAPS, TEXTS) == []
    # Text that does is found.
    two = "<div id=x><p>one</p><p style=margin-top:-2.2em>two</p></div>"
    page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", two)
    assert page.evaluate(OVERLAPS, "#x p") == ["one | two"]
    page.evaluate("document.getElementById('x').remove()")


def test_page_is_as_wide_as_the_window(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    inner = page.evaluate("[...document.querySelectorAll('.whole')].map(x => x.scrollWidth - x.clientWidth)")
    assert inner and max(inner) <= 0


def test_print_shows_everything_that_is_open(printed):
    assert printed.evaluate("document.documentElement.scrollWidth") <= 672
    assert printed.evaluate(OVERLAPS, TEXTS) == []
    wide = "[...document.querySelectorAll('.whole table')].map(x => x.getBoundingClientRect().right)"
    assert max(printed.evaluate(wide)) <= 672


def test_tables_sort_by_number(page):
    table = page.locator("#choosing table").first
    table.locator("th", has_text="regret").get_by_role("button").click()
    values = [float(text) for text in table.locator("tbody td:last-child").all_inner_texts()]
    assert values == sorted(values) and len(set(values)) > 1
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("regret")


STRUCTURE = """
() => {
  const named = x => (x.getAttribute("aria-label") || x.textContent || x.alt || "").trim();
  const ids = [...document.querySelectorAll("[id]")].map(x => x.id);
  const labels = [...document.querySelectorAll("[aria-labelledby]")].map(x => x.getAttribute("aria-labelledby"));
  return {
    unnamed: [...document.querySelectorAll("a, button, summary, [role=region], img")].filter(x => !named(x)).length,
    dangling: labels.filter(id => !document.getElementById(id)).length,
    headless: [...document.querySelectorAll("th")].filter(x => !x.scope).length,
    unreachable: [...document.querySelectorAll(".scroll")].filter(x => x.tabIndex !== 0).length,
    doubled: ids.length - new Set(ids).size,
  };
}
"""


def test_page_is_built_so_that_it_can_be_heard(page):
    """What a screen reader goes by and axe does not look for: names that are not empty, heads of tables, places."""
    found = page.evaluate(STRUCTURE)
    assert found == dict.fromkeys(found, 0)


def test_page_is_small_and_its_contents_are_folded_on_a_small_screen(page, report, browser):
    assert report.stat().st_size < 4e6
    assert page.evaluate("document.querySelectorAll('*').length") < 30_000
    small = browser.new_page(viewport={"width": 400, "height": 800})
    small.goto(report.as_uri())
    opened = "document.getElementById('contents').open"
    assert (page.evaluate(opened), small.evaluate(opened)) == (True, False)
    assert small.evaluate("document.documentElement.scrollWidth") <= 400
    small.close()


def test_a_table_is_loaded_when_it_is_opened(page):
    details = page.locator("details.table[data-table=zero_against_one_shot]")
    assert details.locator("table").count() == 0
    details.locator("summary").click()
    details.locator("tbody tr").first.wait_for()
    with (ROOT / "figures" / "zero_against_one_shot.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    heads = details.locator("th").all_inner_texts()
    assert [head.split()[0] for head in heads] == names and any("†" in head for head in heads)
    cells = details.locator("tbody tr").first.locator("td").all_inner_texts()
    shown = dict(zip(names, cells, strict=True))
    assert details.locator("tbody tr").count() == len(rows)
    assert shown["size"] == rows[0][names.index("size")] and shown["n_params_base"].count(",") == 3
    assert float(shown["value"]) == pytest.approx(float(rows[0][names.index("value")]), rel=1e-3)
    details.locator("summary").click()


def test_reader_is_told_what_the_data_support_and_why(page):
    """Held against the records' own table of probabilities, which the page must show in full."""
    words = page.locator("#choosing").inner_text()
    for heading in ("What these records support", "What they do not support", "Why"):
        assert heading in words
    with (ROOT / "figures" / "best_method.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["p_best"] and row["has_vote"] == "True"]
    found = [row for row in found if (row["grid"], row["kind"]) == ("released", "predicted")]
    cells = page.locator("#choosing-released tbody td.p").all_inner_texts()
    assert sorted(cells) == sorted(f"{float(row['p_best']):.2f}" for row in found)
    assert len(page.locator("#choosing-released tbody tr").all()) == len({row["dataset"] for row in found})
    assert len(page.locator("#scoreboard tbody tr").all()) >= 7
    answer = page.locator("header p").first.inner_text()
    assert re.match(r"Released models, at .*: (Choose|Do not choose by these records; if you must:) ", answer)


def test_figures_ask_and_answer(page):
    look = "x => [!!x.querySelector('img'), x.querySelector('.answer')?.innerText]"
    for is_drawn, text in page.evaluate(f"[...document.querySelectorAll('figure')].map({look})"):
        question, answer = text.split("?")
        assert question and (len(answer.strip()) > 20) == is_drawn
