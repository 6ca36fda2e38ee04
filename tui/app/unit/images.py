"""Images of a concept in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

# Importing this queries the terminal's graphics protocol, which must precede the app.
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

# Without a terminal (a screenshot, a test) images are half cells, which every terminal can show.
ImageWidget: Callable[..., Widget] = (
    textual_image.widget.HalfcellImage
    if textual_image.renderable.Image is textual_image.renderable.UnicodeImage
    else textual_image.widget.Image
)

MAX_IMAGES = 30
"""The number of images of a concept that are shown."""

_PIXELS = 768
_CAPTION = 1


class LoadedImage(NamedTuple):
    """An image and its pixels; without pixels ``error`` says why."""

    image: StoredImage
    pixels: Image | None
    error: str


def load_images(store: Path, images: Sequence[str], run: Run, unit: int) -> list[LoadedImage]:
    """Load images of a run, scaled down to at most 768 pixels a side; slow.

    Raises:
        StoreError: the cache cannot be read.
    """
    target = str(run.fingerprints.get("target", ""))
    return [decode(image) for image in stored_images(store, images, target, run.layer, unit)]


def decode(image: StoredImage) -> LoadedImage:
    """Decode an image from the store."""
    if not image.content:
        return LoadedImage(image, None, image.error)
    try:
        pixels = read_image(image.content, side=_PIXELS)
    except ImageError as error:
        return LoadedImage(image, None, f"cannot be shown: {error}")
    pixels.thumbnail((_PIXELS, _PIXELS))
    return LoadedImage(image, pixels, "")


class ImageCard(Vertical, can_focus=True):
    """An image with the unit's activation under it."""

    DEFAULT_CSS = """
    ImageCard { width: auto; height: auto; margin: 0 1 0 0; }
    ImageCard > Static { height: 1; width: 100%; color: $text-muted; text-align: center; }
    ImageCard > .missing { height: 1fr; border: dashed $warning; color: $text-warning; text-align: left; }
    ImageCard:focus > .caption { text-style: reverse; }
    """

    class Opened(Message):
        """The image was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, index: int, loaded: LoadedImage) -> None:
        super().__init__()
        self.index = index
        self._loaded = loaded

    def compose(self) -> ComposeResult:
        """Lay out the image, or its error, over the caption."""
        loaded = self._loaded
        if loaded.pixels is None:
            yield Static(Text(f"the image {plain(loaded.error)}"), classes="missing", markup=False)
        else:
            yield ImageWidget(loaded.pixels)
        activation = loaded.image.activation
        caption = "not measured" if activation is None else number(activation)
        yield Static(Text(f"{self.index + 1}: {caption}"), classes="caption", markup=False)

    def fit(self, width: int, height: int) -> None:
        """Resize to the given number of cells; the caption is added."""
        self.styles.width, self.styles.height = width, height + _CAPTION
        image = self.children[0]
        pixels = self._loaded.pixels
        if pixels is not None:
            # A cell is about twice as high as wide.
            scale = min(width / pixels.width, 2 * height / pixels.height)
            image.styles.width = max(1, round(pixels.width * scale))
            image.styles.height = max(1, round(pixels.height * scale / 2))

    def on_click(self) -> None:
        """Open the image in large."""
        self.post_message(self.Opened(self.index))


class ImageGrid(Container):
    """The images of one concept, as large as fit; they are loaded in a worker thread.

    Attributes:
        wanted: ids of the images to show.
        loaded: the images on the screen, each in its card; empty while they are replaced.
    """

    DEFAULT_CSS = """
    ImageGrid { height: 1fr; layout: grid; grid-gutter: 0; align: center middle; overflow-y: auto; }
    ImageGrid > .note { height: auto; color: $text-muted; }
    """
    BINDING_GROUP_TITLE = "Images"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", "Previous image", show=False),
        Binding("right", "app.focus_next", "Next image", show=False),
        Binding("home", "focus_image(0)", "First image", show=False),
        Binding("end", "focus_image(-1)", "Last image", show=False),
        Binding("enter", "open", "Open image", show=False),
    ]

    class Failed(Message):
        """The cache cannot be read."""

        def __init__(self, error: LineError) -> None:
            super().__init__()
            self.error = error

    class _Loaded(Message):
        """Images were loaded."""

        def __init__(self, image_ids: tuple[str, ...], loaded: list[LoadedImage]) -> None:
            super().__init__()
            self.image_ids, self.loaded = image_ids, loaded

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self.image_ids: tuple[str, ...] | None = None
        self.loaded: list[LoadedImage] = []

    def show(self, run: Run, unit: int, images: Sequence[str]) -> None:
        """Show images of a run by their ids, with the activations of a unit."""
        image_ids = tuple(images[:MAX_IMAGES])
        if image_ids == self.image_ids:
            return
        self.image_ids = image_ids

        def read() -> None:
            worker = get_current_worker()
            try:
                loaded = load_images(self._store, image_ids, run, unit)
            except LineError as error:
                loaded = []
                self.post_message(self.Failed(error))
            if not worker.is_cancelled:
                self.post_message(self._Loaded(image_ids, loaded))

        self.run_worker(read, thread=True, exclusive=True, group="images", exit_on_error=False)

    def show_loaded(self, loaded: Sequence[LoadedImage]) -> None:
        """Show images that are loaded already; their ids tell them from others."""
        self.image_ids = tuple(one.image.id for one in loaded)
        self.post_message(self._Loaded(self.image_ids, list(loaded)))

    def focused(self) -> int:
        """Return the index of the focused image; 0 if there is none."""
        return next((card.index for card in self.query(ImageCard) if card.has_focus), 0)

    def action_focus_image(self, index: int) -> None:
        """Move the focus to an image."""
        if cards := list(self.query(ImageCard)):
            cards[index].focus()

    def action_open(self) -> None:
        """Open the focused image."""
        self.post_message(ImageCard.Opened(self.focused()))

    def on_resize(self, event: events.Resize) -> None:
        """Rearrange for the new size."""
        self._arrange()

    @on(_Loaded)
    async def _put(self, event: _Loaded) -> None:
        if event.image_ids != self.image_ids or not self.is_attached:
            return
        # A reader in between must not match old cards with new images.
        self.loaded = []
        async with self.batch():
            await self.remove_children()
            if event.loaded:
                await self.mount(*(ImageCard(index, image) for index, image in enumerate(event.loaded)))
            else:
                await self.mount(Static("The store has no images of it.", classes="note", markup=False))
        self.loaded = event.loaded
        self._arrange()

    def _arrange(self) -> None:
        cards = list(self.query(ImageCard))
        if not cards or self.size.width < 4 or self.size.height < 3:
            return
        columns, width, height = best_grid(len(cards), self.size.width, self.size.height)
        self.styles.grid_size_columns = columns
        self.styles.grid_columns = [width + 1]
        self.styles.grid_rows = [height + _CAPTION]
        for card in cards:
            card.fit(width, height)


def best_grid(count: int, width: int, height: int) -> tuple[int, int, int]:
    """Return the number of columns, and the width and height of an image, that make square images largest.

    Args:
        width: of the available space, in cells.
        height: of the available space, in cells.
    """

    def cell_size(columns: int) -> tuple[int, int]:
        rows = -(-count // columns)
        wide, high = width // columns - 1, height // rows - _CAPTION
        side = max(2, min(wide, 2 * high))
        return side, max(1, side // 2)

    columns = max(range(1, count + 1), key=lambda columns: (cell_size(columns)[0], -columns))
    return (columns, *cell_size(columns))
