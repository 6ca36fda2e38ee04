"""The pages of a report: templates in which every text is data, and a policy that lets nothing of it run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from line_neurons.agent.text import clean_text
from line_neurons.tui.formatting import number
from line_neurons.tui.report.overview import Overview, moment
from line_neurons.tui.report.thumbnails import Strip
from line_neurons.tui.report.unit_section import UnitReport, Unreadable

MARK = '<meta name="generator" content="line report">'
"""In the head of every page, so that a report is told from files that are none."""
MAX_TEXT = 4000
"""A text has at most so many characters."""
# From a server the images are the page's own; where a browser opens files it goes by the scheme.
_FROM_FILES = "'self' file:"
_FILES = files(__package__) / "templates"


def unit_name(unit: int) -> str:
    """What the page of a unit is called, and its place in a page of many, without an ending."""
    return f"unit-{unit:d}"


def unit_section(report: UnitReport | Unreadable, level: int) -> Markup:
    """A unit as part of a page.

    Args:
        report: the unit.
        level: of its heading, 1 or 3.
    """
    name = "unit.html.j2" if isinstance(report, UnitReport) else "unreadable.html.j2"
    return _markup(_template(name).render(report=report, level=level))


def whole_page(
    overview: Overview, labels: Mapping[int, Strip | None], units: Iterable[Markup], images: str
) -> Iterator[str]:
    """A report as one page, piece by piece.

    Args:
        overview: the run.
        labels: the images of each unit's label.
        units: its units, as ``unit_section`` gives them.
        images: style rules of the images that are shown more than once.
    """
    return _page("index.html.j2", "data:", images, overview=overview, labels=labels, units=units, address="#{}")


def index_page(overview: Overview, labels: Mapping[int, Strip | None]) -> Iterator[str]:
    """The first page of a report in a folder; see ``whole_page``."""
    return _page(
        "index.html.j2", _FROM_FILES, "", overview=overview, labels=labels, units=(), address="units/{}.html"
    )


def unit_page(
    overview: Overview, report: UnitReport | Unreadable, before: int | None, after: int | None
) -> Iterator[str]:
    """The page of a unit in a folder.

    Args:
        overview: the run.
        report: the unit.
        before: the unit before it; None of the first.
        after: the unit after it; None of the last.
    """
    section = unit_section(report, 1)
    return _page(
        "page-of-unit.html.j2", _FROM_FILES, "", overview=overview, section=section, report=report,
        before=before, after=after,
    )  # fmt: skip


def _page(template: str, images: str, image_sheet: str, **given: Any) -> Iterator[str]:
    style, script = _own("report.css"), _own("report.js")
    sheets = [sheet for sheet in (style, image_sheet) if sheet]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"img-src {images}",
            f"style-src {' '.join(map(_hash, sheets))}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    own = {"mark": _markup(MARK), "sheets": [*map(_markup, sheets)], "script": _markup(script)}
    return _template(template).generate(policy=policy, **own, **given)


def _hash(text: str) -> str:
    """What the policy calls a style sheet or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _markup(text: str) -> Markup:
    """What this package wrote itself: its own files, and what its templates made."""
    return Markup(text)  # noqa: S704


@cache
def _own(name: str) -> str:
    return (_FILES / name).read_text("utf-8")


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_own),
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "moment": moment, "unit_name": unit_name}
    return environment


def _final(value: Any) -> Any:
    """Every value that a template gives out: texts are cleaned as everywhere that people read them."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean_text(value, MAX_TEXT)
    return value
