"""Pages of a report: templates that escape every text, and a content security policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from line_neurons.agent.text import clean_text, counted, format_spread
from line_neurons.tui.formatting import number
from line_neurons.tui.report.overview import Overview, utc_time
from line_neurons.tui.report.thumbnails import ImageStrip
from line_neurons.tui.report.unit_section import UnitReport, Unreadable
from line_neurons.tui.unit_view import COMMAND_VERBS

MARK = '<meta name="generator" content="line report">'
"""In the head of every page, to recognise reports."""
MAX_LISTED_LABELS = 20_000
"""Maximum number of labels that the first page of several runs lists."""
MAX_TEXT = 4000
"""Maximum length of a text, in characters."""
# Served images are of the page's origin; browsers allow files by their scheme.
_FROM_FILES = "'self' file:"
_FILES = files(__package__) / "templates"


def unit_name(unit: int) -> str:
    """Return the name of a unit's page, without suffix, which is also its anchor."""
    return f"unit-{unit:d}"


def unit_section(report: UnitReport | Unreadable, level: int) -> Markup:
    """Render a unit as a section whose heading has the level 1 or 3."""
    name = "unit.html.j2" if isinstance(report, UnitReport) else "unreadable.html.j2"
    return _markup(_template(name).render(report=report, level=level))


@dataclass
class Labels:
    """What the table of labels shows of each unit that was read: the label's images, and its spread."""

    strips: dict[int, ImageStrip | None] = field(default_factory=dict)
    spreads: dict[int, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class RunReport:
    """A run of a report of several: its overview and labels, and the folder of its report."""

    overview: Overview
    labels: Labels
    folder: str


def whole_page(overview: Overview, labels: Labels, units: Iterable[Markup], images: str) -> Iterator[str]:
    """Render a report as one page, in pieces.

    Args:
        units: its units, from ``unit_section``.
        images: style rules of the images that are shown more than once.
    """
    return _page(
        "index.html.j2", "data:", images, overview=overview, labels=labels, units=units, address="#{}", above=""
    )


def index_page(overview: Overview, labels: Labels, above: str = "") -> Iterator[str]:
    """Render the first page of a report in a folder; ``above`` is the address of a report of several runs."""
    return _page(
        "index.html.j2", _FROM_FILES, "", overview=overview, labels=labels, units=(), address="units/{}.html",
        above=above,
    )  # fmt: skip


def runs_page(reports: Sequence[RunReport], unreadable: Sequence[tuple[str, str]], read: float) -> Iterator[str]:
    """Render the first page of a report of several runs.

    Args:
        unreadable: runs with damaged rows, and what is wrong with them.
        read: time of reading, in seconds since the epoch.
    """
    labels = sum(report.overview.labelled for report in reports)
    return _page(
        "runs.html.j2", _FROM_FILES, "", reports=reports, unreadable=unreadable, read=read, labels=labels,
        listed=labels <= MAX_LISTED_LABELS,
    )  # fmt: skip


def unit_page(
    overview: Overview, report: UnitReport | Unreadable, before: int | None, after: int | None
) -> Iterator[str]:
    """Render the page of a unit in a folder, with links to the units before and after it."""
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
    """Return the source expression of a style sheet or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _markup(text: str) -> Markup:
    """Mark text of this package as safe: its own files and rendered templates."""
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
    environment.globals["command_verbs"] = COMMAND_VERBS
    environment.filters |= {
        "number": number,
        "counted": counted,
        "spread": format_spread,
        "utc_time": utc_time,
        "unit_name": unit_name,
    }
    return environment


def _final(value: Any) -> Any:
    """Clean every text that a template prints."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean_text(value, MAX_TEXT)
    return value
