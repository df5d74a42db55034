import base64
import html.parser
import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from astraios_analysis.figures.gallery import FIGURES, MIME, find_spec
from astraios_analysis.figures.spec import FigureSpec
from astraios_analysis.render import render as manifest
from astraios_analysis.render import report
from astraios_analysis.render.report import read_lacking

ROOT = Path(__file__).parents[2]
# A PNG of one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SPECS = [
    FigureSpec("late", "Late", "zoo", "Drawn by a notebook that has no file."),
    FigureSpec("first", "First <figure>", "model_suite", 'Bars: 95 % "intervals" & more', ("share",)),
    FigureSpec("absent", "Absent", "model_suite", "Not there."),
]
TABLE = "size,n_params,share,held_out,note\n1b,1137207296,0.123456,True,NA\n16b,15517456384,,False,\n"
INTRODUCTION = "# The model suite\n\n**What grows?** See [data](../data/README.md).\n\n<script>alert(1)</script>"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Build, figures and notebooks with two of three figures rendered: the first arguments of `write_report`."""
    monkeypatch.setattr(report, "FIGURES", {spec.name: spec for spec in SPECS})
    build, figures, notebooks = (tmp_path / name for name in ("build", "figures", "notebooks"))
    for folder in (build / "notebooks", figures, notebooks):
        folder.mkdir(parents=True)
    for name in ("first", "late"):
        (figures / f"{name}.png").write_bytes(PIXEL)
        (figures / f"{name}.pdf").write_text(name)
    (figures / "first.csv").write_text(TABLE)
    write_notebook(notebooks / "model_suite.ipynb", INTRODUCTION)
    write_notebook(notebooks / "explore.ipynb", "No heading here.")
    (build / "notebooks" / "model_suite.ipynb").write_text("{}")
    return build, figures, notebooks


def write_notebook(path, text):
    cell = {"cell_type": "markdown", "metadata": {}, "source": text}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))


class Page(html.parser.HTMLParser):
    """The elements of a page, its visible text by element, and whether they nest."""

    VOID = ("meta", "img", "link", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [words for name, words in self.words if name == tag]


def write(folders, summary=None, seeds=None):
    return report.write_report(*folders, summary or {}, seeds or {"released": 1})


def read(folders, *what):
    return Page(write(folders, *what).read_text(encoding="utf-8"))


def test_pictures_are_in_the_page_and_described(folders):
    images = read(folders).all("img")
    assert [image["alt"] for image in images] == [f"{spec.title}. {spec.caption}" for spec in (SPECS[1], SPECS[0])]
    for image in images:
        kind, content = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (1, 1)


def test_page_needs_no_network_and_its_links_lead_somewhere(folders):
    write_manifest(folders)
    page = read(folders)
    assert page.all("link") == []
    assert all("src" not in script for script in page.all("script"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    addresses = [attributes["href"] for attributes in page.all("a")]
    assert {"../figures/first.pdf", "../figures/first.csv", "notebooks/model_suite.ipynb"} <= set(addresses)
    for address in addresses:
        if address.startswith("data:application/zip;base64,"):
            continue
        found = address[1:] in ids if address.startswith("#") else (folders[0] / address).exists()
        assert found or address == "../data/README.md"


def test_summary_and_sections_in_the_order_of_notebooks(folders):
    summary = {"Models": "28", "Sizes": "1b, 16b"}
    page = read(folders, summary)
    assert page.text("dt") == list(summary) and page.text("dd") == list(summary.values())
    # Neither a notebook without figures has a section, nor a figure without a picture a place.
    assert page.text("h2") == ["The model suite", "Zoo", "Provenance"]
    assert page.text("h3") == ["First <figure>", "Late"]
    assert "What grows?" in page.text("strong")
    # HTML in a notebook is text.
    assert any("<script>alert(1)</script>" in words for words in page.text("div") + page.text("p"))
    assert len(page.all("script")) == 1


def test_all_tables_are_in_one_archive_as_they_are(folders):
    page = read(folders)
    (link,) = [link for link in page.all("a") if "download" in link]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(link["href"].split(",")[1]))) as packed:
        assert packed.namelist() == ["first.csv"] and packed.read("first.csv").decode() == TABLE
        assert packed.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    (table,) = [details for details in page.all("details") if details.get("class") == "table"]
    assert table["data-table"] == "first" and table["data-fitted"].split() == ["share"]
    assert "Table of what is drawn: 2 rows" in page.text("summary")
    (folders[1] / "first.csv").write_text("")
    assert not any("Table of what is drawn" in words for words in read(folders).text("summary"))


def write_manifest(folders):
    build, figures, notebooks = folders
    outputs = manifest.figure_files(figures, "model_suite", report.FIGURES)
    entry = manifest.describe_notebook(notebooks / "model_suite.ipynb", outputs, {"level": 0.9})
    return manifest.write_manifest(build, manifest.describe_inputs(notebooks), {"model_suite": entry})


def test_provenance_names_versions_and_the_manifest(folders):
    assert any("There is no manifest" in words for words in read(folders).text("p"))
    path = write_manifest(folders)
    page = read(folders)
    assert manifest.file_hash(path) in page.text("code")
    assert {"python", "numpy", "matplotlib"} <= set(page.text("dt"))
    assert "level = 0.9" in page.text("td")


def test_figures_that_the_manifest_does_not_describe_are_marked(folders):
    write_manifest(folders)

    def marked():
        return sum("were made earlier" in words for words in read(folders).text("p"))

    assert marked() == 1  # of zoo, which did not run
    (folders[1] / "first.csv").write_text(TABLE.replace("0.12", "0.13"))
    assert marked() == 2


def test_same_figures_give_the_same_page(folders, tmp_path):
    write_manifest(folders)
    first = write(folders).read_bytes()
    assert write(folders).read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_page_of_the_project_holds_every_figure(tmp_path):
    figures, seeds = tmp_path / "figures", {"released": 1, "mini": 1, "ladder": 1}
    shutil.copytree(ROOT / "figures", figures, ignore=shutil.ignore_patterns("*.png"))
    files = sorted(path.stem for path in (ROOT / "figures").glob("*.png"))
    for name in files:
        (figures / f"{name}.png").write_bytes(PIXEL)
    page = read((tmp_path / "build", figures, ROOT / "notebooks"), {}, seeds)
    drawn = {find_spec(stem)[0].name for stem in files}
    assert {spec.title for name, spec in FIGURES.items() if name in files} <= set(page.text("h3"))
    assert drawn == FIGURES.keys()
    assert len(page.all("figure")) == len(page.all("img")) == len(files)
    assert all(image["alt"] for image in page.all("img")) and page.text("figcaption")


def executed(path, *lacking):
    """Write an executed notebook that drew nothing of these figures and grids."""
    cells = [
        {"cell_type": "code", "outputs": [{"output_type": "execute_result", "data": {MIME: gallery}}]}
        for figure, grid, reason in lacking
        for gallery in [{"figure": figure, "drawn": {}, "lacking": {grid: reason}}]
    ]
    path.write_text(json.dumps({"cells": cells}))


def test_what_a_grid_lacks_is_listed(folders):
    executed(folders[0] / "notebooks" / "model_suite.ipynb", ("absent", "mini", "it needs <two> sizes"))
    page = read(folders)
    assert page.text("h2")[-2:] == ["What these records lack", "Provenance"]
    assert [words for words in page.text("td") if "needs" in words] == ["it needs <two> sizes"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cells": [1]}', '{"cells": [{"outputs": [{"data": {"' + MIME + '": {}}}]}]}']
)
def test_executed_copy_that_is_not_whole_says_nothing(tmp_path, text):
    (tmp_path / "n.ipynb").write_text(text)
    assert read_lacking(tmp_path / "n.ipynb") == read_lacking(tmp_path / "none.ipynb") == []


def test_figures_of_earlier_records_stay_out(folders):
    for suffix in ("png", "csv"):
        (folders[1] / f"first_mini.{suffix}").write_bytes((folders[1] / f"first.{suffix}").read_bytes())
    titles = read(folders, {}, {"released": 1, "mini": 1}).text("h3")
    assert titles[titles.index("First <figure>") + 1] == "First <figure>: grid mini"
    titles = read(folders, {}, {"mini": 1}).text("h3")
    assert "First <figure>: grid mini" in titles and "First <figure>" not in titles
