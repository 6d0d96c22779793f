"""A server's replies beside the adapter's own: the same tokens, or where they part, and by how much."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from labsupport.core.text import number
from labsupport.findings.finding import Rule, gathered, hit_whole, shortened
from labsupport.serve_checks import lint
from labsupport.serve_checks.adapter_folder import Adapter
from labsupport.serve_checks.client import NoList, Reply, Server, model_for
from labsupport.serve_checks.local_replies import Local, Model

# Two logits so close may change places by rounding: bfloat16 keeps 8 bits, so its numbers from 16 to 32 are
# 0.125 apart, and both logits are rounded. Logits of likely tokens often lie there.
TIE = 0.25

NOT_APPLIED = Rule(
    "adapter-not-applied", "error", "The server replies as the base model does: it does not use the adapter.",
    "Ask for the adapter's name and not the base's (--served), and see that the server loaded it.",
)  # fmt: skip
PROMPT_DIFFERS = Rule(
    "prompt-differs", "error",
    "The server's template or tokenizer makes other tokens of the same messages than training did.",
    "Start the server with the adapter's chat template and tokenizer; look for a second BOS.",
)  # fmt: skip
REPLY_DIFFERS = Rule(
    "reply-differs", "error", "The server computes something else than the model that you evaluated.",
    "Compare scale, base model and precision; the findings above may say which.",
)  # fmt: skip
NEAR_TIE = Rule(
    "near-tie", "note",
    f"Two tokens whose logits are within {TIE} of each other change places by rounding; the rest differs.",
    "Nothing, if the server computes in another precision than this process.",
)  # fmt: skip
SAYS_NOTHING = Rule(
    "prompts-too-easy", "warning",
    "With and without the adapter the replies are the same, so the test cannot tell whether it is applied.",
    "Give prompts of the adapter's own task with --prompts.",
)  # fmt: skip
RULES = [NOT_APPLIED, PROMPT_DIFFERS, REPLY_DIFFERS, NEAR_TIE, SAYS_NOTHING]


@dataclass(frozen=True)
class Comparison:
    """One reply beside the adapter's own. row: which of the prompts, from 0. way: "chat" or "completion"
    (after the same token ids). same: whether they agree. ids_compared: by token ids, else by text. place: the
    first token that differs, None if none does. gap: how far the logit of the server's token there lies below
    ours, None if unknown."""

    prompt: str
    row: int
    way: str
    same: bool
    same_prompt: bool | None
    ids_compared: bool
    place: int | None
    gap: float | None
    ours: str
    theirs: str
    as_base: bool


def compared(prompt: str, row: int, way: str, local: Local, reply: Reply, model: Model) -> Comparison:
    """Lay one reply beside ours. Without ids the server's text is turned into tokens to find the place."""
    by_ids = reply.ids is not None
    theirs = model.without_end(reply.ids) if by_ids else encoded(model, reply.text)
    ours = local.ids
    same = ours == theirs if by_ids else local.text.strip() == reply.text.strip()
    place = None if same else first_difference(ours, theirs)
    gap = None if same else gap_at(local, theirs, place, model)
    text = model.decoded(theirs) if by_ids else reply.text
    as_base = not same and text.strip() == local.base_text.strip()
    same_prompt = None if reply.prompt_ids is None else reply.prompt_ids == local.prompt_ids
    return Comparison(prompt, row, way, same, same_prompt, by_ids, place, gap, local.text, text, as_base)


def encoded(model: Model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def first_difference(ours: list[int], theirs: list[int]) -> int:
    """The first place where two lists differ; the end of the shorter one if that is all."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def gap_at(local: Local, theirs: list[int], place: int, model: Model) -> float | None:
    """How far the server's token lies below the likeliest at a place, in logits. A server that stopped chose
    an end of the turn."""
    if place >= len(local.logits):
        return None
    logits = local.logits[place]
    chosen = [theirs[place]] if place < len(theirs) else sorted(model.ends)
    known = [float(logits[one]) for one in chosen if one < len(logits)]
    return float(logits.max()) - max(known) if known else None


def tested(adapter: Adapter, url: str, served: str | None, prompts, tokens: int, key: str | None):
    """(comparisons, findings, the model's name at the server). LabError where the server or the base model
    cannot be had."""
    server = Server(url, key)
    name = name_at(server, adapter, served)
    model = Model(adapter)
    found, locals_ = [], []
    for row, messages in enumerate(prompts):
        local = model.reply(messages, tokens)
        locals_.append(local)
        prompt = shortened(messages[-1]["content"], 60)
        chat = server.chat(name, messages, tokens) if model.tokenizer.chat_template else None
        completion = server.complete(name, local.prompt_ids, tokens)
        for way, reply in (("chat", chat), ("completion", completion)):
            if reply is not None:
                found.append(compared(prompt, row, way, local, reply, model))
    if not found:
        adapter.notes.append("Replies were not compared: the server has neither chat nor completions for it.")
    return found, findings(found, locals_), name


def name_at(server: Server, adapter: Adapter, served: str | None) -> str:
    """What the server calls the adapter. Where it lists no models, at which transformers serve may fail, the
    name that was given is tried."""
    try:
        listed = server.models()
    except NoList:
        if served is None:
            raise
        return served
    return model_for(listed, adapter.folder, served, server.url)


def findings(comparisons: list[Comparison], locals_: list[Local]):
    """What the comparisons show, as findings."""
    gathers = {}
    if comparisons and all(local.text == local.base_text for local in locals_):
        gathered(gathers, [hit_whole(SAYS_NOTHING, f"on all {len(locals_)} prompts")])
    # One reply that only looks like the base's may be chance; all that differ are not.
    wrong = [one for one in comparisons if not one.same]
    not_applied = bool(wrong) and all(one.as_base for one in wrong)
    completions = {one.row: one for one in comparisons if one.way == "completion"}
    for one in comparisons:
        completion = completions.get(one.row)
        of_template = one.way == "chat" and not one.same and completion is not None and completion.same
        if one.same_prompt is False or (one.same_prompt is None and of_template):
            why = "other token ids" if one.same_prompt is False else "only its completion of our ids agrees"
            gathered(gathers, [hit_whole(PROMPT_DIFFERS, f"{one.prompt}: {why}")])
        elif not one.same:
            gathered(gathers, [hit_whole(rule_of(one, not_applied), in_words(one))])
    return lint.in_order(gathers.values())


def rule_of(one: Comparison, not_applied: bool) -> Rule:
    """Which finding a reply that differs is."""
    if not_applied:
        return NOT_APPLIED
    return NEAR_TIE if one.gap is not None and one.gap <= TIE else REPLY_DIFFERS


def in_words(one: Comparison) -> str:
    """A difference in a line."""
    gap = "" if one.gap is None else f", its token {number(one.gap)} below ours in logits"
    replies = f"ours {shortened(one.ours, 60)!r}, the server's {shortened(one.theirs, 60)!r}"
    return f"{one.way}, {one.prompt}: from token {one.place + 1} on{gap}: {replies}"


def as_document(comparisons: list[Comparison]) -> list[dict]:
    """For --json."""
    return [asdict(one) for one in comparisons]
