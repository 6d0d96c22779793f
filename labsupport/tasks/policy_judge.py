"""Whether a reply to a question on a policy is right, by rules that anybody can apply by hand.

A reply is cut into clauses (at full stops, "but", "however" and the like). A clause that says that the policy
does not tell is a refusal; "Sorry" or "Please contact us" is courtesy; everything else is content. The
question itself, where a reply repeats it, is left out.

- Where the policy does not say, a reply is right if it refuses and has no content.
  Right: "I can't answer that from the policy." "Sorry, the policy doesn't mention stoves."
  Wrong: "It takes 3 days." "The policy doesn't say, but it's usually 3 days."
- Where it does, a reply is right if it does not refuse, contains every entry of `must_contain` and none of
  `must_not_contain`, invents nothing, has at most 40 words, and does not say "no" where the reference opens
  with "yes" or the other way round; "not" and "never" count as "no" unless the reply opens with "yes".
  Right, for must_contain ["30 day*", "return*|send back"]: "You can return it within thirty days."
  Wrong: "30 days." (for what?) "You can return it for 30 days or 60." (60 stands nowhere)

An entry is a list of wordings with "|" between them, matched as whole words in the normalised reply: lower
case, numbers in digits, "can't" as "can not", "£5.00" as "£5", "6 p.m." as "6pm". A wording that ends in "*"
also matches longer words.

The rules check facts, not grammar: a reply that names the right ones in a sentence that is nonsense passes.
"""

from __future__ import annotations

import re

MAX_WORDS = 40

UNITS_AND_TEENS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: number for number, word in enumerate(UNITS_AND_TEENS.split(), start=2)}
TENS = {word: 10 * ten for ten, word in enumerate(ROUND.split(), start=2)}
TEN, WORD = "|".join(TENS), "|".join(sorted({**TENS, **NUMBERS}, key=len, reverse=True))
WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"

REWRITES = [
    (r"[’‘`]", "'"), (r"[“”]", '"'), (r"[–—−]", "-"), (r"\s+", " "),
    (r"\bcan't\b|\bcannot\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"),
    (r"\bi'm\b", "i am"), (r"'re\b", " are"), (r"'ll\b", " will"), (r"'ve\b", " have"),
    (rf"\b({TEN})[- ](one|{WORD})\b", lambda m: str(TENS[m[1]] + (NUMBERS | {"one": 1}).get(m[2], 0))),
    (r"\b(?:a|one) hundred\b", "100"),
    (rf"\b({WORD})\b", lambda m: str((TENS | NUMBERS)[m[1]])),
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"(\d) ?(?:percent|per cent|%)", r"\1%"),
    (r"(?<![\d.£])(\d+(?:\.\d+)?) (?:pounds?|quid)\b", r"£\1"), (r"£ (?=\d)", "£"),
    (r"(£\d+)\.00\b", r"\1"),
    (r"(\d)(?::00)? ?([ap])(?:\.m\.|m\b)", r"\1\2m"),
    (r"(\d) ?(?:kg|kilos?|kilograms?)\b", r"\1 kg"), (r"(\d) ?(?:cm|centimet(?:re|er)s?)\b", r"\1 cm"),
    (r"(\d)-(?=[a-z])", r"\1 "),
    (r"\bbetween (£?\d+) and (?=£?\d)|(\d) ?(?:-|to) ?(?=£?\d)", lambda m: f"{m[1] or m[2]}-"),
]  # fmt: skip

