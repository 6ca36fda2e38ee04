"""The ports: what the loop needs of a language model, a generator, a target and a control set.

Everything that crosses a port is plain data (strings, numbers, bytes, float arrays) or an error that pickles, so
that a port can be served by another process. Each implementation carries a ``fingerprint``: model id, weights
hash and settings. It is the cache key and the provenance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from line_neurons.agent.activations import SparseActivations, columns_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Activations = NDArray[np.float32]
    ImageData = bytes | NDArray[np.uint8]
    """An image as an encoded file (PNG, JPEG ...), or its pixels as uint8 [H, W, 3], RGB."""
    Measured = Mapping[tuple[str, str], Activations]
    """Activations [n_units] of an image, by fingerprint and path of the layer."""

Role = Literal["system", "user", "assistant"]
Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` while long work goes on; raising from it cancels the work."""


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """A chat to complete.

    The first ``shared`` messages (instructions and examples) are the same for every call of a run, so that an
    engine can keep its state for them; the last message carries the board and the history. ``concepts`` is the
    number of concepts that the reply is to name.
    """

    messages: tuple[Message, ...]
    shared: int = 0
    concepts: int = 1


@dataclass(frozen=True)
class Proposal:
    """A validated reply: the reasoning first, then one concept of one to three words.

    A thinking model's thoughts begin ``reasoning``; ``raw`` is the reply without them. Where the prompt asks for
    several concepts, ``named`` are those of the reply, in order and not validated; ``concept`` is the first.
    """

    reasoning: str
    concept: str
    raw: str
    named: tuple[str, ...] = ()


class LanguageModel(Protocol):
    """Proposes concepts."""

    @property
    def fingerprint(self) -> str:
        """Model id, weights hash and settings."""

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """Complete a chat with one proposal; ``seed`` is in [0, 2**31), ``temperature`` at least 0.

        Raises:
            ReplyError: the reply is not a usable proposal; it is never repaired.
            BackendError: the model could not be reached or failed.
        """


@dataclass(frozen=True)
class ImageRequest:
    """One image to generate: a normalised concept with its modifiers, and a seed in [0, 2**31).

    ``template`` is the prompt with ``{concept}``, ``{angle}`` and ``{lighting}``.
    """

    concept: str
    angle: str
    lighting: str
    seed: int
    template: str

    @property
    def prompt(self) -> str:
        """The prompt of a text-to-image model."""
        return (
            self.template.replace("{angle}", self.angle)
            .replace("{lighting}", self.lighting)
            .replace("{concept}", self.concept)
        )


@dataclass(frozen=True)
class DrawnImage:
    """A generated image.

    Args:
        png: the bytes of a PNG file; empty where ``pixels`` are to be encoded by whoever keeps the image.
        provenance: how the image was generated, as JSON values.
        pixels: the same image as uint8 [H, W, 3], where the generator has it; spares decoding the file.
        composed: it was composed of existing images; one of a single colour is then what they show. Elsewhere
            such an image is a failure: values that overflowed, or a safety checker.
        colour: the one colour of all pixels, as ``rgb(0, 0, 0)``, empty if they have several; None if
            the image has not been checked.
        measured: its activations, where the worker that generated it also measured it.
        stored: id and size in bytes of its file, where the worker that generated it has written that into the
            store; ``png`` is empty then.
    """

    png: bytes
    provenance: Mapping[str, Any] = field(default_factory=dict)
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    composed: bool = False
    colour: str | None = None
    measured: Measured = field(default_factory=dict, compare=False, repr=False)
    stored: tuple[str, int] | None = None


class Generator(Protocol):
    """Generates images of concepts."""

    @property
    def fingerprint(self) -> str:
        """Model or bank id, content hash and settings."""

    @property
    def batch_size(self) -> int:
        """Images generated at once; more in one call gain nothing, and are lost with it if it fails."""

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """Generate the requests, in order; deterministic in (fingerprint, request).

        Raises:
            NotDrawableError: a concept cannot be generated truthfully.
            BackendError: the generator failed.
        """

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """Return drawable things near ``concepts``, nearest first; empty if it can generate anything."""


EditKind = Literal["remove", "replace", "insert", "unchanged", "elsewhere"]
"""What an edit does: take a concept out, put another in its place, add it, change nothing, or change as much of
the image as ``remove`` does where the concept is not."""


