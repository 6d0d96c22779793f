"""The loop of the hour with made-up jobs, which fail, hang and are killed; without a terminal or a disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labsupport.core.files import ROOT, LabError
from labsupport.gpu_hour import keeping, running
from labsupport.gpu_hour.keeping import Book
from labsupport.gpu_hour.saying import Log
from labsupport.gpu_jobs.job import Job

on_unix = pytest.mark.skipif(os.name == "nt", reason="signals and process groups of Unix")


def job(name: str, program: str, slow: float = 1.0, after: tuple[str, ...] = ()) -> Job:
    return Job(name, "?", (program,), (0.0, slow), after=after)


def hour(folder: Path, seconds: float = 60.0, **options) -> running.Hour:
    """An hour of so many seconds, at one unit of money a second."""
    folder.mkdir(exist_ok=True)
    book = Book(folder)
    book.begin({"base_model": "tiny", "profile": "smoke"})
    settings = {"reserve": 0.0, "patience": (0.5, 0.5), "tick": 0.05} | options
    log = Log(folder / "log.txt")
    return running.Hour(
        book, log, seconds, 3600.0, lambda job: [sys.executable, "-S", "-c", job.command[0]], **settings
    )


def state(folder: Path) -> dict:
    return json.loads((folder / "state.json").read_text())


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def ends(folder: Path) -> dict[str, str]:
    return {name: found["ended"] for name, found in state(folder)["jobs"].items()}


class Clock:
    """Seconds that pass only where a test says so, and a little at each look."""

    def __init__(self, step: float = 0.0):
        self.now, self.step = 1000.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_jobs_run_in_order_their_output_is_kept_and_nothing_is_done_twice(tmp_path):
    place = tmp_path / "order"
    write = "open({!r}, 'a').write({!r}); print('said by', {!r})"
    jobs = [job(name, write.format(str(place), name, name)) for name in "abc"]
    choices = hour(tmp_path).run(jobs)
    assert [choice.what for choice in choices] == ["done"] * 3
    assert place.read_text() == "abc" and ends(tmp_path) == dict.fromkeys("abc", "done")
    assert sorted(file.name for file in (tmp_path / "done").iterdir()) == ["a", "b", "c"]
    assert "said by b" in log(tmp_path)
    hour(tmp_path).run(jobs)
    assert place.read_text() == "abc"


def test_a_failure_leaves_out_what_comes_after_it_and_is_tried_again_next_time(tmp_path):
    place = tmp_path / "works"
    fails = (
        f"import pathlib, sys; print('no luck'); sys.exit(3 * (not pathlib.Path({str(place)!r}).exists()))"
    )
    jobs = [job("a", fails), job("b", "pass", after=("a",)), job("c", "pass")]
    choices = hour(tmp_path).run(jobs)
    assert [(choice.what, choice.why) for choice in choices] == [
        ("left out", "it failed"),
        ("left out", "it comes after a"),
        ("done", ""),
    ]
    assert ends(tmp_path) == {"a": "failed", "c": "done"} and state(tmp_path)["jobs"]["a"]["status"] == 3
    assert 'a: failed with status 3 ("no luck"; more in' in log(tmp_path)
    assert "b: not begun in this run" in log(tmp_path)
    place.touch()
    assert [choice.what for choice in hour(tmp_path).run(jobs)] == ["done"] * 3
    assert state(tmp_path)["jobs"]["a"]["runs"] == 2


@on_unix
def test_a_job_killed_by_sigkill_is_said_and_goes_on_next_time(tmp_path):
    kept = tmp_path / "steps"
    program = (
        f"import os, pathlib; kept = pathlib.Path({str(kept)!r}); steps = len(kept.read_text()) if "
        "kept.exists() else 0; kept.write_text('x' * (steps + 1)); steps or os.kill(os.getpid(), 9)"
    )
    hour(tmp_path).run([job("a", program)])
    assert ends(tmp_path) == {"a": "failed"} and "killed by signal 9" in log(tmp_path)
    hour(tmp_path).run([job("a", program)])
    assert ends(tmp_path) == {"a": "done"} and kept.read_text() == "xx"


# ---------------------------------------------------------------- the limit


@on_unix
def test_a_job_is_asked_to_stop_before_the_limit_and_what_it_kept_stays(tmp_path):
    kept = tmp_path / "kept"
    program = (
        "import pathlib, time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
        f"    pathlib.Path({str(kept)!r}).write_text('a checkpoint')"
    )
    began = time.monotonic()
    # Its checkpoint has seconds to be written, on a machine at work, before SIGTERM would follow.
    settings = {"reserve": 3.0, "patience": (2.5, 0.5)}
    choices = hour(tmp_path, 8.0, **settings).run([job("a", program), job("b", "pass", slow=0.5)])
    assert time.monotonic() - began < 30 and state(tmp_path)["spent"] < 8.0
    assert kept.read_text() == "a checkpoint" and ends(tmp_path) == {"a": "stopped"}
    assert choices[0].why == "it was stopped at the limit"
    assert "the limit is near" in log(tmp_path) and "b: not begun" in log(tmp_path)
    assert not (tmp_path / "done").exists()


@on_unix
def test_a_job_that_ignores_every_signal_is_killed_with_what_it_began(tmp_path):
    pids = tmp_path / "pids"
    deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; time.sleep(60)"
    program = (
        "import os, signal, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {deaf!r}])\n"
        f"[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\ntime.sleep(60)"
    )
    hour(tmp_path, 8.0, reserve=3.0).run([job("a", program)])
    assert ends(tmp_path) == {"a": "stopped"} and state(tmp_path)["jobs"]["a"]["status"] == -9
    for pid in map(int, pids.read_text().split()):
        assert gone(pid)


def gone(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_job_that_may_take_longer_than_what_is_left_is_not_begun(tmp_path):
    place = tmp_path / "ran"
    run = f"open({str(place)!r}, 'w')"
    choices = hour(tmp_path, 5.0).run([job("long", run, slow=100.0), job("short", "pass", slow=0.5)])
    assert [choice.what for choice in choices] == ["left out", "done"] and not place.exists()
    assert "long: not begun in this run; it may take 2 min and" in log(tmp_path)


def test_time_counts_over_a_restart_and_not_while_nothing_runs(tmp_path):
    clock = Clock()
    first = hour(tmp_path, 100.0, clock=clock)
    clock.now += 40
    first.run([job("a", "pass")])
    assert state(tmp_path)["spent"] == pytest.approx(40)
    clock.now += 10_000  # the machine was taken away
    second = hour(tmp_path, 100.0, clock=clock)
    assert second.left() == pytest.approx(60)
    choices = second.run([job("a", "pass"), job("b", "pass", slow=61), job("c", "pass", slow=59)])
    assert [choice.what for choice in choices] == ["done", "left out", "done"]
    more = hour(tmp_path, 200.0, clock=clock)  # more money is more time
    assert [choice.what for choice in more.run([job("b", "pass", slow=61)])] == ["done"]


def test_the_limit_holds_for_the_sum_of_two_lives(tmp_path):
    clock = Clock(step=5.0)  # each look costs five seconds
    hour(tmp_path, 100.0, clock=clock).run([job("a", "import time; time.sleep(0.3)", slow=10)])
    spent = state(tmp_path)["spent"]
    assert 10 <= spent < 100
    hour(tmp_path, 100.0, clock=clock).run([job("b", "import time; time.sleep(60)", slow=10)])
    assert ends(tmp_path) in ({"a": "done", "b": "stopped"}, {"a": "done"}, {"a": "stopped"})
    assert state(tmp_path)["spent"] >= spent


# ---------------------------------------------------------------- disks and terminals


def test_a_full_disk_loses_no_job_and_is_said_once(tmp_path, monkeypatch, capsys):
    one = hour(tmp_path)
    real, full = keeping.write_atomically, [True]

    def write(path, content):
        if full[0]:
            raise LabError(f"Cannot write {path}: No space left on device.")
        real(path, content)

    monkeypatch.setattr(keeping, "write_atomically", write)
    monkeypatch.setattr(running, "SAVED", 0.0)
    place = tmp_path / "order"
    jobs = [job(n, f"open({str(place)!r}, 'a').write({n!r}); import time; time.sleep(0.3)") for n in "ab"]
    choices = one.run(jobs)
    assert [choice.what for choice in choices] == ["done", "done"] and place.read_text() == "ab"
    assert capsys.readouterr().out.count("No space left") == 1
    assert not (tmp_path / "done").exists()
    full[0] = False
    one.save()
    assert ends(tmp_path) == {"a": "done", "b": "done"} and Book(tmp_path).done() == {"a", "b"}


def test_a_log_that_cannot_be_written_ends_no_job(tmp_path):
    one = hour(tmp_path)
    (tmp_path / "log.txt").mkdir()  # a disk would do the same
    choices = one.run([job("a", "print('x' * 100_000, flush=True)")])
    assert [choice.what for choice in choices] == ["done"] and one.log.lost > 100_000


LOOP = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_gpu_hour_running as shared
from labsupport.gpu_hour import running
folder, programs = Path({folder!r}), {programs!r}
with running.unattended(folder):
    one = shared.hour(folder)
    one.command = lambda job: [sys.executable, "-c", job.command[0]]
    choices = one.run([shared.job(name, program) for name, program in programs.items()])
    one.log.say("the end")
"""
# A job like the course's own, which dies with the loop.
OURS = """
import os, sys, time
from pathlib import Path
from labsupport.gpu_jobs import job_process
def work(folder):
    again = (folder / "begun").exists()
    (folder / "begun").write_text(str(os.getpid()))
    time.sleep({again} if again else {first})
sys.exit(job_process.run(work, [{folder!r}]))
"""


