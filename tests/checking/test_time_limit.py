"""A learner's loop without end becomes a message, and nobody else's timer suffers."""

import contextlib
import signal
import threading
import time

import pytest

from labsupport.checking.exercise import Exercise
from labsupport.checking.time_limit import TooSlow, limited

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")


def waiting(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_loop_without_end_is_stopped_and_said():
    tried = []

    def endless(x):
        tried.append(x)
        while True:
            pass

    exercise = Exercise("q", lambda x: x, [(1,), (2,)], [(lambda x: -x, "a mistake")], seconds=0.2)
    result = exercise.check(endless)
    assert result.status == "wrong" and tried == [1]  # no second case is waited for
    assert result.message.startswith("It took more than 0.2 seconds and was stopped in line ")
    assert result.message.endswith(": does a loop never end?")
    assert result.evidence == "In case 1, for x=1, it was stopped. The other cases were not tried."


def test_a_loop_that_catches_everything_is_stopped_too():
    def stubborn(x):
        for _ in range(3):
            with contextlib.suppress(BaseException):
                waiting(60)
        return x

    start = time.monotonic()
    Exercise("q", lambda x: x, [(1,)], seconds=0.2).check(stubborn)
    assert time.monotonic() - start < 30


def test_exception_handlers_of_the_learner_do_not_swallow_it():
    def catching(x):
        try:
            waiting(60)
        except Exception:
            return x

    assert "was stopped" in Exercise("q", lambda x: x, [(1,)], seconds=0.2).check(catching).message


def test_without_a_limit_and_off_the_main_thread_nothing_is_set():
    before = signal.getsignal(signal.SIGALRM)
    with limited(None):
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    found = []
    exercise = Exercise("q", lambda x: x, [(1,)], seconds=0.1)
    thread = threading.Thread(target=lambda: found.append(exercise.check(lambda x: waiting(0.3) or x)))
    thread.start()
    thread.join()
    assert found[0].status == "correct"
    assert signal.getsignal(signal.SIGALRM) is before


def test_handler_and_an_earlier_timer_come_back():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        with pytest.raises(TooSlow), limited(0.1):
            waiting(60)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 60
        signal.raise_signal(signal.SIGALRM)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
