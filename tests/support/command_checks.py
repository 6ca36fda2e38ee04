"""What tests of the command expect of it everywhere."""


def refused(result, *words):
    """An error of the user's: status 2, one line that holds the words, no traceback."""
    status, out, err = result
    assert status == 2
    assert out == ""
    # A command that labels units says first what the run is called and what it loads.
    lines = [line for line in err.strip().splitlines() if not line.startswith(("run ", "loading "))]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err
    return err
