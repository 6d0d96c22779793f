"""Right answers to notebook 00's exercises that are written in another way than the reference."""

import re


def clustered_error(values, families):
    import numpy as np

    deviations = np.asarray(values) - np.mean(values)
    same = np.asarray(families)[:, None] == np.asarray(families)[None, :]
    return float(np.sqrt(deviations @ same @ deviations)) / len(values)


def mask_logits(logits, written, allowed):
    import torch

    forbidden = torch.ones(len(logits), dtype=torch.bool)
    for value in allowed:
        for end in range(len(value)):
            if value[:end] == written:
                forbidden[value[end]] = False
    return logits.masked_fill(forbidden, -torch.inf)


def beat(text):
    found = re.search(r"(?:20\d\d-)?rl[-/ ]?\d+", text, re.IGNORECASE)
    return {"order_id": found[0] if found else None}


ANSWERS = {
    "start_here.clustered_error": clustered_error,
    "start_here.mask_logits": mask_logits,
    "start_here.beat": beat,
}
