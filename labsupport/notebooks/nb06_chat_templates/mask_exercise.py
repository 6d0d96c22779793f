"""Notebook 06's central exercise: which tokens of a conversation are learned."""

from __future__ import annotations

from labsupport.chat_formats.loss_masks import assistant_labels
from labsupport.checking.exercise import Exercise, told
from labsupport.models.chat import IGNORED

# As the course's tokenizer has them: "<|im_start|>" 1, "<|im_end|>" 2, the line break 198.
ROLES = {"system": [9690], "user": [4093], "assistant": [520, 9531]}
OPENING, END = [1, 520, 9531, 198], 2


def _chatml(*turns: tuple) -> list[int]:
    """Ids of a conversation: each turn is its role and the ids of its content."""
    return [i for role, content in turns for i in [1, *ROLES[role], 198, *content, END, 198]]


def _cases() -> list[tuple]:
    asked, told_so = ("user", [1780, 314, 260]), ("assistant", [504, 314, 30])
    naming = ("user", [1, 520, 9531, 314, 520, 9531, 198, 42])  # speaks of the assistant, and opens no turn
    talk = _chatml(("system", [6077, 5453]), asked, told_so, naming, ("assistant", [28, 198, 29]))
    llama = [4, 5, 90, 6, 11, 40, 41, 8, 5, 91, 6, 11, 43, 8, 5, 92, 93, 6, 11, 44, 45, 8]
    llama += [5, 91, 6, 11, 46, 8, 5, 92, 93, 6, 11, 47, 8]
    mistral = [0, 6, 40, 41, 7, 42, 3, 6, 43, 7, 44, 45, 3]
    return [
        (_chatml(("system", [6077]), asked, told_so), OPENING, END),
        (talk, OPENING, END),
        (llama, [5, 92, 93, 6, 11], 8),
        (mistral, [7], 3),
        (talk[:-3], OPENING, END),  # cut off in an answer
        (_chatml(asked, told_so) + [END] * 3, OPENING, END),  # filled up with the same id that ends a turn
        (_chatml(asked) + OPENING, OPENING, END),  # an answer that has not begun
    ]


# ---------------------------------------------------------------- what people write


def _starts(ids, header):
    """Where the answers begin."""
    size = len(header)
    return [i + size for i in range(len(ids) - size + 1) if ids[i : i + size] == header]


def _only(ids, places):
    return [token if place in places else IGNORED for place, token in enumerate(ids)]


def _answers(ids, header, end, **changes):
    """Places of the answers, with their borders moved or some of them chosen."""
    options = {"chosen": lambda starts: starts, "before": 0, "after": 1, "cut off": True} | changes
    places = set()
    for start in options["chosen"](_starts(ids, header)):
        closed = end in ids[start:]
        if not closed and not options["cut off"]:
            continue
        stop = ids.index(end, start) + options["after"] if closed else len(ids)
        places |= set(range(start - options["before"] * len(header), stop))
    return places


def _with(**changes):
    return lambda ids, header, end: _only(ids, _answers(ids, header, end, **changes))


def _from_first(ids, header, end):
    return _only(ids, range((_starts(ids, header) or [len(ids)])[0], len(ids)))


def _shifted(ids, header, end):
    return [*assistant_labels(ids, header, end)[1:], IGNORED]


def _turned_round(ids, header, end):
    return _only(ids, set(range(len(ids))) - _answers(ids, header, end))


def _all_ends(ids, header, end):
    ends = {place for place, token in enumerate(ids) if token == end}
    return _only(ids, ends | _answers(ids, header, end))


def _other_filler(filler):
    return lambda *given: [filler if label == IGNORED else label for label in assistant_labels(*given)]


loss_mask = Exercise(
    name="chat_templates.loss_mask",
    reference=assistant_labels,
    cases=_cases,
    mistakes=told(
        _with(after=0),
        "The token that ends an answer is not learned: the model would never learn to stop.",
        _with(before=1),
        "The header of an answer is learned, too: at inference it is given, so it teaches nothing.",
        _shifted,
        "You shift the labels by one. The model does that itself, so each place would learn the token after "
        "the next one: label t is id t, or -100.",
        lambda ids, header, end: list(ids),
        "Everything is learned, the user's words as well: outside of the answers the label is -100.",
        _with(chosen=lambda starts: starts[-1:]),
        "Only the last answer is learned: every answer of the conversation is.",
        _with(chosen=lambda starts: starts[:1]),
        "Only the first answer is learned: look for the header again after each end.",
        _from_first,
        "From the first answer on everything is learned: stop after `end`, until the next header.",
        _with(after=2),
        "One token too many: an answer ends with `end`. What follows it is the template's.",
        _turned_round,
        "It is the other way round: you learn everything but the answers.",
        _all_ends,
        "Every `end` in the row is learned, those of users and of padding too: only the answers' own are.",
        _with(**{"cut off": False}),
        "An answer that is cut off at the end of the row has no `end`: learn it as far as it goes.",
        lambda ids, header, end: [int(i in _answers(ids, header, end)) for i in range(len(ids))],
        "That is a mask of 0 and 1; labels repeat the id where it is learned, and are -100 elsewhere.",
        _other_filler(0),
        "0 is the id of a token, which would be learned: what is left out has the label -100.",
        _other_filler(-1),
        "What is left out has the label -100, which the loss passes over; -1 is no label at all.",
        lambda ids, header, end: [label for label in assistant_labels(ids, header, end) if label != IGNORED],
        "Only the learned ids come back: labels are as many as ids, with -100 for the others.",
        lambda ids, header, end: assistant_labels(ids, header[:1], end),
        "You look for the first id of the header alone, which opens every role's turn: compare all of it.",
        lambda ids, header, end: assistant_labels(ids, header[-1:], end),
        "You look for the last id of the header alone: compare all of it with the ids before.",
        lambda ids, header, end: assistant_labels(ids, header[1:] or header, end),
        "You leave out the header's first id, so that a user who writes the word opens a turn.",
    ),
    hints=[
        "Go through the ids with one variable that says whether you are inside an answer.",
        "An answer begins behind ids[i : i + len(header)] == header, and ends with the next `end`.",
        "Inside: the label is the id, and after `end` you are outside. Outside: -100, and look for a header.",
    ],
    minutes=20,
    difficulty=2,
    returns="list",
)
