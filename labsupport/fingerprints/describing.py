"""What code does and how things are set, in a form that can be hashed: the basis of every "done before".

A function is its own source, that of the functions and classes outside libraries that it uses, and the
constants they read. Left out is what changes nothing: comments, docstrings, layout, imports and the names of
modules, so that a file may move. Code of libraries is only named: their versions belong beside it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
import types
from pathlib import PurePath

from labsupport.fingerprints import source_code

PLAIN = (str, int, bool, type(None))


def digest(thing) -> str:
    """Hex SHA-256 of `describe(thing)`."""
    return hashlib.sha256(json.dumps(describe(thing), sort_keys=True).encode()).hexdigest()


def describe(thing, met: dict | None = None):
    """What a thing is, in lists, dicts and plain values for `json.dumps`.

    Functions and classes by their code, partials and bound methods by their parts, other objects by class and
    attributes, tensors and arrays by a hash of their bytes. A path says where, not what: all count as alike.
    met: what was described before (functions) or is being described (containers, objects), by its id.
    """
    met = {} if met is None else met
    if isinstance(thing, PLAIN):
        return thing
    if isinstance(thing, (float, complex, bytes, range)):
        return repr(thing)
    if isinstance(thing, PurePath):
        return "a path"
    if id(thing) in met:
        return {"again": met[id(thing)][0]}
    met[id(thing)] = (len(met), thing)  # with the thing itself, or its id might go to another
    if isinstance(thing, (type, types.FunctionType)) or hasattr(thing, "__wrapped__"):
        return code(inspect.unwrap(thing), met)
    found = contents(thing, met)
    del met[id(thing)]  # equal things are described alike, whether they are one or two
    return found


def contents(thing, met: dict):
    """A container or an object by what is in it."""
    if isinstance(thing, dict):  # equal ones alike, in whatever order they were filled
        pairs = [[describe(key, met), describe(thing[key], met)] for key in in_order(thing)]
        return {"dict": sorted(pairs, key=json.dumps)}
    if isinstance(thing, (list, tuple)):
        return [describe(item, met) for item in thing]
    if isinstance(thing, (set, frozenset)):
        return {"set": sorted(json.dumps(describe(item, met), sort_keys=True) for item in in_order(thing))}
    if isinstance(thing, functools.partial):
        return {"partial": describe([thing.func, thing.args, thing.keywords], met)}
    if isinstance(thing, types.MethodType):
        return {"method": describe([thing.__func__, thing.__self__], met)}
    if hasattr(thing, "backend_tokenizer"):
        return {"tokenizer": describe(tokenizer_parts(thing), met)}
    if hasattr(thing, "named_parameters"):
        return {"module": describe([type(thing), dict(thing.state_dict())], met)}
    if hasattr(thing, "tobytes") or hasattr(thing, "untyped_storage"):
        data = hashlib.sha256(bytes_of(thing)).hexdigest()
        return {"array": [str(thing.dtype), list(thing.shape), data]}
    if not hasattr(thing, "__dict__") or isinstance(thing, types.ModuleType):
        text = repr(thing)
        return {"name": type(thing).__qualname__, "text": None if " at 0x" in text else text}
    attributes = vars(thing)
    if not source_code.is_ours(type(thing)):  # of a library's object only what its user may have set
        kept = (*PLAIN, float, list, tuple, dict, set, PurePath, types.FunctionType)
        attributes = {k: v for k, v in attributes.items() if isinstance(v, kept) or is_setting(v)}
    return {"of": describe(type(thing), met), "attributes": describe(attributes, met)}


def in_order(things) -> list:
    """A set's items or a dict's keys in an order that all processes share: what is met first is described in
    full and only numbered later, and strings come out of a set in another order in each process."""
    return sorted(things, key=lambda thing: getattr(thing, "__qualname__", None) or repr(thing))


def is_setting(value) -> bool:
    """Whether a library's object's attribute says more than its class: numbers, tokenizers, own things."""
    known = ("untyped_storage", "tobytes", "backend_tokenizer")
    return any(hasattr(value, name) for name in known) or source_code.is_ours(type(value))


def tokenizer_parts(tokenizer) -> list:
    """What decides the ids that a tokenizer makes of text and of messages."""
    added = {str(key): str(value) for key, value in tokenizer.special_tokens_map.items()}
    return [tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, tokenizer.padding_side, added]


def bytes_of(array) -> bytes:
    """The numbers of a tensor or an array, in order, as they lie in memory."""
    if not hasattr(array, "detach"):
        return array.tobytes()
    flat = array.detach().cpu().contiguous().flatten()
    return flat.view(sys.modules["torch"].uint8).numpy().tobytes()


def code(thing, met: dict):
    """A function or a class by its source and by what it uses; one of a library by its name."""
    if not source_code.is_ours(thing):
        return {"library": f"{thing.__module__}.{thing.__qualname__}"}
    text, used = source_code.read(thing)
    found = {"code": text, "uses": describe(used, met)}
    if isinstance(thing, type):
        return found | {"bases": [describe(base, met) for base in thing.__bases__]}
    defaults = [thing.__defaults__, thing.__kwdefaults__] if isinstance(thing, types.FunctionType) else []
    return found | {"defaults": describe(defaults, met)}
