import threading
import warnings

import pytest

from dan_fast.runtime.silence import Silence, quiet_warnings


def test_a_switch_is_on_again_when_the_last_thread_has_left():
    events = []
    silence = Silence(lambda: events.append("off") or (lambda: events.append("on")))
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first():
        with silence:
            first_is_in.set()
            second_is_in.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(10)
    with silence:
        second_is_in.set()
        thread.join()
        assert events == ["off"]
    assert events == ["off", "on"]


def test_warnings_are_on_again_after_an_error():
    filters = list(warnings.filters)
    with pytest.raises(KeyError), quiet_warnings:
        warnings.warn("ignored", stacklevel=1)
        raise KeyError
    assert warnings.filters == filters
