"""The hour's folder: what is done, what was spent, and a page that says what each file is.

state.json   what the hour was asked for, the money spent, how each job ended
done/NAME    the finished marker of a job
results/     what the jobs found
log.txt      all that was said
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError, short, write_atomically

README = """\
One planned GPU hour of LoRA Lab. Copy this folder home, into runs/ of the course.

plan.txt                 what was planned: predictions of minutes, money and memory, made before
state.json               money spent, and how each job ended
log.txt                  all that was said, by every job
done/                    a file for each job that is finished; without it the job is begun again
results/doctor.json      the machine's check, `lab.py doctor --gpu`
results/gpu_check.json   the planner's memory against this card's, `lab.py gpu-check`
results/download.json    which files of the base model
results/qlora.json       the fine-tune: training, both test sets, prompts on the base, replies, general text
results/templates.json   notebook 06: the tuned model asked in wrong templates
results/nf4_error.json   notebook 04: NF4's and FP4's error on every matrix of the base model
results/prompts.json     notebook 00: prompts chosen on validation
results/forgetting.json  notebook 07: general text at each quarter of a second run

Each result names the card, its driver, the date and the versions. `"finished": false` is a job that was
stopped: its steps up to then are whole. A file that is missing belongs to a job that was not begun.
`"rehearsal": true` was computed by a small model on a processor and says nothing about a card.
The adapters are in the folder beside this one whose name ends in _adapters; copy them if you want them.
"""


class Book:
    """The state of an hour, in memory and in its folder. Money is in the currency of the rate."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.spent = 0.0
        self.about: dict = {}
        self.jobs: dict[str, dict] = {}
        self._unwritten: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        file = self.folder / "state.json"
        if not file.exists():
            return
        found = files.read_json(file)
        spent = found.get("spent") if isinstance(found, dict) else None
        if not isinstance(spent, (int, float)) or isinstance(spent, bool) or not 0 <= spent < 1e9:
            raise LabError(
                f'{short(file)} is damaged, so what was spent is not known: correct "spent" in it, or move '
                f"{short(self.folder)} away to begin anew."
            )
        self.spent, self.about = float(spent), found.get("about") or {}
        self.jobs = {name: dict(job) for name, job in (found.get("jobs") or {}).items()}

    def begin(self, about: dict) -> None:
        """Say what the hour is about; LabError if the folder holds one about another model."""
        for key in ("base_model", "profile"):
            if self.about and self.about.get(key) != about.get(key):
                raise LabError(
                    f"{short(self.folder)} holds an hour with {key} {self.about.get(key)}, and this is one "
                    f"with {about.get(key)}: move that folder away first."
                )
        self.about = about
        write_atomically(self.folder / "README.txt", README)
        self._write()

    def done(self) -> set[str]:
        """The jobs with a finished marker, and those whose marker could not be written yet."""
        found = {file.name for file in (self.folder / "done").glob("[a-z]*")}
        return found | set(self._unwritten)

    def note(self, name: str, **what) -> None:
        """Change what is known of a job; not yet on disk."""
        self.jobs[name] = self.jobs.get(name, {}) | what

    def finish(self, name: str) -> None:
        """Mark a job as finished; written with the next `save` that succeeds."""
        self._unwritten[name] = datetime.datetime.now().isoformat(timespec="seconds")

    def save(self) -> str:
        """Write markers and state: "" or why they cannot be written. A full disk must not end a job."""
        try:
            for name, when in list(self._unwritten.items()):
                write_atomically(self.folder / "done" / name, when + "\n")
                del self._unwritten[name]
            self._write()
        except LabError as error:
            return str(error)
        return ""

    def _write(self) -> None:
        content = {"about": self.about, "spent": round(self.spent, 6), "jobs": self.jobs}
        write_atomically(self.folder / "state.json", json.dumps(content, indent=1))
