"""What tests of the command expect of it everywhere."""


def refused(result, *words):
    """An error of the user's: status 2, one line that holds the words, no traceback."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err
    return err
