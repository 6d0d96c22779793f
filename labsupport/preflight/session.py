"""What `lab.py preflight` was asked for, opened: files, settings, tokenizer; then looked at."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labsupport.core.files import LabError, check_output, short
from labsupport.findings.check import Run
from labsupport.preflight import runner
from labsupport.training_data.forms import Form, find_form, to_record
from labsupport.training_data.reading import Rows
from labsupport.training_data.record import Record

FIRST = 100  # rows from which a file's form is told
SHOW_EVERY = 1000  # rows between two states of the progress line


@dataclass
class Session:
    """One preflight. form, eval_form: of the two files; those of the evaluation are None without one."""

    run: Run
    form: Form
    eval_form: Form | None = None

    def inspect(self) -> runner.Report:
        """Look at everything once. LabError where no row can be read."""
        views = None
        if self.run.tokenizer is not None:
            from labsupport.token_checks import trainer_view

            def views(records):
                return trainer_view.views(records, self.run.tokenizer, self.run.recipe)

        found = runner.inspect(self.run, self.records(), self.eval_records(), views)
        check_readable(found)
        return found

    def records(self) -> Iterator[Record]:
        """The rows of the data, from the first one on; a progress line at a terminal."""
        return records_of(self.run.data, self.form)

    def eval_records(self) -> Iterator[Record]:
        """The rows of the evaluation."""
        return iter(()) if self.run.eval is None else records_of(self.run.eval, self.eval_form)


def opened(asked: argparse.Namespace) -> Session:
    """The session of a command line (the arguments of `lab.py preflight`). LabError for bad input."""
    from labsupport.settings_checks import recipe

    data = Path(asked.data)
    read = None if asked.config is None else recipe.read(asked.config)
    field = None if read is None else read.get("dataset_text_field")
    form = form_of(data, asked.prompt_column, asked.completion_column, field)
    run = Run(data, form.name, recipe=read, gpu=asked.gpu, rate=asked.rate, notes=list(form.said))
    session = Session(run, form)
    if asked.eval is not None:
        run.eval = Path(asked.eval)
        session.eval_form = form_of(run.eval, *columns_of_eval(run.eval, asked), field)
    check_card(asked)
    take_tokenizer(run, asked)
    return session


OPTIONS = {"eval": None, "config": None, "model": None, "prompt_column": None, "completion_column": None}
OPTIONS |= {"gpu": None, "rate": None}


def look(data: str | Path, **options) -> runner.Report:
    """What `lab.py preflight` finds; options as there, such as eval="test.jsonl", gpu="l4"."""
    if unknown := options.keys() - OPTIONS:
        raise TypeError(f"look() has no option {', '.join(sorted(unknown))}. It has {', '.join(OPTIONS)}.")
    return opened(argparse.Namespace(data=data, **(OPTIONS | options))).inspect()


def form_of(path: Path, prompt: str | None, completion: str | None, field: str | None = None) -> Form:
    """The form of a file's rows, told from the first of them. field: the settings' dataset_text_field."""
    raws = [raw for _, _, raw in itertools.islice(Rows(path), FIRST)]
    return find_form(raws, prompt, completion, short(path), field)


def columns_of_eval(path: Path, asked) -> tuple[str | None, str | None]:
    """The columns that the options name, where the evaluation has them: it may be of another form."""
    first = next(iter(Rows(path)))[2]
    both = (asked.prompt_column, asked.completion_column)
    return both if all(column in first for column in both) else (None, None)


def check_outputs(asked) -> None:
    """LabError for an --html or --fix that cannot be written; told before the rows are read."""
    from labsupport.training_data import fixing

    taken = [Path(one) for one in (asked.data, asked.eval, asked.config) if one]
    if asked.fix is not None:
        fixing.check_out(Path(asked.fix), taken)
    if asked.html is not None:
        check_output(Path(asked.html), "--html", taken)
        if asked.fix is not None and Path(asked.html).resolve() == Path(asked.fix).resolve():
            raise LabError("--html and --fix are one file: give two names.")


def check_readable(found: runner.Report) -> None:
    """LabError if there is not one row that could be read."""
    unread = next((one for one in found.findings if one.rule.id == "unreadable-row"), None)
    if unread is not None and unread.count == found.run.rows:
        first = unread.evidence[0]
        raise LabError(
            f"{short(found.run.data)}: no row can be read as {found.run.form.replace('_', ' + ')}; "
            f"{first.where}: {first.text}. Correct the rows, or name the columns."
        )


def check_card(asked) -> None:
    """LabError for a card that nobody knows or a rate that is none."""
    from labsupport.core import numbers
    from labsupport.sizes import gpus

    if asked.gpu is not None:
        gpus.find(asked.gpu)
    if asked.rate is not None:
        numbers.real(asked.rate, "rate (money an hour)")


def take_tokenizer(run: Run, asked) -> None:
    """Give the run its model's tokenizer: --model's, the settings', or the course's."""
    from labsupport.core import upstream
    from labsupport.preflight import tokenizers
    from labsupport.token_checks import trainer_view

    upstream.quiet_known_noise()
    of_recipe = run.recipe.get("model_name_or_path") if run.recipe is not None else None
    run.model = of_recipe if asked.model is None else asked.model
    run.tokenizer, said = tokenizers.of_model(run.model, of_settings=asked.model is None)
    if said:
        run.notes.append(said)
    if run.tokenizer is None:
        return
    run.vocabulary = {} if said else run.tokenizer.get_vocab()
    try:
        run.tokenizer = trainer_view.as_trained(run.tokenizer, run.recipe)
    except trainer_view.NoSource as error:
        run.tokenizer = None
        run.notes.append(f"Tokens were not looked at. {error}")


def records_of(path: Path, form: Form) -> Iterator[Record]:
    """The rows of a file as records."""
    rows = Rows(path)
    at_terminal = sys.stderr.isatty()
    for number, where, raw in rows:
        if at_terminal and number % SHOW_EVERY == 0:
            print(f"\r{short(path)}: {100 * rows.fraction:3.0f} %", end="", file=sys.stderr, flush=True)
        yield to_record(number, where, raw, form)
    if at_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def mended(session: Session, out: Path) -> str:
    """Write the mended copy; a sentence on what was changed. LabError where it cannot be written."""
    from labsupport.copies.duplicate_checks import leaks_into
    from labsupport.training_data import fixing

    run = session.run
    inputs = [path for path in (run.data, run.eval) if path is not None]
    leaks = leaks_into(session.eval_records(), session.records())
    changes = fixing.fix(session.records(), out, session.form, leaks, inputs)
    return f"Mended copy: {changes.in_words()}"
