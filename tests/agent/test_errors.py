import errno

import pytest

from line_neurons.agent.errors import BackendError, system_limit


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (raised(MemoryError()), "--max-concurrent-units"),
        (raised(RuntimeError("can't start new thread")), "ulimit -u"),
        (raised(BackendError("the forward pass failed"), RuntimeError("can't start new thread")), "ulimit -u"),
        (raised(OSError(errno.EMFILE, "Too many open files")), "ulimit -a"),
    ],
)
def test_a_limit_of_the_system_is_told_with_what_raises_it(error, remedy):
    assert remedy in system_limit(error).remedy


@pytest.mark.parametrize(
    "error",
    [
        raised(ValueError("x")),
        raised(OSError(errno.ENOSPC, "No space left on device")),
        raised(BackendError("no memory for the batch", "try a --batch-size below 5"), MemoryError()),
    ],
)
def test_everything_else_keeps_its_own_words(error):
    assert system_limit(error) is None
