"""The verbs behind `lab.py` and the console script `lab`. Exit status: 0 done, 1 the check found
problems, 2 wrong usage or bad input (one line on standard error).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import re
import signal
import sys

from labsupport import commands
from labsupport.core.files import LabError, is_disk_trouble, nearest_first
from labsupport.core.numbers import shown

# These two set up the environment that this file needs, so they stand in lab.py.
START_AND_TEST = {
    "start": "set up everything, then open JupyterLab on the course",
    "test": "set up everything, then run every test",
}


LONGEST = 400  # characters of a message of argparse, which repeats what was typed


def one_line(text: str) -> str:
    """The text with what would break the line, or move the cursor, written out: a name may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def whole_number(text: str) -> int:
    """What stands for type=int: its faults in words."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number") from None


def number(text: str) -> float:
    """What stands for type=float."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no number") from None


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage before it; an option that does not exist
    is told before one that is missing, with those that are most like it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register("type", int, whole_number)
        self.register("type", float, number)
        self._negative_number_matcher = re.compile("-([0-9.]|inf|nan)")  # -1e5 is a value, too, if a bad one

    def error(self, message: str):
        line = one_line(message)
        line = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
        self.exit(2, f"{self.prog}: {line}; see `{self.prog} --help`\n")

    def parse_known_args(self, args=None, namespace=None):
        options = [option for option in self._option_string_actions if option.startswith("--")]
        for word in self._typed_options(args):
            if not any(option.startswith(word) for option in options):
                nearest = nearest_first(word, options).split(", ")[:3]
                self.error(f"there is no option {word}; the nearest: {', '.join(nearest)}")
        return super().parse_known_args(args, namespace)

    def _typed_options(self, args) -> list[str]:
        """The long options in a command line as they were typed, up to a bare "--"."""
        words = list(sys.argv[1:] if args is None else args)
        words = words[: words.index("--")] if "--" in words else words
        return [word.partition("=")[0] for word in words if re.match("--[a-zA-Z]", word)]


def names() -> list[str]:
    """The verbs that have a file in commands/."""
    files = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return sorted(name.replace("_", "-") for name in files if not name.startswith("_"))


def subparsers(parser: Parser, verbs: list[str], maintainers: bool) -> dict[str, Parser]:
    """Give the parser a subparser for each of the verbs; maintainers' get a line of help if asked."""
    found = parser.add_subparsers(title="verbs", metavar="VERB [OPTIONS]")
    for verb, said in START_AND_TEST.items():
        found.add_parser(verb, help=said)
    for verb in verbs:
        command = load(verb)
        hidden = getattr(command, "MAINTAINERS", False) and not maintainers
        found.add_parser(verb, description=command.HELP, **({} if hidden else {"help": command.HELP}))
    return found.choices


def load(verb: str):
    """The module of a verb."""
    return importlib.import_module(f"labsupport.commands.{verb.replace('-', '_')}")


def overview(maintainers: bool) -> str:
    """What there is, in a line each."""
    rest = "" if maintainers else " Maintainers' verbs: `lab.py help all`."
    parser = Parser(
        usage="lab.py VERB [OPTIONS]", epilog=f"`lab.py VERB --help` tells more.{rest}", add_help=False
    )
    subparsers(parser, names(), maintainers)
    return parser.format_help()


def run(verb: str, arguments: list[str]) -> int:
    """Run one verb, whose file alone is imported."""
    if verb in START_AND_TEST:
        raise LabError(
            f"`{verb}` sets up this environment: run `python3 lab.py {verb}` in the course's folder."
        )
    if verb not in names():
        raise LabError(
            f"Unknown verb {verb!r}. There are: {nearest_first(verb, [*START_AND_TEST, *names()])}."
        )
    parser = subparsers(Parser(prog="lab.py"), [verb], maintainers=True)[verb]
    command = load(verb)
    command.arguments(parser)
    return command.run(parser.parse_args(arguments))


def dispatch(verb: str, rest: list[str]) -> int:
    """Run a verb, or print help."""
    if verb not in ("help", "-h", "--help"):
        return run(verb, rest)
    if rest and rest[0] != "all":
        return run(rest[0], ["--help"])
    print(overview(maintainers=bool(rest)), end="")
    return 0


def forget_the_output() -> None:
    """What is still to be printed goes nowhere: Python would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def noted_interrupts():
    """A list that Ctrl-C adds to: a library that is being imported may turn it into an error of its own."""
    noted = []

    def note(number, frame):
        noted.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        if hasattr(signal, "pthread_sigmask"):  # lab.py holds it back until here
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def main(arguments: list[str] | None = None) -> int:
    """One line of the command line; LabErrors become one line and status 2, Ctrl-C one line and 130."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    noted = []
    try:
        with noted_interrupts() as noted:
            try:
                return dispatch(verb, rest)
            finally:
                sys.stdout.flush()  # here, where a failure can still be told, and not when Python ends
    except (Exception, KeyboardInterrupt) as error:
        return ending(error, bool(noted))


def ending(error: BaseException, stopped: bool) -> int:
    """Say in a line how a command ended; the exit status. Raises what is a fault of the course."""
    if stopped or isinstance(error, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        return 130
    if isinstance(error, LabError):
        print(one_line(str(error)), file=sys.stderr)
        return 2
    if isinstance(error, BrokenPipeError):
        # Whoever read has what it wanted (`lab.py help | head`). Nobody is there for the rest.
        forget_the_output()
        return 0
    if not isinstance(error, OSError) or not is_disk_trouble(error):
        raise error
    forget_the_output()
    print(f"Cannot write the output: {error.strerror}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    status = main()
    if status == 130:
        os._exit(status)  # what was half imported would complain at Python's end
    sys.exit(status)
