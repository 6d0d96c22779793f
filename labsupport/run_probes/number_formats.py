"""Whether recorded replies were made in another number format, and whether that did them harm.

Rounding always changes some replies, mostly without making them worse. So two things are asked for: that
another format explains the replies clearly better, and that in it the right answers are clearly less likely.
"""

from __future__ import annotations

import math
import statistics

from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, Sign
from labsupport.run_probes import learned_probes, reply_probes

OTHERS = ("nf4", "float16", "bfloat16", "float32")  # those with the largest effect first
MORE = 0.25  # of the replies, than the usual format explains
MOST = 0.6
ROWS = 32  # evaluation rows on which the formats are compared
WORSE = 1.1  # times the loss on the right answers
SURE = 2.0  # standard errors


def sign(run, bench, asking, prompts, replies: list[str], healthy) -> Sign | None:
    """The sign that another format made the replies, and made them worse; None without one.

    healthy: the Explanation of the replies in the bench's own format.
    """
    for dtype in OTHERS:
        if dtype == bench.dtype:
            continue
        other, _, _ = reply_probes.opened(str(run.base_folder()), run.place, bench.tokenizer, dtype)
        followed = reply_probes.followed(other, prompts, replies)
        explained = sum(one.explained for one in followed)
        if explained < MOST * len(replies) or explained - healthy.explained < MORE * len(replies):
            continue
        rows = learned_probes.spread(learned_probes.evaluation_rows(run, asking), ROWS)
        usual, here = (learned_probes.known(one, rows) for one in (bench, other))
        if not worse([one.mean for one in usual], [one.mean for one in here]):
            continue
        before, after = (statistics.fmean(one.mean for one in known) for known in (usual, here))
        text = (
            f"{explained} of {len(replies)} replies are token by token what the model writes in {dtype}, "
            f"{healthy.explained} what it writes in {bench.dtype}. The right answers cost "
            f"{number(after, 2)} nats a token in {dtype} and {number(before, 2)} in {bench.dtype}"
        )
        return Sign("eval-dtype", PROVES, text, "replies.jsonl")
    return None


def worse(before: list[float], after: list[float]) -> bool:
    """Whether paired losses rose by a tenth, and by more than two standard errors."""
    rises = [b - a for a, b in zip(before, after, strict=True)]
    if len(rises) < 2:
        return False
    error = statistics.stdev(rises) / math.sqrt(len(rises))
    mean = statistics.fmean(rises)
    return mean > SURE * error and statistics.fmean(after) > WORSE * statistics.fmean(before)