def loop(folder: Path, programs: dict[str, str], **options) -> subprocess.Popen:
    program = LOOP.format(tests=str(Path(__file__).parent), folder=str(folder), programs=programs)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True, **options)


def wait_for(file: Path) -> None:
    for _ in range(1200):
        if file.exists() and file.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"{file.name} did not come")


@on_unix
def test_a_loop_that_vanishes_takes_its_job_along_and_goes_on(tmp_path):
    ours = OURS.format(folder=str(tmp_path), first=60, again=0)
    first = loop(tmp_path, {"a": ours})
    wait_for(tmp_path / "begun")
    first.kill()
    first.wait(10)
    if sys.platform == "linux":
        assert gone(int((tmp_path / "begun").read_text()))
    assert ends(tmp_path) == {"a": "running"}
    assert loop(tmp_path, {"a": ours}).wait(60) == 0
    assert ends(tmp_path) == {"a": "done"} and "it was cut off" in log(tmp_path)


@on_unix
def test_a_dropped_connection_ends_neither_loop_nor_job(tmp_path):
    begun = tmp_path / "begun"
    program = f"import time; open({str(begun)!r}, 'w').write('x'); time.sleep(1)"
    one = loop(tmp_path, {"a": program, "b": "print('still here')"}, stdout=subprocess.PIPE)
    wait_for(begun)
    one.stdout.close()  # the terminal is gone, too
    os.killpg(one.pid, signal.SIGHUP)
    assert one.wait(60) == 0
    assert ends(tmp_path) == {"a": "done", "b": "done"}
    assert "still here" in log(tmp_path) and "the end" in log(tmp_path)


