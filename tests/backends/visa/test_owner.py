"""The owner: one thread for an instrument, deadlines for those who wait, nothing after a fork."""

from __future__ import annotations

import os
import threading

import pytest

from photonic.backends.visa.owner import Owner
from photonic.errors import ClosedError, InstrumentTimeoutError, LabError
from tests.backends.visa.peers import within


def test_all_jobs_run_on_one_thread_one_after_another() -> None:
    owner, busy, seen = Owner("box"), threading.Lock(), set()

    def job() -> None:
        assert busy.acquire(blocking=False)
        seen.add(threading.current_thread())
        owner.run(lambda: None)  # a job within a job
        busy.release()

    threads = [threading.Thread(target=lambda: [owner.run(job) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert seen.isdisjoint(threads)
    owner.close(lambda: None)


def test_errors_come_back_to_who_called_even_timeouts() -> None:
    owner = Owner("box")

    def fail() -> None:
        raise InstrumentTimeoutError("late")

    with pytest.raises(InstrumentTimeoutError, match="late"):
        owner.run(fail)
    owner.close(lambda: None)


def test_after_close_nothing_runs_and_a_second_close_does_nothing() -> None:
    owner, ran = Owner("box"), []
    owner.close(lambda: ran.append(1))
    owner.close(lambda: ran.append(2))
    assert ran == [1]
    with pytest.raises(ClosedError, match="close"):
        owner.run(lambda: None)


def test_a_thread_that_is_stuck_in_foreign_code_does_not_hold_up_its_callers() -> None:
    owner, release = Owner("box"), threading.Event()

    def stuck() -> None:
        owner.expect_by(0.1)
        release.wait()

    with within(0.6), pytest.raises(InstrumentTimeoutError, match="stuck"):
        owner.run(stuck)
    with within(0.6), pytest.raises(InstrumentTimeoutError, match="stuck"):
        owner.run(lambda: None)
    release.set()
    owner.expect_by(None)
    owner.close(lambda: None)


def test_two_who_make_it_safe_at_once_both_succeed() -> None:
    owner, done = Owner("box"), []

    def safe() -> None:
        owner.sleep(0.05)
        done.append(1)

    threads = [threading.Thread(target=owner.urgent, args=(safe,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    owner.close(lambda: None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the fork beside threads is the point
def test_a_forked_process_must_open_its_own() -> None:
    owner = Owner("box")
    child = os.fork()
    if not child:
        code = 1
        try:
            owner.run(lambda: None)
        except LabError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    owner.close(lambda: None)
