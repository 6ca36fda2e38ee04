"""The images of a concept, as the terminal can show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

# The terminal is asked what it can show when this is imported: before the app takes it over.
import textual_image.renderable
import textual_image.widget
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from line_neurons.agent.errors import LineError
from line_neurons.tools.cache.reader import StoredImage, stored_images
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.store.records import Run
from line_neurons.tui.formatting import number, plain

if TYPE_CHECKING:
    from PIL.Image import Image

# Without a terminal to ask (a screenshot, a test) there are half cells, which every one can show.
ImageWidget: Callable[..., Widget] = (
    textual_image.widget.HalfcellImage
    if textual_image.renderable.Image is textual_image.renderable.UnicodeImage
    else textual_image.widget.Image
)

MOST = 30
"""So many images of a concept are shown."""

_PIXELS = 768
_CAPTION = 1


class Loaded(NamedTuple):
    """An image and its pixels; where there are none ``error`` says why."""

    image: StoredImage
    pixels: Image | None
    error: str


def load(store: Path, images: Sequence[str], run: Run, unit: int) -> list[Loaded]:
    """Images of a run with their pixels, small enough to be shown quickly; takes a while.

    Raises:
        StoreError: the bank cannot be read.
    """
    target = str(run.fingerprints.get("target", ""))
    return [_decoded(one) for one in stored_images(store, images, target, run.layer, unit)]


def _decoded(one: StoredImage) -> Loaded:
    if not one.content:
        return Loaded(one, None, one.error)
    try:
        shown = read_image(one.content, side=_PIXELS)
    except ImageError as error:
        return Loaded(one, None, f"cannot be shown: {error}")
    shown.thumbnail((_PIXELS, _PIXELS))
    return Loaded(one, shown, "")


class Card(Vertical, can_focus=True):
    """An image with the unit's activation under it."""

    DEFAULT_CSS = """
    Card { width: auto; height: auto; margin: 0 1 0 0; }
    Card > Static { height: 1; width: 100%; color: $text-muted; text-align: center; }
    Card > .missing { height: 1fr; border: dashed $warning; color: $text-warning; text-align: left; }
    Card:focus > .caption { text-style: reverse; }
    """

    class Opened(Message):
        """The image was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, index: int, loaded: Loaded) -> None:
        super().__init__()
        self.index = index
        self._loaded = loaded

    def compose(self) -> ComposeResult:
        """The image, or what is wrong with it."""
        one = self._loaded
        shown: Widget
        if one.pixels is None:
            shown = Static(Text(f"the image {plain(one.error)}"), classes="missing", markup=False)
        else:
            shown = ImageWidget(one.pixels)
        said = number(one.image.activation) if one.image.activation is not None else "not measured"
        yield shown
        yield Static(Text(f"{self.index + 1}: {said}"), classes="caption", markup=False)

    def fit(self, width: int, height: int) -> None:
        """Take so many cells, the caption included."""
        self.styles.width, self.styles.height = width, height + _CAPTION
        shown = self.children[0]
        pixels = self._loaded.pixels
        if pixels is not None:
            # A cell is about twice as high as wide.
            scale = min(width / pixels.width, 2 * height / pixels.height)
            shown.styles.width = max(1, round(pixels.width * scale))
            shown.styles.height = max(1, round(pixels.height * scale / 2))

    def on_click(self) -> None:
        """Open it large."""
        self.post_message(self.Opened(self.index))


class ImagesView(Container):
    """The images of one concept, each as large as there is room for all; they are loaded beside the app.

    Args:
        store: the store's folder.

    Attributes:
        wanted: ids of the images that are to be shown.
        loaded: those that are, each in its card; empty while they are exchanged.
    """

    DEFAULT_CSS = """
    ImagesView { height: 1fr; layout: grid; grid-gutter: 0; align: center middle; overflow-y: auto; }
    ImagesView > .note { height: auto; color: $text-muted; }
    """
    BINDING_GROUP_TITLE = "Images"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", "Previous image", show=False),
        Binding("right", "app.focus_next", "Next image", show=False),
        Binding("enter", "open", "Open image", show=False),
    ]

    class Failed(Message):
        """The bank cannot be read."""

        def __init__(self, error: LineError) -> None:
            super().__init__()
            self.error = error

    class _Found(Message):
        """Images were loaded."""

        def __init__(self, wanted: tuple[str, ...], found: list[Loaded]) -> None:
            super().__init__()
            self.wanted, self.found = wanted, found

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self.wanted: tuple[str, ...] | None = None
        self.loaded: list[Loaded] = []

    def show(self, run: Run, unit: int, images: Sequence[str]) -> None:
        """Show images of a run by their ids, with one unit's activations on them."""
        wanted = tuple(images[:MOST])
        if wanted == self.wanted:
            return
        self.wanted = wanted

        def read() -> None:
            worker = get_current_worker()
            try:
                found = load(self._store, wanted, run, unit)
            except LineError as error:
                found = []
                self.post_message(self.Failed(error))
            if not worker.is_cancelled:
                self.post_message(self._Found(wanted, found))

        self.run_worker(read, thread=True, exclusive=True, group="images", exit_on_error=False)

    def focused(self) -> int:
        """Index of the image that has the focus, else the first."""
        return next((card.index for card in self.query(Card) if card.has_focus), 0)

    def action_open(self) -> None:
        """Open the image that has the focus."""
        self.post_message(Card.Opened(self.focused()))

    def on_resize(self, event: events.Resize) -> None:
        """Use the new room."""
        self._arrange()

    @on(_Found)
    async def _put(self, event: _Found) -> None:
        found = event.found
        if event.wanted != self.wanted or not self.is_attached:
            return
        # Whoever asks meanwhile must not match the one's cards with the other's images.
        self.loaded = []
        async with self.batch():
            await self.remove_children()
            if found:
                await self.mount(*(Card(index, one) for index, one in enumerate(found)))
            else:
                await self.mount(Static("No images of it are in the store.", classes="note", markup=False))
        self.loaded = found
        self._arrange()

    def _arrange(self) -> None:
        cards = list(self.query(Card))
        if not cards or self.size.width < 4 or self.size.height < 3:
            return
        columns, width, height = best_grid(len(cards), self.size.width, self.size.height)
        self.styles.grid_size_columns = columns
        self.styles.grid_columns = [width + 1]
        self.styles.grid_rows = [height + _CAPTION]
        for card in cards:
            card.fit(width, height)


def best_grid(count: int, width: int, height: int) -> tuple[int, int, int]:
    """Columns, and the cells of a square image, with which ``count`` images are largest in a space.

    Args:
        count: number of images.
        width: of the space, in cells.
        height: of the space, in cells.
    """

    def room(columns: int) -> tuple[int, int]:
        rows = -(-count // columns)
        wide, high = width // columns - 1, height // rows - _CAPTION
        side = max(2, min(wide, 2 * high))
        return side, max(1, side // 2)

    columns = max(range(1, count + 1), key=lambda columns: (room(columns)[0], -columns))
    return (columns, *room(columns))
