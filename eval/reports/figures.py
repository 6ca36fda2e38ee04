"""Style and elements of figures: one width, colours for colour-blind readers, PNG and SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import clean_text
from line_neurons.eval.reports.statistics import Summary
from line_neurons.tools.packages import required_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
"""Okabe and Ito's, the darkest first; each series has its own mark as well, for print without colour."""
MARKS = "osD^vPX*"
WIDTH = 7.0
"""Inches."""
_DPI = 200
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    # Makes files reproducible.
    "svg.hashsalt": "line",
    # Labels are not formulas.
    "text.parse_math": False,
}


def rendered(draw: Callable[[], Figure]) -> dict[str, bytes]:
    """Render a figure's files by their kind; the same figure gives the same bytes.

    Raises:
        MissingPartError: matplotlib is not installed.
    """
    with required_package("matplotlib", "eval", needed="figures need"):
        import matplotlib as mpl
        from matplotlib import style
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    files = {}
    # Letters that the font lacks are drawn as boxes.
    quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
    with quiet, style.context("default"), mpl.rc_context(_STYLE):
        figure = draw()
        figure.set_dpi(_DPI)
        # A layout engine of the figure would lay it out for each file, which takes longer than to draw it.
        ConstrainedLayoutEngine().execute(figure)
        box = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
        for kind, metadata in (("png", {"Software": ""}), ("svg", {"Date": None})):
            written = io.BytesIO()
            figure.savefig(written, format=kind, dpi=_DPI, bbox_inches=box, metadata=metadata)
            files[kind] = written.getvalue()
    return files


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Create a figure with panels, without the windows and the global state of pyplot.

    Args:
        height: of a row, in inches.
        options: see ``Figure.subplots``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def shortened(text: str, limit: int = 40) -> str:
    """Clean and shorten a text for a figure."""
    cleaned = clean_text(text, 4 * limit)
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def curve(axes: Axes, found: Sequence[Summary], nth: int, start: int = 0, label: str | None = None) -> None:
    """Draw the nth series of a panel: means from ``start`` on, with their intervals as a band."""
    colour, xs = COLOURS[nth % len(COLOURS)], range(start, start + len(found))
    means, low, high = ([getattr(summary, name) for summary in found] for name in ("mean", "low", "high"))
    axes.plot(xs, means, marker=MARKS[nth % len(MARKS)], color=colour, label=label)
    axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)


def intervals(axes: Axes, names: Sequence[str], found: Sequence[Summary], start: int = 0) -> None:
    """Draw means with their intervals, one below the other.

    Args:
        names: of the rows, from the top.
        start: index of the first one's colour.
    """
    for place, summary in enumerate(found):
        colour = COLOURS[(place + start) % len(COLOURS)]
        mark = MARKS[(place + start) % len(MARKS)]
        axes.plot([summary.low, summary.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([summary.mean], [place], mark, color=colour, markersize=5.5)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(visible=False, axis="y")


def draw_stored_image(axes: Axes, store: Path, image: str, side: int) -> None:
    """Draw an image of a store's cache, or say that it is missing.

    Args:
        side: to which it is resized, in pixels.
    """
    from line_neurons.tools.cache.image_files import image_path
    from line_neurons.tools.images.reader import ImageError, read_image

    try:
        axes.imshow(read_image(image_path(store, image).read_bytes()).resize((side, side)))
    except (OSError, ImageError):
        axes.text(0.5, 0.5, "image missing", ha="center", va="center", transform=axes.transAxes)
