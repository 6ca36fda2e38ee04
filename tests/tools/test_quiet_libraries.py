import logging
import threading

import transformers

from line_neurons.tools.quiet_libraries import quiet

say = transformers.logging


def loudness():
    return say.get_verbosity(), say.is_progress_bar_enabled()


def test_a_library_is_as_loud_as_before_once_the_last_thread_lets_go_of_it():
    before = loudness()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def first():
        with quiet("transformers"):
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second():
        first_in.wait(10)
        with quiet("transformers"):
            second_in.set()
            first_out.wait(10)
            seen.append(loudness())

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [(logging.CRITICAL, False)]
    assert loudness() == before


def test_what_fails_lets_go_of_the_library_too():
    before = loudness()
    try:
        with quiet("transformers", "transformers"):
            raise KeyError
    except KeyError:
        pass
    assert loudness() == before
