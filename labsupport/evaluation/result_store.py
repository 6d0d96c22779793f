"""Scores and replies that were computed before are not computed again.

scores = result_store.recorded(model, tokenizer, rows, "score", scoring.score)
"""

from __future__ import annotations

import json
from collections.abc import Callable

from labsupport.core import files, profiles
from labsupport.core.files import write_atomically
from labsupport.fingerprints.describing import describe
from labsupport.training import fingerprint


def recorded(model, tokenizer, rows: list[dict], name: str, compute: Callable) -> list:
    """`compute(model, tokenizer, rows)`, or what it returned before for exactly this model, rows and code.

    name: what is computed ("score", "generate"); part of the key, as are the model by the fingerprint that
    training uses (weights, 4-bit scales, compute dtype, adapters and how they are switched), tokenizer and
    template, rows, the code of `compute` and what it uses, and the versions of the libraries. One line says
    which it was.
    """
    facts = {
        "name": name,
        "model": fingerprint.of_model(model),
        "tokenizer": describe(tokenizer),
        "rows": rows,
        "compute": describe(compute),
        "longest reply": profiles.current().reply_tokens,
        "environment": fingerprint.environment(),
    }
    key = fingerprint.as_hash(facts)
    file = files.RUNS / "evaluations" / f"{name}-{key[:16]}.json"
    known = files.read_json(file)
    if isinstance(known, dict) and known.get("key") == key and "result" in known:
        print(f"{name}, {len(rows)} rows: loaded")
        return known["result"]
    result = compute(model, tokenizer, rows)
    write_atomically(file, json.dumps({"key": key, "result": result}))
    print(f"{name}, {len(rows)} rows: computed")
    return result
