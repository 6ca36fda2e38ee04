"""Render images of models with Mitsuba 3, and denoise them with Open Image Denoise."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.tools.packages import missing_package, pip_install
from line_neurons.tools.rendering.meshes import Floats, read_model
from line_neurons.tools.rendering.stage import Shot, set_stage

FORMAT = 1
"""Raised whenever the same shot would give other pixels."""

PASSES = 4
"""Passes of an image, between which it can be cancelled."""

_DEPTH = 5
_BLOCK = 32
_REMEMBERED_MODELS = 16
_WHITE_POINT = 2.2
_LIMIT = 1.35
# Mitsuba renders with all cores, and its variant belongs to a thread: one image at a time.
_LOCK = threading.Lock()


class Renderer:
    """Renders square images of models; may be used from several threads, which take turns.

    Args:
        pack: folder with the panoramas and textures.
        size: side in pixels.
        samples: paths of each pixel, a multiple of 4.
    """

    def __init__(self, pack: Path, size: int, samples: int = 8) -> None:
        if samples < PASSES or samples % PASSES:
            raise ValueError(f"samples must be a multiple of {PASSES}, not {samples}")
        self._pack = pack
        self._size = size
        self._samples = samples // PASSES
        self._read = lru_cache(maxsize=_REMEMBERED_MODELS)(read_model)

    @property
    def identity(self) -> list[object]:
        """What decides the pixels of a shot besides its models.

        Raises:
            MissingPartError: the packages or the pack are not installed.
        """
        try:
            versions = [metadata.version(name) for name in ("mitsuba", "pyoidn")]
        except metadata.PackageNotFoundError as error:
            raise missing_renderer(ModuleNotFoundError(str(error), name=error.name)) from error
        digest = hashlib.sha256()
        try:
            for path in sorted(
                path for folder in ("hdri", "textures") for path in (self._pack / folder).iterdir()
            ):
                digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        except OSError as error:
            raise MissingPartError(f"{self._pack} cannot be read: {error}", _REMEDY) from error
        return [FORMAT, self._samples * PASSES, *versions, digest.hexdigest()]

    def render(
        self, shot: Shot, rng: np.random.Generator, progress: Callable[[int], None] | None = None
    ) -> tuple[Floats, dict[str, Any], tuple[str, ...]]:
        """Render an image; the same arguments give the same pixels.

        Args:
            progress: called after each of the four passes; raising from it cancels the image.

        Returns:
            float32 [size, size, 3] in [0, 1], an account of the surroundings, and the operations as text: the
            camera, the light, and others.

        Raises:
            BackendError: a model or a file of the pack cannot be read, or the path tracer failed.
            MissingPartError: the packages are not installed.
        """
        with _LOCK:
            mi, denoise = _packages()
            try:
                models = [self._read(order.record) for order in shot.orders]
                stage = set_stage(mi, shot, models, self._pack, self._size, rng)
                built = mi.load_dict(stage.objects | {"integrator": _INTEGRATOR})
            except (OSError, ValueError, RuntimeError) as error:
                raise BackendError(f"the image cannot be rendered: {error}", _REMEDY) from error
            total = np.zeros((self._size, self._size, 9), np.float64)
            for number, seed in enumerate(rng.integers(2**31, size=PASSES).tolist(), 1):
                total += np.nan_to_num(np.array(mi.render(built, seed=seed, spp=self._samples)))[..., :9]
                if progress is not None:
                    progress(number)
            clean = denoise((total / PASSES).astype(np.float32))
        pixels, exposed = _develop(clean, stage.exposure)
        return pixels, stage.account, (*stage.operations, exposed)


_REMEDY = "run: line assets verify render"
# The size of blocks decides which random numbers a pixel gets; by default it follows the number of cores.
_INTEGRATOR = {
    "type": "aov",
    "aovs": "albedo:albedo,normal:sh_normal",
    "img": {"type": "path", "max_depth": _DEPTH, "block_size": _BLOCK},
    "block_size": _BLOCK,
}


def _develop(linear: Floats, exposure: float) -> tuple[Floats, str]:
    """Expose for the image's upper quarter and compress highlights; sRGB in [0, 1]."""
    luma = linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    gain = exposure / max(float(np.percentile(luma, 75)), 1e-4)
    x = np.clip(linear, 0, None) * np.float32(gain)
    compressed = x * (1 + x / np.float32(_WHITE_POINT**2)) / (1 + x) * np.float32(_LIMIT)
    pixels: Floats = (np.clip(compressed, 0, 1) ** np.float32(1 / 2.2)).astype(np.float32)
    return pixels, f"exposure x{gain:.2f}"


@lru_cache(maxsize=1)
def _denoiser() -> Callable[[Floats], Floats]:
    import pyoidn

    device = pyoidn.Device()
    # Threads that stay on one core each would hinder those of other processes.
    device.set_bool("setAffinity", False)
    device.commit()

    def denoise(raw: Floats) -> Floats:
        """Denoise colour with the help of albedo and normals: float32 [h, w, 9] to [h, w, 3]."""
        colour, albedo, normal = (np.ascontiguousarray(raw[..., start : start + 3]) for start in (0, 3, 6))
        output: Floats = np.zeros_like(colour)
        images = {
            pyoidn.OIDN_IMAGE_COLOR: colour,
            pyoidn.OIDN_IMAGE_ALBEDO: np.clip(albedo, 0, 1),
            pyoidn.OIDN_IMAGE_NORMAL: normal,
            pyoidn.OIDN_IMAGE_OUTPUT: output,
        }
        with pyoidn.Filter(device, pyoidn.OIDN_FILTER_TYPE_RT) as work:
            for name, image in images.items():
                work.set_image(name, image, pyoidn.OIDN_FORMAT_FLOAT3)
            work.set_bool("hdr", True)
            work.commit()
            work.execute()
        if error := device.get_error():
            raise BackendError(f"Open Image Denoise failed: {error}")
        return output

    return denoise


def _packages() -> tuple[Any, Callable[[Floats], Floats]]:
    mi = open_mitsuba()
    try:
        return mi, _denoiser()
    except ImportError as error:
        raise missing_renderer(error) from error


def open_mitsuba() -> Any:
    """Import Mitsuba, with the variant and threads that images are rendered by.

    Raises:
        MissingPartError: it is not installed.
    """
    try:
        import drjit
        import mitsuba as mi
    except ImportError as error:
        raise missing_renderer(error) from error
    # With a single thread, as on one core, Mitsuba waits for ever for another to read a panorama.
    drjit.set_thread_count(max(2, drjit.thread_count()))
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def missing_renderer(error: BaseException) -> MissingPartError:
    """Return the error for packages of the extra ``render`` that cannot be imported."""
    return missing_package(error, "mitsuba and pyoidn", pip_install("render"), needed="rendered images need")
