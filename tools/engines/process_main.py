"""The program of a worker process: ``python -m line_neurons.tools.engines.process_main SOCKET``."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from line_neurons.agent.errors import BackendError, reason_of
from line_neurons.tools.engines.hands import Hands

_THREADS = 4


class _Server:
    """Answers calls, each in a thread of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._hands = Hands()
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Answer calls until the driver is gone; then end, whatever is in progress."""
        pool = ThreadPoolExecutor(_THREADS)
        while True:
            try:
                received = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            pool.submit(self._answer, *received)

    def _answer(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            if method == "begin":
                recipe, place = arguments
                arguments = (pickle.loads(recipe), place)  # noqa: S301 - the driver's own
            said = pickle.dumps((number, getattr(self._hands, method)(*arguments), None))
        except BaseException as error:
            said = _error(number, error)
        with self._sending:
            try:
                self._connection.send_bytes(said)
            except OSError:
                os._exit(0)


def _error(number: int, error: BaseException) -> bytes:
    try:
        said = pickle.dumps((number, None, error))
        pickle.loads(said)  # noqa: S301 - some errors cannot be restored
    except Exception:
        return pickle.dumps((number, None, BackendError(reason_of(error))))
    return said


def main() -> None:
    """Serve the driver at the other end of a socket."""
    # The driver decides when the work ends; a job scheduler signals every process of the job.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _Server(Connection(int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
