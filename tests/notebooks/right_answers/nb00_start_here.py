"""Right answers to notebook 00's exercises that are written in another way than the reference."""

import math
from statistics import mode


def majority(rows):
    return {
        field: mode([row[field] for row in rows]) for field in ("urgency", "order_id", "product", "intent")
    }


def clustered_error(values, families):
    import numpy as np

    deviations = np.asarray(values) - np.mean(values)
    same = np.asarray(families)[:, None] == np.asarray(families)[None, :]
    return float(np.sqrt(deviations @ same @ deviations)) / len(values)


def likeliest(candidates):
    best, name = -1.0, None
    for candidate, logs in candidates.items():
        probability = math.prod(math.exp(p) for p in logs)
        if probability > best:
            best, name = probability, candidate
    return name


ANSWERS = {
    "start_here.majority": majority,
    "start_here.clustered_error": clustered_error,
    "start_here.likeliest": likeliest,
}
