"""Signs that only running the model shows: which adapter, prompt, padding and number format made the replies.

The healthy explanation comes first: the run's adapter on its base model, each row asked as in training and
padded on the left or not at all. If that explains the replies, no other is looked for. If not, others are
tried, and one is named that explains most of what this does not.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from labsupport.core.files import LabError, first_line, short
from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_probes import learned_signs, number_formats, reply_probes
from labsupport.run_rows import reply_ways

ROWS = 16  # replies that are looked at
SCREENED = 4  # of these, for a first look at the many ways of asking
FITS = 0.8  # share of replies that are explained: the others are left to rounding
CLEARLY = 0.75  # share of the replies that another explanation explains, of all and of those left over
FEWEST = 3  # replies more
LARGEST = 1.2e9  # parameters that a processor runs in minutes


@dataclass(frozen=True)
class Explanation:
    """One way in which the replies may have come about. cause: its id, "" for the healthy one. said: how, as
    it stands behind "what the model writes". followed: how each reply follows then."""

    cause: str
    said: str
    followed: list

    @property
    def explained(self) -> int:
        return sum(one.explained for one in self.followed)

    @property
    def share(self) -> float:
        return self.explained / len(self.followed)

    @property
    def regret(self) -> float:
        """Nats a reply."""
        return statistics.fmean(sum(one.regrets) for one in self.followed)

    @property
    def rank(self) -> tuple:
        """Larger is better."""
        return self.explained, -round(self.regret, 1)


def signs(run) -> list[Sign]:
    """The signs that running the model gives; [] (and a note in the run) where it cannot be run here.

    Nothing is fetched: the base model must lie on this machine.
    """
    why_not = cannot_run(run)
    if why_not:
        run.notes.append(f"Not checked: what the model itself says of rows and replies, because {why_not}.")
        return []
    from labsupport.core import upstream

    upstream.quiet_known_noise()
    try:
        bench, unexpected, missing = reply_probes.opened(
            str(run.base_folder()), run.place, run.tokenizer(), reply_probes.usual_format()
        )
    except LabError:
        raise
    except Exception as error:  # whatever PEFT says of an adapter that does not fit
        run.notes.append(f"Not checked: the model could not be loaded ({first_line(error)[:200]}).")
        return []
    found = unplaced(run, unexpected, missing)
    if found:
        return found
    asking = reply_ways.Asking(run)
    found = learned_signs.of(run, bench, asking)
    return [*found, *reply_signs(run, bench, asking)]


def cannot_run(run) -> str:
    """Why the model cannot be run here; "" if it can."""
    if run.place is None:
        return "there is no adapter"
    if run.base_folder() is None:
        named = (
            f"the base model {run.base!r} does not lie here" if run.base else "nothing names the base model"
        )
        return f"{named} (give --model, its folder)"
    if run.tokenizer() is None:
        return "there is no tokenizer"
    size = sum(file.stat().st_size for file in run.base_folder().glob("*.safetensors")) / 2
    from labsupport.core import profiles

    if profiles.current().use_cpu and size > 2 * LARGEST:
        return f"{short(run.base_folder())} is too large for a processor: run this on a machine with a GPU"
    return ""


def unplaced(run, unexpected: list[str], missing: list[str]) -> list[Sign]:
    """Adapter weights that found no place, and places that found no weights."""
    if not unexpected and not missing:
        return []
    texts = []
    if unexpected:
        texts.append(f"{len(unexpected):,} weights, such as {unexpected[0]}, have no place in the model")
    if missing:
        texts.append(f"{len(missing):,} places, such as {missing[0]}, got no weights and stay as initialised")
    text = "loaded by PEFT, " + "; ".join(texts)
    return [Sign("adapter-inactive", PROVES, text, short(run.place / "adapter_model.safetensors"))]


# ---------------------------------------------------------------- what explains the replies


def reply_signs(run, bench, asking) -> list[Sign]:
    """Signs in the recorded replies."""
    pairs = run.pairs()
    if not pairs:
        return []
    rows = pairs[: reply_probes.affordable(bench, ROWS)]
    records, replies = [record for record, _ in rows], [reply for _, reply in rows]
    ways = reply_ways.ways(asking, records, base_tokenizer_of(run))
    if not ways:
        run.notes.append(
            "Not checked: what made the replies, because it is open how training put a question."
        )
        return []
    healthy = Explanation("", "asked as in training", reply_probes.followed(bench, ways[0].prompts, replies))
    if healthy.share >= FITS:
        return []
    best = best_of(bench, asking, ways, replies, healthy, [record for record, _ in pairs])
    found = named(bench, best, healthy, replies, ways)
    if not found or found.strength != PROVES:
        by_format = number_formats.sign(run, bench, asking, ways[0].prompts, replies, healthy)
        found = by_format or found
    if found:
        return [found]
    run.notes.append(
        f"Replies: {healthy.explained} of {len(replies)} are what the model writes greedily when asked as in "
        "training, and nothing else that was tried explains the others (sampling would be one reason)."
    )
    return []


def base_tokenizer_of(run):
    """The base model's own tokenizer; None where it has none."""
    from labsupport.preflight import tokenizers

    try:
        return tokenizers.loaded(str(run.base_folder()))
    except Exception:  # whatever transformers or a damaged file says
        return None


