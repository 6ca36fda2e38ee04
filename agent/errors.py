"""What can go wrong where a person can mend it: what happened, and what to do."""

from __future__ import annotations

import errno


class LineError(Exception):
    """An error a user can act on; the command prints it as one line and exits with status 2.

    Args:
        message: what was wrong, with the offending value.
        remedy: what to do about it; empty if nothing is known.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """The message and its remedy as one line."""
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook, too: what IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(LineError):
    """A value that the user gave does not fit: a model, a layer, a unit, a setting, a folder."""


class MissingPartError(LineError):
    """A package, weights file or asset that the chosen backend needs is not here."""


class StoreError(LineError):
    """The store cannot be read or written, or was made by a newer version."""


class DamagedError(StoreError):
    """One entry of the store is damaged or was tampered with; what does not need it can go on."""


class TakenOverError(LineError):
    """Another process has taken over the run that this one worked on; nothing more may be written to it."""


class LostImageError(DamagedError):
    """An image's file has gone or is damaged.

    Args:
        message: what was wrong, with the image.
        remedy: what to do about it.
        images: ids of all images of which that is so.
    """

    def __init__(self, message: str, remedy: str, images: tuple[str, ...]) -> None:
        super().__init__(message, remedy)
        self.images = images


class BackendError(LineError):
    """A language model, generator or target failed while it worked."""


class UnmeasurableError(BackendError):
    """A target cannot measure one of the images that it was given.

    Args:
        message: what was wrong, without the image, which the target knows no name of.
        remedy: what to do about it.
        image: the image, as it was given.
    """

    def __init__(self, message: str, remedy: str = "", *, image: object) -> None:
        super().__init__(message, remedy)
        self.image = image


class SystemLimitError(LineError):
    """The system gives the process no more memory, threads or files: whatever it works on fails."""


class DrainedError(Exception):
    """Work stopped because that was asked for, where it can go on later."""


class ReplyError(Exception):
    """A language model's reply is not a usable proposal; the model may be asked again.

    Args:
        kind: ``truncated``, ``empty``, ``not_json``, ``schema`` or ``concept``.
        detail: what was wrong, in words that can be told to the model.
        raw: the reply as it came.
        reasoning: the reasoning, where one could be read.
        concept: the refused concept, where one could be read.
    """

    def __init__(self, kind: str, detail: str, *, raw: str, reasoning: str = "", concept: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.raw = raw
        self.reasoning = reasoning
        self.concept = concept


class NotDrawableError(Exception):
    """The generator has nothing close enough to a concept to image it truthfully.

    Args:
        concept: the concept asked for.
        nearest: the closest captions with their cosine similarity, best first.
    """

    def __init__(self, concept: str, nearest: list[tuple[str, float]]) -> None:
        near = ", ".join(f"{caption} {similarity:.2f}" for caption, similarity in nearest[:3])
        super().__init__(f"nothing in the bank is close enough to {concept!r}; nearest: {near or 'nothing'}")
        self.concept = concept
        self.nearest = nearest


class BlankImageError(NotDrawableError):
    """All pixels of a concept's image have one colour, drawn with another seed too: the generator failed.

    Args:
        concept: the concept asked for.
        colour: the colour, as ``rgb(0, 0, 0)``.
    """

    SAID = "came out as one plain colour"

    def __init__(self, concept: str, colour: str) -> None:
        super().__init__(concept, [])
        self.reason = f"{concept!r} {self.SAID}, {colour}, drawn with a second seed too."
        self.args = (self.reason,)


def system_limit(error: BaseException) -> SystemLimitError | None:
    """Tell which limit of the system an exception, or what it comes from, has met; None if it has met none."""
    seen: BaseException | None = error
    while seen is not None:
        # What a part says of its own memory has a better remedy.
        if isinstance(error, MemoryError):
            return SystemLimitError(
                "there is no memory left for this process", "end others, or lower --max-concurrent-units"
            )
        if isinstance(seen, RuntimeError) and "can't start new thread" in str(seen):
            return SystemLimitError(
                "the system lets this process start no more threads",
                "raise its limit (ulimit -u, pids of a container), or lower --max-concurrent-units and "
                "--llm-parallel",
            )
        if isinstance(seen, OSError) and seen.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}:
            return SystemLimitError(
                f"the system gives this process no more of what it needs: {seen.strerror}",
                "raise its limits (ulimit -a shows them), or lower --max-concurrent-units",
            )
        seen = seen.__cause__
    return None


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says, at most 300 characters; its type's name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
