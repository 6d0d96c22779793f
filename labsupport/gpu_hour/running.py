"""The loop: job after job while the money lasts; what was spent is kept, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from labsupport.core import files
from labsupport.core.files import LabError, short
from labsupport.gpu_hour import process, schedule
from labsupport.gpu_hour.keeping import Book
from labsupport.gpu_hour.process import Process
from labsupport.gpu_hour.saying import Log
from labsupport.gpu_hour.schedule import minutes, money
from labsupport.gpu_jobs.job import Job

TICK = 0.5  # seconds between two looks at the clock
SAVED = 5.0  # seconds between two savings of what was spent: a machine that vanishes loses no more
RESERVE = sum(process.PATIENCE) + 2  # seconds before the limit at which a job is asked to stop


@dataclass
class Hour:
    """An hour that runs. command: a job's command line; clock: seconds, of which differences are counted.

    reserve: seconds before the limit at which a running job is ended; patience: as in process.end.
    """

    book: Book
    log: Log
    budget: float
    rate: float
    command: Callable[[Job], list[str]]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Callable[[], float] = time.monotonic
    reserve: float = RESERVE
    patience: tuple[float, float] = process.PATIENCE
    tick: float = TICK

    def __post_init__(self):
        self._seen = self.clock()
        self._saved = self._seen
        self._trouble = False

    def left(self) -> float:
        """Seconds that are left; what has passed since the last look is put to the bill."""
        now = self.clock()
        self.book.spent += max(0.0, now - self._seen) * self.rate / schedule.HOUR
        self._seen = now
        return schedule.seconds_for(self.budget, self.rate, self.book.spent)

    def save(self) -> None:
        """Keep the state; a disk that cannot be written is said once, and tried again."""
        self._saved = self._seen
        trouble = self.book.save()
        if trouble and not self._trouble:
            self.log.say(f"{trouble} The job goes on; this is tried again every {SAVED:.0f} seconds.")
        self._trouble = bool(trouble)

    # ------------------------------------------------------------ the batch

    def run(self, jobs: Sequence[Job]) -> list[schedule.Choice]:
        """Run what the money is enough for; what became of every job. KeyboardInterrupt passes through, after
        the running job was ended."""
        ended: dict[str, str] = {}
        while True:
            choices = schedule.choose(jobs, self.left() - self.reserve, self.book.done(), ended)
            waiting = schedule.to_run(choices)
            if not waiting:
                break
            if (how := self._job(waiting[0])) != "done":
                ended[waiting[0].name] = "it failed" if how == "failed" else "it was stopped at the limit"
            self.save()
        for choice in choices:
            if choice.what == "left out":
                self.log.say(f"{choice.job.name}: not begun in this run; {choice.why}")
        self.save()
        return choices

    def _job(self, job: Job) -> str:
        """Run one job; how it ended: "done", "failed" or, at the limit, "stopped"."""
        before = self.book.jobs.get(job.name, {})
        again = {"running": " again: it was cut off", "stopped": " again", "failed": " again: it failed"}
        self.log.say(
            f"{job.name}: begun{again.get(before.get('ended', ''), '')}, {minutes(job.seconds[0])} to "
            f"{minutes(job.seconds[1])} expected, {minutes(self.left())} left. {job.question}"
        )
        seconds = before.get("seconds", 0.0)
        self.book.note(job.name, ended="running", runs=before.get("runs", 0) + 1)
        self.save()
        began = self._seen
        running = Process(self.command(job), self.environment, self.log)
        ended, status = "stopped", None
        try:
            status, ended = self._watch(running)
        except BaseException:  # Ctrl-C above all: no job outlives the loop
            self.log.say(f"{job.name}: ending it")
            status = running.end(self.patience)
            raise
        finally:
            self.left()
            taken = round(seconds + self._seen - began, 1)
            self.book.note(job.name, ended=ended, status=status, seconds=taken)
            if ended == "done":
                self.book.finish(job.name)
            self.save()
            self.log.say(f"{job.name}: {self._told(ended, status, running.last)} after {minutes(taken)}")
        return ended

    def _watch(self, running: Process) -> tuple[int | None, str]:
        """(exit status, how it ended): until the process ends or the limit is near."""
        while (status := running.wait(self.tick)) is None:
            if self.left() <= self.reserve:
                self.log.say("the limit is near: the running job is ended, its checkpoints stay")
                return running.end(self.patience), "stopped"
            if self._seen - self._saved >= SAVED:
                self.save()
        return status, "done" if status == 0 else "failed"

    def _told(self, ended: str, status: int | None, last: str) -> str:
        if ended != "failed":
            return ended
        if status is not None and status < 0:
            return f"killed by signal {-status} (memory of the machine, perhaps)"
        return f'failed with status {status} ("{last}"; more in {short(self.log.file)})'


# ---------------------------------------------------------------- around it


@contextlib.contextmanager
def unattended(folder: Path):
    """One loop a folder; SIGHUP is ignored, SIGTERM is as Ctrl-C. LabError if another holds the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise LabError(
            f"Another gpu-hour is running in {short(folder)}: follow it with `tail -f "
            f"{short(folder / 'log.txt')}`, or stop it first."
        ) from None
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    kept = {}
    try:
        for name, action in (("SIGHUP", signal.SIG_IGN), ("SIGTERM", _as_interrupt)):
            if number := getattr(signal, name, None):  # Windows has no SIGHUP
                kept[number] = signal.signal(number, action)
        yield
    finally:
        for number, action in kept.items():
            signal.signal(number, action)
        lock.release()


def _as_interrupt(number, frame):
    raise KeyboardInterrupt


def summary(hour: Hour, choices: Sequence[schedule.Choice]) -> str:
    """One line at the end."""
    done = sum(choice.what == "done" for choice in choices)
    return (
        f"{done} of {len(choices)} jobs done, {money(hour.book.spent)} of {money(hour.budget)} spent by "
        "the clock of this command (the machine's own start is extra)"
    )
