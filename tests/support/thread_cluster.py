"""Workers in threads, for tests of what a pool does with them."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from line_neurons.tools.engines.pool import Description, WorkerLostError

LONG = 20


def wait_until(what):
    until = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.005)


class Thread:
    """A worker in threads: ``method`` is a function of the cluster, called with this worker first."""

    def __init__(self, cluster, number):
        self.cluster, self.number, self.stopped = cluster, number, False
        self._pool = ThreadPoolExecutor(2)
        self._pending = []

    def begin(self):
        return self._run(lambda: self.cluster.begin(self.number))

    def call(self, method, *arguments):
        return self._run(lambda: getattr(self.cluster, method)(self, *arguments))

    def stop(self):
        self.stopped = True
        for answer in self._pending:
            self._finish(answer, error=WorkerLostError("it was stopped"))
        self._pool.shutdown(wait=False)

    def _run(self, work):
        answer = Future()
        self._pending.append(answer)

        def run():
            try:
                result = work()
            except Exception as error:
                self._finish(answer, error=error)
            else:
                self._finish(answer, result)

        try:
            self._pool.submit(run)
        except RuntimeError:
            self._finish(answer, error=WorkerLostError("it was stopped before"))
        return answer

    def _finish(self, answer, result=None, error=None):
        with self.cluster.lock:
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(result)


class Threads:
    """A cluster of threads, whose workers say their number, which the driver doubles; some are lost."""

    def __init__(self, wanted=1, begin=None):
        self.size, self.started, self.lock = wanted, [], threading.RLock()
        self.begin = begin or (lambda number: Description(f"machine {number}", {"generator": "same"}))
        self.calls = []
        self.fatal = lambda item, worker: False

    def wanted(self):
        return self.size

    def start(self):
        worker = Thread(self, len(self.started))
        self.started.append(worker)
        return worker

    def waits_for(self):
        return "no GPU is free"

    def double(self, worker, items):
        self.calls.append((worker.number, items))
        for item in items:
            if self.fatal(item, worker):
                raise WorkerLostError("signal SIGKILL ended it")
        return [2 * item for item in items]