REFUSALS = re.compile(
    r"\b(i|we) (can|could) not (answer|say|tell|find|help|determine|confirm)"
    r"|\b(i|we) (do|did) not (know|have (that|this|enough|any) )"
    r"|\bunable to (answer|say|tell|find|help|determine|confirm)|\bnot able to (answer|say|tell|find)"
    r"|\bcan not be (answered|determined)|\bnot sure\b"
    r"|\b(policy|text|snippet|it|this|that) (does|do|did) not (say|mention|state|specify|answer|tell|address)"
    r"|\b(is|are|was) not (mentioned|stated|specified|answered|addressed|said|given)"
    r"|\b(is|are) not (covered )?(in|by) the (policy|text)"
    r"|\bno (information|mention|details?|answer)\b|\b(policy|text) (says nothing|is silent)"
    r"|\bnothing (in|about)\b.*\bpolicy"
)
COURTESY = (
    "a about afraid again am and apologies apologise ask call check contact could customer desk details "
    "directly for from get good hello help hi i in information is it me more on or our please policy "
    "question questions regrettably reach service shop sorry support team thank thanks that the them this to "
    "touch unfortunately us we with would write you your"
)
BREAK = re.compile(
    r"[.!?;]+(?=\s|$)|\n|,? ?\b(?:but|however|although|though)\b,?"
    r"|, (?=(?:and )?(?:it|they|the|your|there|usually|normally|probably|yes|no)\b)"
)
SPECIFICS = re.compile(rf"£?\b\d+(?:[.:]\d+)*|\b(?:{WEEKDAYS})(?=s?\b)|\S+@\S+|www\.\S+")


def judge(row: dict, reply: str) -> dict[str, bool]:
    """Judge a reply to a row of data/policy by the rules above.

    right: whether it counts. refused: some clause of it says that the policy does not tell. invented: it
    holds what the policy does not: a number, amount, weekday or address that stands in neither policy nor
    question (nor in the reference, where something was added up), or, where the policy does not say, any
    content at all.
    """
    question = normalise(row["question"])
    text = normalise(reply).replace(question.rstrip("?."), "").lstrip("?. ")
    clauses = [clause.strip(" ,-\"'") for clause in BREAK.split(text)]
    refusing = [clause for clause in clauses if REFUSALS.search(clause)]
    given = [row["policy"], row["question"], row["answer"], *row["must_contain"]]
    new = specifics(text) - specifics(normalise("\n".join(given)))
    if not row["answerable"]:
        asked = specifics(question)
        content = [c for c in clauses if c not in refusing and not is_courtesy(c)]
        invented = bool(content or new or any(specifics(clause) - asked for clause in refusing))
        return {"right": bool(refusing) and not invented, "refused": bool(refusing), "invented": invented}
    right = (
        not refusing
        and not new
        and all(contains(text, entry) for entry in row["must_contain"])
        and not any(contains(text, entry) for entry in row["must_not_contain"])
        and not contradicts(text, normalise(row["answer"]))
        and len(text.split()) <= MAX_WORDS
    )
    return {"right": right, "refused": bool(refusing), "invented": bool(new)}


def normalise(text: str) -> str:
    """The text with one spelling for what can be spelt in several ways; see the module's docstring."""
    text = text.lower().strip()
    for pattern, spelling in REWRITES:
        text = re.sub(pattern, spelling, text)
    return text


def contains(text: str, entry: str) -> bool:
    """Whether one of the entry's wordings stands in a normalised text, as whole words and whole numbers."""
    for wording in entry.split("|"):
        end = "" if wording.endswith("*") else r"(?!\w|[.:]\d)"
        if re.search(rf"(?<!\w)(?<!\d[.:]){re.escape(wording.rstrip('*'))}{end}", text):
            return True
    return False


def specifics(text: str) -> set[str]:
    """The numbers, weekdays and addresses in a normalised text."""
    return set(SPECIFICS.findall(text))


def is_courtesy(clause: str) -> bool:
    """Whether a clause says nothing: "sorry", "please contact our support team"."""
    return set(re.findall(r"\w+", clause)) <= set(COURTESY.split())


def contradicts(text: str, reference: str) -> bool:
    """Whether one opens with "yes" and the other with "no", or the text says "not" where "yes" is meant."""
    said, meant = (re.match(r"(?:the answer is:? )?(yes|no)\b", t) for t in (text, reference))
    if said and meant:
        return said[1] != meant[1]
    return bool(meant) and meant[1] == "yes" and contains(text, "no|not|never")
