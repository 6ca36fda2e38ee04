"""User-facing errors: a message and a remedy."""

from __future__ import annotations

import errno
from typing import Any, TypeVar

from line_neurons.agent.concepts import describe_near

Portable = TypeVar("Portable", bound=BaseException)


class PortableError(Exception):
    """An error that may leave its process: it pickles with its class, text and data."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what restores the error; its class may want other arguments."""
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[Portable], args: tuple[object, ...], data: dict[str, Any]) -> Portable:
    error = kind.__new__(kind, *args)
    vars(error).update(data)
    return error


class LineError(PortableError):
    """An error a user can act on; the command prints it as one line and exits with status 2.

    ``message`` says what was wrong, with the offending value; ``remedy`` what to do, empty if nothing is known.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message and its remedy as one line."""
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def _render_traceback_(self) -> list[str]:
        """Return the line that IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(LineError):
    """A value from the user does not fit: a model, a layer, a unit, a setting, a folder."""


class BusyError(UsageError):
    """Another process works on what was named; it is free later."""


class MissingPartError(LineError):
    """A package, weights file or asset that the chosen backend needs is missing."""


class StoreError(LineError):
    """The store cannot be read or written, or was made by a newer version."""


class DamagedError(StoreError):
    """An entry of the store is corrupt or was tampered with; work that does not need it can continue."""


class TakenOverError(LineError):
    """Another process holds the run's lease now; this one may not write to the run any more."""


class LostImageError(DamagedError):
    """An image's file is missing or corrupt; ``images`` are the ids of all such images."""

    def __init__(self, message: str, remedy: str, images: tuple[str, ...]) -> None:
        super().__init__(message, remedy)
        self.images = images


class BackendError(LineError):
    """A language model, generator or target failed while it worked."""


class NoWorkerError(BackendError):
    """No worker process is left that could generate or measure images."""


class UnfitOutputError(BackendError):
    """A generator or target gave what cannot be used, such as a wrong shape; it gives the same again."""


class UnmeasurableError(BackendError):
    """A target cannot measure the image at ``index`` of those passed; it knows no ids."""

    def __init__(self, message: str, remedy: str = "", *, index: int) -> None:
        super().__init__(message, remedy)
        self.index = index


class SystemLimitError(LineError):
    """The system gives the process no more memory, threads or files: all its work fails."""


class DrainedError(PortableError):
    """Work stopped on request, where it can be resumed."""


class ReplyError(PortableError):
    """A language model's reply is not a usable proposal; the request may be repeated.

    Args:
        kind: ``truncated``, ``empty``, ``not_json``, ``schema`` or ``concept``.
        detail: what was wrong, in words for the model.
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


class NotDrawableError(PortableError):
    """The generator has nothing close enough to ``concept`` to generate it truthfully.

    ``nearest`` are the closest captions with their cosine similarity, best first.
    """

    def __init__(self, concept: str, nearest: list[tuple[str, float]]) -> None:
        near = describe_near(nearest)
        super().__init__(
            f"nothing in the bank is close enough to {concept!r}" + (f"; near it: {near}" if near else "")
        )
        self.concept = concept
        self.nearest = nearest


class BlankImageError(NotDrawableError):
    """All pixels of a concept's image have one colour, with another seed too: the generator failed.

    ``colour`` is written as ``rgb(0, 0, 0)``.
    """

    SAID = "came out as one plain colour"

    def __init__(self, concept: str, colour: str) -> None:
        super().__init__(concept, [])
        self.reason = f"{concept!r} {self.SAID}, {colour}, drawn with a second seed too."
        self.args = (self.reason,)


class UneditableError(NotDrawableError):
    """An image cannot be edited as requested; ``reason`` says why."""

    def __init__(self, concept: str, reason: str) -> None:
        super().__init__(concept, [])
        self.reason = reason
        self.args = (reason,)


class AbsentConceptError(UneditableError):
    """The image does not show the concept that was to be taken out."""


class MissingEditError(UneditableError):
    """An edit that was to be made elsewhere is missing, or cannot be used."""


def system_limit(error: BaseException) -> SystemLimitError | None:
    """Return the system limit that an exception or its cause has met, or None."""
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


def is_lasting(error: BaseException) -> bool:
    """Return whether the same work fails again until a user changes the run or its files.

    What is outside of the run comes back without a change of it: a server that is gone, a model that is not
    pulled, a missing package or file of weights, memory. Trying again is cheap there: it fails before any work.
    """
    return isinstance(error, UsageError | UnfitOutputError) and not isinstance(error, BusyError)


def reason_of(error: BaseException) -> str:
    """Return an exception's first line, at most 300 characters; its type's name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
