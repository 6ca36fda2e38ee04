"""Real processes that are born quickly: one process imports what they need, and forks one for each job.

Run as a script it reads a job, a line of JSON, from standard input, and answers with the child's process id and,
when it has ended, its exit status.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path


class Nursery:
    """Starts jobs in processes of their own, one at a time; see ``crash.killed_batch.do``."""

    def __init__(self):
        tests = Path(__file__).parents[1]
        paths = [str(tests), *filter(None, sys.path)]
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, **job) -> int:
        """Start a job; its process id."""
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """Wait for the job: its exit status, minus the signal's number if one ended it."""
        return int(self._process.stdout.readline())

    def do(self, **job) -> int:
        """Start a job and wait for it."""
        self.start(**job)
        return self.wait()

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


def main():
    from crash import killed_batch

    # What the program warns of, such as an upgrade, would come between the tests' own lines.
    logging.getLogger().addHandler(logging.NullHandler())
    out = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            job = json.loads(line)
            jobs = {"files": killed_batch.make_databases, "bundle": killed_batch.take_in}
            do = next((do for name, do in jobs.items() if name in job), killed_batch.do)
            os._exit(do(**job))
        os.write(out, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(out, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
