"""An exploration as HTML and as a picture: what the widgets and a static page show of it."""

import base64
import html
import io
from dataclasses import dataclass

import pandas as pd
from matplotlib import pyplot

from astraios_analysis.explorer.choices import Options
from astraios_analysis.explorer.figure import explored_fit
from astraios_analysis.explorer.results import Exploration, summarise_backtest
from astraios_analysis.figures.style import METHOD_STYLES

# On a screen; files have the resolution of print.
SCREEN_DPI = 120
_STYLE = (
    "<style>.explored{font-size:12px;line-height:1.35;border-collapse:collapse;margin:2px 0 10px}"
    ".explored th{text-align:left;border-bottom:1px solid #999;padding:1px 10px 1px 0;font-weight:600}"
    ".explored td{padding:1px 10px 1px 0;text-align:left;vertical-align:top;font-variant-numeric:tabular-nums}"
    ".explored caption{text-align:left;font-weight:600;font-size:13px;padding:4px 0;caption-side:top}</style>"
)


@dataclass(frozen=True)
class Page:
    """What is shown of an exploration.

    Attributes
    ----------
    picture : bytes
        PNG.
    prediction, fit, notes : str
        HTML: the prediction with the back-test, the fit's parameters with its certificate, what is left out.
    """

    picture: bytes
    prediction: str
    fit: str
    notes: str

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.picture).decode("ascii")
        image = f'<img src="data:image/png;base64,{picture}" alt="law and back-test" style="max-width:100%">'
        return image + self.prediction + self.fit + self.notes


def picture_of(exploration: Exploration) -> bytes:
    """Return the figure of an exploration as PNG for a screen."""
    figure, _ = explored_fit(exploration)
    file = io.BytesIO()
    try:
        figure.savefig(file, format="png", dpi=SCREEN_DPI, metadata={"Software": None})
    finally:
        pyplot.close(figure)
    return file.getvalue()


def page_of(exploration: Exploration, options: Options | None = None) -> Page:
    """Return what is shown of an exploration.

    Parameters
    ----------
    exploration : Exploration
    options : Options, optional
        What the grid offers; what it lacks is named.
    """
    return Page(
        picture_of(exploration),
        _STYLE + html_table(prediction_table(exploration), "Prediction for a new run")
        + html_table(backtest_table(exploration), "Back-test: sizes the fit has not seen"),
        fit_page(exploration),
        notes_page([*exploration.notes, *(options.lacking if options else ())]),
    )  # fmt: skip


def fit_page(exploration: Exploration) -> str:
    """Return the fit's parameters and its certificate as HTML."""
    words = "Fit" if exploration.is_certified else "Fit (profile intervals are being computed)"
    return (
        _STYLE
        + html_table(parameter_table(exploration), words)
        + html_table(certificate_table(exploration), "Certificate")
    )


def certificate_table(exploration: Exploration) -> pd.DataFrame:
    """Return what speaks for and against the fit, one row an item."""
    found = exploration.certificate
    return pd.DataFrame({"item": list(found), "what it says": list(found.values())})


def notes_page(notes: list[str]) -> str:
    """Return notes as an HTML list; empty where there are none."""
    items = "".join(f"<li>{html.escape(note)}</li>" for note in dict.fromkeys(notes))
    return f'<ul style="font-size:12px;line-height:1.35;margin:4px 0;padding-left:18px">{items}</ul>' if items else ""


def parameter_table(exploration: Exploration) -> pd.DataFrame:
    """Return the fitted parameters with intervals, in words for people."""
    table, percent = exploration.parameters, f"{100 * exploration.choice.level:g} %"
    found = pd.DataFrame(
        {
            "of": [_name(group) for group in table["group"]],
            "parameter": table["parameter"],
            "value": table["value"],
            f"{percent} interval": _intervals(table),
            "made by": table["interval"],
        }
    )
    if table["identified"].any():
        found["identified"] = table["identified"]
    return found


def prediction_table(exploration: Exploration) -> pd.DataFrame:
    """Return predictions for a new run, one row a method."""
    rows = []
    level = exploration.choice.level
    table = exploration.predictions
    for method, own in table.groupby("method", sort=False):
        row = {"method": _name(str(method)), "predicted": own["value"].iloc[0]}
        for wanted, kind, words in ((0.5, "observation", "50 %"), (level, "observation", f"{100 * level:g} %")):
            part = own[(own["level"] == wanted) & (own["kind"] == kind)]
            row[words] = _intervals(part)[0]
        part = own[(own["level"] == level) & (own["kind"] == "mean")]
        row[f"law, {100 * level:g} %"] = _intervals(part)[0]
        row["reach"] = f"{own['reach'].iloc[0]:.1f} x"
        rows.append(row)
    return pd.DataFrame(rows)


def backtest_table(exploration: Exploration) -> pd.DataFrame:
    """Return the summary of the back-test in words for people."""
    table = summarise_backtest(exploration.backtest)
    covered = [f"{n} of {of}" for n, of in zip(table["n_covered"], table["n"], strict=True)]
    percent = f"{100 * exploration.choice.level:g} % interval covered"
    return pd.DataFrame(
        {
            "size": table["size"],
            "held out": table["held_out_by"].map({"records": "by the records", "choice": "here", "in turn": "in turn"}),
            "mean error": table["mean_abs_error"],
            "no change": table["no_change"],
            percent: covered,
        }
    )


def _intervals(table: pd.DataFrame) -> list[str]:
    return [f"[{low:.3g}, {high:.3g}]" for low, high in zip(table["lower"], table["upper"], strict=True)]


def _name(group: str) -> str:
    return METHOD_STYLES[group].label if group in METHOD_STYLES else group


def html_table(table: pd.DataFrame, caption: str) -> str:
    """Return a table as HTML with four digits; of no rows, that there are none."""
    if table.empty:
        return f'<p style="font-size:12px"><b>{html.escape(caption)}</b>: none</p>'
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    title = f"<caption>{html.escape(caption)}</caption>"
    return f'<table class="explored">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
