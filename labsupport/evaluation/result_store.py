"""Scores and replies that were computed before are not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from labsupport.core import profiles
from labsupport.core.files import RUNS, write_atomically
from labsupport.tasks import tickets


def recorded(model, tokenizer, rows: list[dict], name: str, compute: Callable) -> list:
    """`compute(model, tokenizer, rows)`, or what it returned before for exactly this model and rows.

    name: what is computed ("score", "generate"); part of the key, as are the weights of the model,
    which adapters are switched on and how strongly, the rows, the prompt and the chat template. One line
    says which it was.
    """
    from labsupport.training.fingerprint import weights_hash

    adapters = [
        (n, m.disable_adapters, list(m.active_adapters), m.merged, getattr(m, "scaling", None))
        for n, m in model.named_modules()
        if hasattr(m, "disable_adapters") and hasattr(m, "merged")
    ]
    texts = [tickets.SYSTEM_PROMPT, tokenizer.chat_template]
    facts = [name, weights_hash(model), adapters, rows, texts, profiles.current().reply_tokens]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    file = RUNS / "evaluations" / f"{name}-{key[:16]}.json"
    try:
        result = json.loads(file.read_text())["result"]
        print(f"{name}, {len(rows)} rows: loaded")
        return result
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: compute it
    result = compute(model, tokenizer, rows)
    write_atomically(file, json.dumps({"key": key, "result": result}))
    print(f"{name}, {len(rows)} rows: computed")
    return result
