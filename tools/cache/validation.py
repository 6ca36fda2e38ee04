"""Validate images from any generator and activations from any target before they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from line_neurons.agent.errors import (
    BackendError,
    DrainedError,
    LineError,
    NotDrawableError,
    UnfitOutputError,
    UnmeasurableError,
    reason_of,
)
from line_neurons.agent.ports import DrawnImage, Generator, ImageRequest, Progress, Target
from line_neurons.agent.seeds import derive_seed
from line_neurons.tools.cache.image_files import PNG_BEGIN, PNG_END
from line_neurons.tools.devices import is_out_of_memory
from line_neurons.tools.images.png import with_file
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.parallel import parallel_map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, ImageData

Result = TypeVar("Result")


@dataclass(frozen=True)
class Generation:
    """Result of a request.

    Args:
        image: the image; None if there is none that may be scored.
        plain: the colour that the first attempt had all over, as ``rgb(0, 0, 0)``; empty if that was an image.
    """

    image: DrawnImage | None
    plain: str = ""


def generate(
    generator: Generator, requests: Sequence[ImageRequest], progress: Progress | None = None
) -> list[Generation]:
    """Generate images and validate each.

    An image whose pixels all have one colour is what a text-to-image model gives when half precision overflows or
    a safety checker steps in. It is generated once more, with a seed that follows from its own; if that is plain
    too, there is no image. Images that are composed from existing ones are accepted as they are.

    Returns:
        the result of each request, in order; deterministic if the generator is.

    Raises:
        NotDrawableError: see ``Generator.synthesize``.
        BackendError: the generator failed, or gave something that is no image.
    """
    images = checked_images(generator, requests, progress)
    plain = {place: colour for place, image in enumerate(images) if (colour := image.colour)}
    results = [Generation(image) for image in images]
    if plain:
        again = [replace(requests[place], seed=derive_seed("plain", requests[place].seed)) for place in plain]
        for (place, colour), request, image in zip(
            plain.items(), again, checked_images(generator, again), strict=True
        ):
            metadata = {**image.provenance, "drawn_again": {"seed": request.seed, "plain": colour}}
            results[place] = Generation(None if image.colour else replace(image, provenance=metadata), colour)
    return results


def one_line_errors(what: str, work: Callable[[], Result], remedy: str) -> Result:
    """Call ``work``, with any unexpected exception of a component raised as an error for the user.

    Args:
        what: the component, as ``the generator``.
        remedy: what helps if memory ran out.

    Raises:
        BackendError: the component raised an unexpected exception.
    """
    try:
        return work()
    except (LineError, NotDrawableError, DrainedError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise BackendError(f"{what} ran out of memory: {reason_of(error)}", remedy) from error
        raise BackendError(f"{what} failed: {reason_of(error)}", "--debug shows where") from error


def checked_images(
    generator: Generator, requests: Sequence[ImageRequest], progress: Progress | None = None
) -> list[DrawnImage]:
    """Generate images and check that each is one; their ``colour`` is known then.

    Raises:
        NotDrawableError: see ``Generator.synthesize``.
        BackendError: the generator failed, or gave something that is no image.
    """
    images = one_line_errors(
        "the generator", lambda: generator.synthesize(requests, progress), "free some, or generate smaller batches"
    )
    if len(images) != len(requests):
        raise UnfitOutputError(f"the generator gave {len(images)} images for {len(requests)} requests")
    # Not in the generator's thread, which has the next batch to generate.
    return list(parallel_map(lambda pair: _checked(*pair), zip(images, requests, strict=True)))


def _checked(image: DrawnImage, request: ImageRequest) -> DrawnImage:
    """Return a generated image with its file, which it may have come without, and its colour."""
    if not isinstance(image, DrawnImage) or not isinstance(image.png, bytes):
        kind = type(image.png if isinstance(image, DrawnImage) else image).__name__
        raise _broken(request, f"it is {kind}")
    if image.stored:
        # The worker that wrote it checked it.
        return image
    try:
        whole = with_file(image)
        if not (whole.png.startswith(PNG_BEGIN) and whole.png.endswith(PNG_END)):
            raise ValueError(f"its {len(whole.png)} bytes are no whole PNG file")
        return whole if whole.colour is not None else replace(whole, colour=_plain_colour(whole))
    except Exception as error:
        raise _broken(request, reason_of(error)) from error


def _broken(request: ImageRequest, reason: str) -> BackendError:
    return BackendError(f"the generator gave a broken image of {request.concept!r}: {reason}")


def _plain_colour(image: DrawnImage) -> str:
    """Return the colour of a generated image that has only one; empty for any other."""
    if image.composed:
        return ""
    pixels = _decoded(image.png) if image.pixels is None else image.pixels
    first = pixels[0, 0]
    # The first row suffices for most images.
    if (pixels[0] != first).any() or (pixels != first).any():
        return ""
    return f"rgb({', '.join(map(str, first.tolist()))})"


def _decoded(png: bytes) -> NDArray[np.uint8]:
    import numpy as np

    return np.asarray(read_image(png))


def activate(
    target: Target,
    images: Sequence[ImageData],
    names: Sequence[str],
    layers: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Activations]:
    """Pass images through a target and validate the activations.

    Args:
        images: at least one.
        names: what each image is called in a message.
        progress: see ``Target.activate``.

    Returns:
        float32 [n_images, n_units] for each layer, all finite.

    Raises:
        UsageError: see ``Target.activate``.
        BackendError: the target failed, or gave values that are not finite or of another shape; the message names
            layer and image.
    """
    import numpy as np

    try:
        given = one_line_errors(
            "the target", lambda: target.activate(images, layers, progress), "free some, or take a smaller batch"
        )
    except UnmeasurableError as error:
        raise BackendError(f"{names[error.index]}: {error.message}", error.remedy) from error
    measured = check_shapes(given, layers, len(images))
    for layer, rows in measured.items():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise UnfitOutputError(f"{names[bad[0]]}: the target gave values that are not finite at {layer}")
    return measured


def check_shapes(given: Mapping[str, Activations], layers: Sequence[str], images: int) -> dict[str, Activations]:
    """Return activations of ``images`` images as float32 [n_images, n_units] for each layer.

    Raises:
        BackendError: they are of another shape.
    """
    import numpy as np

    found = {layer: np.asarray(given.get(layer, ()), np.float32) for layer in layers}
    for layer, rows in found.items():
        if rows.ndim != 2 or len(rows) != images or not rows.shape[1]:
            raise UnfitOutputError(f"the target gave {list(rows.shape)} at {layer}, not [{images} images, units]")
    return found
