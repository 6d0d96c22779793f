"""Signs in the rows as the trainer fed them: what was cut off, what the loss saw, in which form."""

from __future__ import annotations

from labsupport.core.text import number
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_rows.fed_rows import FedRow, fed_rows
from labsupport.run_signs.written_form import format_signs

SOME = 0.05  # share of rows without a trained token from which on the result must suffer
MANY = 0.25  # share of rows whose answer lost its end
MOSTLY = 0.5  # share of the loss's tokens that are no answer
NEVER = 0.9  # share of rows whose end is not trained: all but a few odd ones
GOOD = 0.9  # share of replies that are exactly right: what was learned with the questions did no harm


def signs(run) -> list[Sign]:
    """The signs in the run's rows; [] where there are no rows, or no tokenizer to read them with."""
    rows = fed_rows(run)
    if not rows:
        return []
    return [
        *cut_off(run, rows),
        *prompt_trained(run, rows),
        *end_trained(run, rows),
        *format_signs(run, rows),
    ]


def cut_off(run, rows: list[FedRow]):
    """Rows of which max_length left no answer, or an answer without its end."""
    limit = run.recipe["max_length"]
    answered = [row for row in rows if row.answer is not None or not any(row.view.trained)]
    empty = [row for row in answered if not any(row.view.trained)]
    empty += [row for row in answered if row.answer_left == 0 and row not in empty and not has_earlier(row)]
    cut = [row for row in answered if row.cut and row not in empty]
    if not answered or not any(row.cut for row in answered):
        return
    if len(empty) >= SOME * len(rows):
        row = empty[0]
        yield Sign(
            "truncated",
            PROVES,
            f"max_length = {limit} leaves no token of the answer in {share(empty, rows)} "
            f"({row.where}: {row.view.full_length} tokens, {row.cut} cut off)",
            row.where,
        )
    lost = [row for row in cut if row.answer is not None and row.answer[1] > len(row.view.ids)]
    if len(lost) >= MANY * len(rows):
        row = lost[0]
        strength = PROVES if len(lost) >= MOSTLY * len(rows) else SUGGESTS
        yield Sign(
            "truncated",
            strength,
            f"max_length = {limit} cuts off the end of the last answer in {share(lost, rows)} ({row.where}: "
            f"{row.answer_left} of {row.answer[1] - row.answer[0]} tokens are left)",
            row.where,
        )


def has_earlier(row: FedRow) -> bool:
    """Whether a conversation has answers before its last one."""
    return row.record is not None and sum(turn.get("role") == "assistant" for turn in row.record.messages) > 1


def asked_share(run, row: FedRow) -> float:
    """What share of what stands before the last answer is asked and not answered, by its characters."""
    if row.record is None or row.record.text is not None or not has_earlier(row):
        return 1.0
    if run.recipe["assistant_only_loss"]:
        return 0.0
    sizes = [(turn.get("role"), len(str(turn.get("content") or ""))) for turn in row.record.messages[:-1]]
    return sum(size for role, size in sizes if role != "assistant") / max(1, sum(size for _, size in sizes))


def prompt_trained(run, rows: list[FedRow]):
    """How much of the loss lies on what is asked."""
    known = [row for row in rows if row.answer is not None and row.answer_left]
    asked = sum(row.prompt_trained * asked_share(run, row) for row in known)
    answered = sum(row.answer_left for row in known)
    if not known or not asked:
        return
    part = asked / (asked + answered)
    if part < MOSTLY:
        return
    meant = run.recipe["completion_only_loss"] is False
    text = (
        f"{number(100 * part, 2)} % of the tokens in the loss are what is asked, not the answer "
        f"({reason(run, known[0])})"
    )
    if not meant and exactly_right(run) >= GOOD:
        run.notes.append(f"No cause of anything, as the replies are right: {text}.")
        return
    yield Sign("prompt-in-loss", PROVES if meant else SUGGESTS, text, known[0].where)


def exactly_right(run) -> float:
    """Share of the recorded replies that are the right answer, word for word; 0 without any."""
    pairs = run.pairs()
    right = [
        (record.answers or [None])[-1] is not None and record.answers[-1].strip() == reply.strip()
        for record, reply in pairs
    ]
    return sum(right) / len(right) if right else 0.0


def reason(run, row: FedRow) -> str:
    """Why the prompt is in the loss."""
    if run.recipe["completion_only_loss"] is False:
        return "completion_only_loss=False"
    if row.record is None:
        return "the rows' own labels"
    if row.record.text is not None:
        return "of text, TRL trains every token"
    return "of messages, TRL trains every token unless assistant_only_loss is set"


def end_trained(run, rows: list[FedRow]):
    """Whether the token that ends the answer is in the loss."""
    tokenizer = run.tokenizer()
    if tokenizer is None:
        return
    stops = stop_tokens(tokenizer)
    whole = [row for row in rows if not row.cut and row.view.ids and any(row.view.trained)]
    masked, absent = [], []
    for row in whole:
        if row.record is not None and row.record.text is not None and looks_like_prose(row):
            continue
        last = last_place(row)
        if row.view.ids[last] not in stops:
            absent.append(row)
        elif not row.view.trained[last]:
            masked.append(row)
    if whole and len(masked) >= NEVER * len(whole):
        row = masked[0]
        token = tokenizer.decode([row.view.ids[last_place(row)]])
        yield Sign(
            "eos-not-learned",
            PROVES,
            f"{token}, which ends the answer, is not in the loss in {share(masked, whole)}",
            row.where,
        )
    elif whole and len(absent) + len(masked) >= NEVER * len(whole):
        row = (absent or masked)[0]
        tail = "".join(tokenizer.decode(row.view.ids[-8:]))
        yield Sign(
            "eos-not-learned",
            PROVES,
            f"{share(absent, whole)} end without a token that ends a turn (they end with {tail[-40:]!r})",
            row.where,
        )


def last_place(row: FedRow) -> int:
    """The place of the last token that is no blank."""
    places = [place for place, text in enumerate(row.view.text) if text.strip()]
    return places[-1] if places else len(row.view.ids) - 1


def looks_like_prose(row: FedRow) -> bool:
    """Whether a text row has no turns: a document, in which nothing is to be answered."""
    from labsupport.token_checks.chat_markers import rendered_as

    return rendered_as(row.record.text) is None


def stop_tokens(tokenizer) -> set[int]:
    """The ids at which generation stops: EOS, what generation_config.json adds, known ends of a turn."""
    from labsupport.token_checks.chat_markers import FORMATS
    from labsupport.token_checks.template_checks import stops_of

    ends = {mark for one in FORMATS for mark in one.ends if mark.startswith("<") and "assistant" not in mark}
    known = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {tokenizer.eos_token_id, *stops_of(tokenizer), *(known[m] for m in ends & special)}


def share(some: list, rows: list) -> str:
    """12 of 100 rows (12 %)."""
    return f"{len(some):,} of {len(rows):,} rows ({number(100 * len(some) / len(rows), 2)} %)"
