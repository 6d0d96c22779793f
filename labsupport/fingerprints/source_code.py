"""The source of a function or class without what changes nothing, and what it uses of the code around it."""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import inspect
import sys
import sysconfig
import textwrap
import types
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
LIBRARIES = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]


def is_ours(thing) -> bool:
    """Whether a function or class is the course's or the learner's own, not Python's or a library's."""
    name = getattr(thing, "__module__", None) or "builtins"
    if name.partition(".")[0] == PACKAGE:
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:  # a notebook's cells, or what is built in
        return name == "__main__"
    return not any(Path(file).resolve().is_relative_to(folder) for folder in LIBRARIES)


def read(thing) -> tuple[str, list]:
    """(normalised source, [[name, value], ...] of what it uses from outside). Of a lambda, and of what has no
    source that can be read, the compiled code instead."""
    function = isinstance(thing, types.FunctionType)
    scope = around(thing)
    try:
        if function and thing.__name__ == "<lambda>":  # its line of source may hold another one
            raise OSError
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        text, names = compiled(thing.__code__) if function else (thing.__qualname__, ())
        return text, used([(name,) for name in names], scope)
    scope |= imported(tree)
    uses = used(chains_in(tree), scope)
    return ast.unparse(Normalised(scope).visit(tree)), uses


def compiled(code: types.CodeType) -> tuple[str, list[str]]:
    """(bytecode and constants as text, names that are read from outside), inner functions included."""
    inner = [compiled(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    constants = [repr(c) for c in code.co_consts if not isinstance(c, types.CodeType)]
    names = {*code.co_names, *code.co_freevars, *(name for _, names in inner for name in names)}
    text = f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {constants} {[t for t, _ in inner]}"
    return text, sorted(names)


class Normalised(ast.NodeTransformer):
    """Takes out what says where something is or what it is for, not what is done: imports, docstrings, and
    the names of own modules in front of what they hold."""

    def __init__(self, scope: dict):
        self.scope = scope

    def generic_visit(self, node):
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node

    def visit_Import(self, node):
        return None

    visit_ImportFrom = visit_Import

    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_Attribute(self, node):
        chain = chain_of(node)
        if chain and len(left := beyond_modules(chain, self.scope)[0]) == 1:
            return ast.Name(left[0], node.ctx)
        return self.generic_visit(node)


def chain_of(node: ast.AST) -> tuple[str, ...]:
    """("name", "attribute", ...) of a dotted name; () of anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return (node.id, *parts) if isinstance(node, ast.Name) else ()


def chains_in(tree: ast.AST) -> list[tuple[str, ...]]:
    """Every dotted name that the code reads, those that begin with a name of its own left out."""
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    chains = {chain_of(node) for node in ast.walk(tree)} - {()}
    return sorted(chain for chain in chains if chain[0] not in own)


def beyond_modules(chain: tuple[str, ...], scope: dict) -> tuple[list[str], object]:
    """What is left of a dotted name behind the course's or the learner's modules, and the value of its first
    part; ([], None) if it is none of theirs."""
    left = list(chain)
    if left[0] not in scope:
        return [], None
    value = scope[left[0]]
    while isinstance(value, types.ModuleType) and is_own_module(value) and len(left) > 1:
        left.pop(0)
        value = getattr(value, left[0], None)
    return left, value


def used(chains: list[tuple[str, ...]], scope: dict) -> list:
    """[[name, value], ...] of the dotted names that lead to data or to code outside libraries."""
    found = {}
    for chain in chains:
        left, value = beyond_modules(chain, scope)
        is_code = isinstance(value, (type, types.FunctionType)) or hasattr(value, "__wrapped__")
        if not left or isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
            continue
        if not is_code or is_ours(inspect.unwrap(value)):
            found[left[0], id(value)] = value
    return [[name, value] for (name, _), value in sorted(found.items(), key=lambda item: item[0][0])]


def imported(tree: ast.AST) -> dict:
    """What imports inside a function give names to, of this package."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def around(thing) -> dict:
    """The names that a function or a class can see: its module's, and those of the functions around it."""
    if not isinstance(thing, types.FunctionType):
        return dict(vars(sys.modules.get(thing.__module__, builtins)))
    scope = dict(thing.__globals__)
    for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet: the function itself, while it is defined
            scope[name] = cell.cell_contents
    return scope


def is_own_module(module: types.ModuleType) -> bool:
    """Whether a module is the course's or lies outside every library."""
    return is_ours(types.SimpleNamespace(__module__=module.__name__))