def best_of(bench, asking, ways, replies, healthy: Explanation, records) -> Explanation:
    """The explanation that explains most, the simpler one first among equals."""
    with bench.without_adapter():
        bare = reply_probes.followed(bench, ways[0].prompts, replies)
    tried = [healthy, Explanation("adapter-inactive", "without the adapter", bare)]
    if tried[-1].share < FITS:
        lengths = [len(asking.prompt(record)) for record in records]
        tried += right_padded(bench, ways[0].prompts, replies, healthy, lengths)
    if max(one.share for one in tried) < FITS:
        tried += other_ways(bench, ways[1:], replies)
    return max(tried, key=lambda one: one.rank)


def right_padded(bench, prompts, replies, healthy: Explanation, lengths: list[int]) -> list[Explanation]:
    """The replies of batches that were padded on the right, by the size of the batch.

    lengths: of the prompts of all rows that have a reply, in the replies' order.
    """
    found = []
    for padding in reply_probes.PADDINGS:
        padded = reply_probes.followed(bench, prompts, replies, padding)
        for size in batch_sizes(len(lengths)):
            which = reply_probes.padded_rows(lengths, size)[: len(prompts)]
            mixed = [p if w else h for w, p, h in zip(which, padded, healthy.followed, strict=True)]
            said = f"in batches padded on the right (of {size} rows, for one)"
            found.append(Explanation("padding-side", said, mixed))
        if max((one.share for one in found), default=1) >= FITS:
            break
    return [max(found, key=lambda one: one.rank)] if found else []


def batch_sizes(rows: int) -> list[int]:
    """All sizes of a batch that so many rows fill at least once, the usual ones first."""
    usual = [size for size in (8, 16, 4, 32, 2, 64) if size <= rows]
    return [*usual, *(size for size in range(2, rows + 1) if size not in usual)]


def other_ways(bench, ways: list, replies: list[str]) -> list[Explanation]:
    """The replies asked for in other ways: all ways with a few rows, the best of them with all."""
    few = slice(0, SCREENED)
    screened = [
        (Explanation(way.cause, way.said, reply_probes.followed(bench, way.prompts[few], replies[few])), way)
        for way in ways
    ]
    screened.sort(key=lambda one: one[0].rank, reverse=True)
    return [
        Explanation(way.cause, f"asked {way.said}", reply_probes.followed(bench, way.prompts, replies))
        for _, way in screened[:2]
    ]


def named(bench, best: Explanation, healthy: Explanation, replies, ways) -> Sign | None:
    """The sign for the best explanation, if it is clearly better than the healthy one."""
    if not best.cause:
        return None
    count = len(replies)
    text = (
        f"{best.explained} of {count} replies are token by token what the model writes {best.said}; asked as "
        f"in training, with the adapter, {healthy.explained} are"
    )
    cost = f"(regret {number(best.regret, 2)} against {number(healthy.regret, 2)} nats a reply)"
    left = [new for new, old in zip(best.followed, healthy.followed, strict=True) if not old.explained]
    mended = sum(one.explained for one in left)
    gained = best.explained - healthy.explained
    if best.share >= CLEARLY and mended >= CLEARLY * len(left) and gained >= FEWEST:
        return Sign(best.cause, PROVES, f"{text} {cost}", "replies.jsonl")
    better = sum(
        sum(a.regrets) < sum(b.regrets) for a, b in zip(best.followed, healthy.followed, strict=True)
    )
    if best.regret < healthy.regret / 2 and better >= FITS * count:
        text = (
            f"{better} of {count} replies follow better from the model {best.said} than asked as in training"
        )
        return Sign(best.cause, SUGGESTS, f"{text} {cost}", "replies.jsonl")
    return None