@on_unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_job_and_keeps_the_state(tmp_path, number):
    begun = tmp_path / "begun"
    program = f"import os, time; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    one = loop(tmp_path, {"a": program}, stderr=subprocess.DEVNULL)
    wait_for(begun)
    one.send_signal(number)
    assert one.wait(30) != 0
    assert gone(int(begun.read_text())) and ends(tmp_path) == {"a": "stopped"}
    assert state(tmp_path)["spent"] > 0


def test_two_loops_do_not_share_a_folder(tmp_path):
    with (
        running.unattended(tmp_path),
        pytest.raises(LabError, match="Another gpu-hour is running"),
        running.unattended(tmp_path),
    ):
        pass


# ---------------------------------------------------------------- the state


def test_a_damaged_state_is_no_fresh_start(tmp_path):
    (tmp_path / "state.json").write_text('{"spent": "much"')
    with pytest.raises(LabError, match="state.json is damaged, so what was spent is not known"):
        Book(tmp_path)


def test_an_hour_with_another_model_does_not_mix_with_this_one(tmp_path):
    Book(tmp_path).begin({"base_model": "a", "profile": "smoke"})
    with pytest.raises(LabError, match="holds an hour with base_model a, and this is one with b"):
        Book(tmp_path).begin({"base_model": "b", "profile": "smoke"})
    assert "results/qlora.json" in (tmp_path / "README.txt").read_text()
