"""The plain values in a training_args.bin, read without unpickling it.

A pickle is a program: unpickling one can run whatever its writer wanted. Here its steps are only walked
through: texts, numbers, lists and dicts are kept, and whatever names a class or calls one becomes a `Made`
that holds what it was called with. Nothing is imported and nothing called.
"""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

MOST = 2**24  # bytes; a real one has a few thousand
PLAIN = (bool, int, float, str, type(None))
MARK = object()


class Unreadable(Exception):
    """A file that is no pickle of arguments."""


@dataclass
class Made:
    """What a class or function would have made. name: its own; given: what it was called with; state: what
    would have been set on it."""

    name: str
    given: tuple = ()
    state: dict = field(default_factory=dict)


def arguments_in(path: Path) -> dict:
    """Name -> value of the plain fields (numbers, texts, bools, None, lists and dicts of these) of the
    pickled object in a file that `torch.save` wrote. An enum counts as its value. Raises Unreadable."""
    try:
        made = walked(pickle_in(path))
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(made, Made) or not isinstance(made.state, dict) or not made.state:
        raise Unreadable("it holds no arguments")
    found = {name: plain(value) for name, value in made.state.items() if isinstance(name, str)}
    return {name: value for name, value in found.items() if not isinstance(value, Made)}


def pickle_in(path: Path) -> bytes:
    """The bytes of the pickle in a file of torch.save: a ZIP archive, or in old files the pickle itself."""
    if not zipfile.is_zipfile(path):
        if path.stat().st_size > MOST:
            raise Unreadable("it is too large")
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inside = next((one for one in archive.infolist() if one.filename.endswith("data.pkl")), None)
        if inside is None or inside.file_size > MOST:
            raise Unreadable("it holds no data.pkl of a usual size")
        return archive.read(inside)


def plain(value):
    """The value with enums as their values; a Made where it is no plain value."""
    if isinstance(value, Made):
        of_class = value.name.split()[-1][:1].isupper()  # an enum; what begins small is a function
        enum = of_class and len(value.given) == 1 and isinstance(value.given[0], str) and not value.state
        return value.given[0] if enum else value
    if isinstance(value, (list, tuple)):
        items = [plain(one) for one in value]
        return Made("list") if any(isinstance(one, Made) for one in items) else items
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if isinstance(key, PLAIN)}
    return value if isinstance(value, PLAIN) else Made(type(value).__name__)


def walked(pickled: bytes):
    """What is left on the stack at the end of the pickle's steps."""
    stack, memo = [], {}
    for step, value, _ in pickletools.genops(pickled):
        name = step.name
        if name == "STOP":
            return stack[-1]
        if name in ("PROTO", "FRAME"):
            continue
        if name in REMEMBER:
            memo[len(memo) if name == "MEMOIZE" else value] = stack[-1]
        elif name in RECALL:
            stack.append(memo[value])
        elif name in STEPS:
            STEPS[name](stack)
        elif name == "GLOBAL":
            stack.append(Made(value))
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name]() if callable(CONSTANTS[name]) else CONSTANTS[name])
        elif isinstance(value, (bool, int, float, str, bytes)):
            stack.append(value)
        else:
            raise Unreadable(f"it has the step {name}")
    raise Unreadable("it ends too early")


def down_to_mark(stack: list) -> list:
    """Take what lies above the last mark off the stack, and the mark."""
    place = max(i for i, one in enumerate(stack) if one is MARK)
    above = stack[place + 1 :]
    del stack[place:]
    return above


def tupled(count: int):
    """A step that makes a tuple of the last `count`."""

    def step(stack):
        items = tuple(stack[-count:])
        del stack[-count:]
        stack.append(items)

    return step


def called(stack: list) -> None:
    """A class or function with its arguments."""
    given = stack.pop()
    maker = stack.pop()
    stack.append(Made(getattr(maker, "name", "?"), given if isinstance(given, tuple) else (given,)))


def called_with_names(stack: list) -> None:
    stack.pop()
    called(stack)


def named(stack: list) -> None:
    """STACK_GLOBAL: module and name lie on the stack."""
    name, module = stack.pop(), stack.pop()
    stack.append(Made(f"{module} {name}"))


def filled(stack: list) -> None:
    """BUILD: the state of an object."""
    state = stack.pop()
    if isinstance(stack[-1], Made):
        stack[-1].state = state


def set_items(stack: list) -> None:
    items = down_to_mark(stack)
    if isinstance(stack[-1], dict):
        stack[-1].update(
            (key, value) for key, value in zip(items[::2], items[1::2], strict=True) if hashable(key)
        )


def set_item(stack: list) -> None:
    value, key = stack.pop(), stack.pop()
    if isinstance(stack[-1], dict) and hashable(key):
        stack[-1][key] = value


def hashable(key) -> bool:
    return isinstance(key, PLAIN)


def extended(stack: list) -> None:
    items = down_to_mark(stack)
    if isinstance(stack[-1], list):
        stack[-1].extend(items)


def appended(stack: list) -> None:
    item = stack.pop()
    if isinstance(stack[-1], list):
        stack[-1].append(item)


def gathered(make):
    """A step that makes a container of what lies above the mark."""

    def step(stack):
        items = down_to_mark(stack)
        stack.append(make(items))

    return step


def pairs(items: list) -> dict:
    return {k: v for k, v in zip(items[::2], items[1::2], strict=True) if hashable(k)}


REMEMBER = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
RECALL = {"GET", "BINGET", "LONG_BINGET"}
CONSTANTS = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_LIST": list, "EMPTY_DICT": dict,
    "EMPTY_TUPLE": (), "EMPTY_SET": list,
}  # fmt: skip
STEPS = {
    "MARK": lambda stack: stack.append(MARK),
    "POP": lambda stack: stack.pop(),
    "POP_MARK": lambda stack: down_to_mark(stack) and None,
    "DUP": lambda stack: stack.append(stack[-1]),
    "TUPLE1": tupled(1), "TUPLE2": tupled(2), "TUPLE3": tupled(3),
    "TUPLE": gathered(tuple), "LIST": gathered(list), "DICT": gathered(pairs), "FROZENSET": gathered(list),
    "SETITEM": set_item, "SETITEMS": set_items, "APPEND": appended, "APPENDS": extended,
    "ADDITEMS": extended, "REDUCE": called, "NEWOBJ": called, "NEWOBJ_EX": called_with_names,
    "STACK_GLOBAL": named, "BUILD": filled,
    "BINPERSID": lambda stack: stack.append(Made(f"stored {stack.pop()!r}"[:50])),
}  # fmt: skip