@dataclass(frozen=True)
class EditRequest:
    """One edit of one image.

    Args:
        image: the image to edit, a PNG file as large as the editor's canvas.
        kind: what to do.
        concept: what is taken out or added.
        other: what takes its place (``replace``).
        seed: in [0, 2**31).
        source: how a generator made the image, where it did.
        name: what the image is called where edits are kept by name.
    """

    image: bytes = field(repr=False)
    kind: EditKind
    concept: str
    other: str = ""
    seed: int = 0
    source: ImageRequest | None = None
    name: str = ""


class Editor(Protocol):
    """Changes one thing in an image."""

    @property
    def fingerprint(self) -> str:
        """Model, weights hash and settings."""

    @property
    def side(self) -> int:
        """Width and height in pixels of the images that it takes and returns."""

    @property
    def kinds(self) -> frozenset[EditKind]:
        """The kinds of edit that it makes."""

    @property
    def exact(self) -> bool:
        """Whether it knows what images show, so that its edits need no check."""

    def offers(self, concept: str) -> bool:
        """Return whether it can put the concept into an image."""

    def edit(self, request: EditRequest) -> DrawnImage:
        """Edit one image; deterministic in (fingerprint, request).

        Raises:
            UneditableError: this image cannot be edited so.
            BackendError: the editor failed.
        """


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained: its dotted path, output shape without the batch, and number of units.

    ``reading`` is what its fingerprint adds to the target's: how the output is read, where earlier releases read
    it differently; else empty.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    units: int
    reading: str = ""


class Target(Protocol):
    """The vision model under study."""

    @property
    def fingerprint(self) -> str:
        """Model id and weights hash."""

    @property
    def batch_size(self) -> int:
        """Images in one forward pass; more in one call gain nothing."""

    def layers(self) -> list[LayerInfo]:
        """Return every layer whose output has units, in forward order."""

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """Return the names of the units of ``layer`` if they are output classes, else None."""

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Activations]:
        """Measure the pooled activations of all units of each layer, in one forward pass of each image.

        Returns:
            float32 [n_images, n_units] for each layer.

        Raises:
            UsageError: there is no such layer, or it has no units.
            UnmeasurableError: an image cannot be decoded or gave values that are not finite; names its index.
            BackendError: the forward pass failed.
        """


@dataclass(frozen=True)
class Control:
    """Activations of a layer on a control set.

    Args:
        classes: name of each class, sorted; these are the initial vocabulary. Empty if the set has no classes.
        labels: int [n_images], index into ``classes`` of each row; -1 for an image without a class.
        activations: float32 [n_images, n_units], dense or sparse.
        skipped: files that could not be read.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    activations: Activations | SparseActivations
    skipped: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Number of units of the layer."""
        return int(self.activations.shape[1])

    def column(self, unit: int) -> Activations:
        """Return the activations of a unit, float32 [n_images]."""
        if isinstance(self.activations, SparseActivations):
            return self.activations.column(unit)
        found: Activations = self.columns([unit])[:, 0]
        return found

    def columns(self, units: Sequence[int]) -> Activations:
        """Return the activations of some units, float32 [n_images, len(units)]."""
        return columns_of(self.activations, units)

    def dense(self) -> Activations:
        """Return all activations, float32 [n_images, n_units]: much memory where a layer has many units."""
        found = self.activations
        return found.dense() if isinstance(found, SparseActivations) else found


@dataclass(frozen=True)
class ControlChunk:
    """Some images of a control set.

    Args:
        images: encoded images.
        labels: index into the set's classes of each image; -1 if it has none.
        skipped: images of this chunk that could not be read, as ``name: reason``.
    """

    images: tuple[bytes, ...]
    labels: tuple[int, ...]
    skipped: tuple[str, ...] = ()


class ControlSet(Protocol):
    """A source of images, class-labelled or not, for the initial board and for AUC and MAD."""

    @property
    def fingerprint(self) -> str:
        """Identity of the images, their order and their classes."""

    def classes(self) -> tuple[str, ...]:
        """Return the class names, sorted; empty if the images have no classes."""

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """Read the images, in a fixed order and in the same chunks each time, from chunk ``start`` on."""

    @property
    def total(self) -> int | None:
        """The number of chunks, where it is known in advance."""

    @property
    def size(self) -> int | None:
        """The number of images in all chunks, where it is known in advance."""
