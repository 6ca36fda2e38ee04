"""Spread requests over several servers, and retry those that failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.tools.language_models.server import HttpServer, ServerError

Answer = TypeVar("Answer")
Server = TypeVar("Server", bound=HttpServer)

AVOID_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 60.0
"""A server that asks to be left alone for longer is asked again after this time."""

_EXPONENTIAL = wait_exponential(max=LONGEST_WAIT_SECONDS)


class ServerPool(Generic[Server]):
    """Spread requests over one or more servers; one that failed is avoided for a while.

    ``clock`` returns monotonic seconds, ``sleep`` waits.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.servers = tuple(servers)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns = 0

    def ask(self, request: Callable[[Server], Answer]) -> Answer:
        """Return the first reply that one of the servers gives.

        A server that fails is passed over for the next one. When all fail, errors that may be transient are
        retried after 1, 2, 4 and 8 seconds, or later if the servers ask for it (``Retry-After``).

        Raises:
            LineError: no server can answer; it names each with its error.
        """
        retrying = Retrying(
            sleep=self._sleep,
            wait=_pause,
            stop=_attempts_used_up,
            retry=retry_if_exception_type(ServerError),
            reraise=True,
        )
        try:
            answer: Answer = retrying(self._round, request)
        except ServerError as failure:
            raise failure.error from failure
        return answer

    def survey(self, query: Callable[[Server], Answer]) -> dict[Server, Answer]:
        """Query every server once, and return what those said that answered; the others are avoided for a while.

        Raises:
            LineError: none of them answered; it names each with its error.
        """
        answers: dict[Server, Answer] = {}
        failures: dict[Server, ServerError] = {}
        for server in self.servers:
            try:
                answers[server] = query(server)
            except ServerError as failure:
                failures[server] = failure
                self.leave_out(server)
        if not answers:
            none = _combined(failures)
            raise none.error from none
        return answers

    def leave_out(self, server: Server, seconds: float = 0.0) -> None:
        """Use ``server`` only if there is no other, for half a minute or ``seconds`` if these are more."""
        with self._lock:
            server.avoided_until = self._clock() + max(AVOID_SECONDS, seconds)

    def _round(self, request: Callable[[Server], Answer]) -> Answer:
        failures: dict[Server, ServerError] = {}
        while len(failures) < len(self.servers):
            server = self._take(failures)
            try:
                return request(server)
            except ServerError as failure:
                failures[server] = failure
                self.leave_out(server, failure.wait)
            finally:
                with self._lock:
                    server.busy -= 1
        raise _combined(failures)

    def _take(self, tried: Mapping[Server, ServerError]) -> Server:
        with self._lock:
            now = self._clock()
            rest = [server for server in self.servers if server not in tried]
            chosen = min(rest, key=lambda server: (server.avoided_until > now, server.busy, server.turn))
            chosen.busy += 1
            self._turns += 1
            chosen.turn = self._turns
            return chosen


def _attempts_used_up(state: RetryCallState) -> bool:
    failure = state.outcome and state.outcome.exception()
    return isinstance(failure, ServerError) and state.attempt_number >= failure.max_attempts


def _pause(state: RetryCallState) -> float:
    failure = state.outcome and state.outcome.exception()
    asked = failure.wait if isinstance(failure, ServerError) else 0.0
    return max(_EXPONENTIAL(state), min(asked, LONGEST_WAIT_SECONDS))


def _combined(failures: Mapping[Server, ServerError]) -> ServerError:
    """Combine the errors of all servers into one."""
    found = list(failures.values())
    if len(found) == 1:
        return found[0]
    kind = (
        MissingPartError if all(isinstance(failure.error, MissingPartError) for failure in found) else BackendError
    )
    kinds = " or ".join(dict.fromkeys(server.kind for server in failures))
    message = f"no {kinds} can answer: " + "; ".join(failure.error.message for failure in found)
    remedies = dict.fromkeys(failure.error.remedy for failure in found)
    return ServerError(
        kind(message, "; ".join(filter(None, remedies))),
        max(failure.max_attempts for failure in found),
        # The first that is ready is asked.
        wait=min(failure.wait for failure in found),
    )
