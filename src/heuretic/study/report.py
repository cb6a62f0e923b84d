"""`render`: a study as one HTML file that opens anywhere, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib.resources import files
from string import Template
from typing import Any

import heuretic
from heuretic.study.report_curves import curves_section
from heuretic.study.report_energy import energy_section
from heuretic.study.report_figures import BEST, FRONT
from heuretic.study.report_objectives import front_section
from heuretic.study.report_page import Page, Reportable
from heuretic.study.report_text import as_unicode, esc

__all__ = ["Reportable", "render"]


def render(study: Reportable) -> str:
    """Return the report of a study as one HTML page.

    The page holds everything it shows, plotly.js included (about 5 MB), and its content security policy forbids it
    to load anything or to run any other script. Without scripts it still shows every table and program, and
    drawings of the charts. Equal studies give equal pages.
    """
    page = Page(study)
    sections = [
        ("progress", "Progress", "Progress", page.progress()),
        ("objectives", "Front", "The front", front_section(page)),
        ("curves", "Curves", "Learning curves", curves_section(page)),
        ("trade-off", "Cost", "Quality and cost", page.trade_off()),
        ("choices", "Choices", "Choices", page.choices()),
        ("lineage", "Lineage", "How the winner came about", page.lineage()),
        ("programs", "Programs", "The winner against the start", page.programs()),
        ("top", "Best trials", "Best trials", page.table()),
        ("energy", "Energy", "Energy and emissions", energy_section(page)),
        ("failures", "Failures", "Failures", page.failures()),
        ("environment", "Environment", "Environment", page.environment()),
    ]
    shown = [section for section in sections if section[-1]]
    links = "".join(f'<a href="#{anchor}">{short}</a>' for anchor, short, _, _ in shown)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="h-{anchor}"><h2 id="h-{anchor}">{title}</h2>{content}</section>\n'
        for anchor, _, title, content in shown
    )
    plotly, script = _inline(_plotly_js()), _inline(_resource("report.js"))
    return _Template(_resource("report.html")).substitute(
        hashes=f"{_hash(plotly)} {_hash(script)}",
        version=esc(heuretic.__version__),
        title=as_unicode(esc(f"{study.name}: report")),
        best=BEST,
        front=FRONT,
        body=as_unicode(
            f'<header>{page.header()}<nav aria-label="Sections">{links}</nav></header>\n<main>{body}</main>'
        ),
        data=_json(page.data),
        plotly=plotly,
        script=script,
    )


class _Template(Template):
    delimiter = "@@"


def _json(data: Any) -> str:
    """Return JSON that can stand in a script element: ASCII only, and nothing that HTML could read as its own."""
    text = json.dumps(_finite(data), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(data: Any) -> Any:
    """Return the data with numbers that JSON lacks as null, and to six digits, which no screen can tell apart."""
    if isinstance(data, float):
        return float(f"{data:.7g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def _resource(name: str) -> str:
    return (files("heuretic.study") / name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """Return a script that may stand in a page: nothing in its strings ends the element, lines end as HTML reads them."""
    script = script.replace("\r\n", "\n").replace("\r", "\n")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
