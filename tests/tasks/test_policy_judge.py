"""Replies written by hand, right and wrong, beside what the judge must say of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.tasks.policy_judge import contains, judge, normalise

POLICY = (
    "Unused goods can be returned within 30 days; refunds then take two to four working days. Worn boots are "
    "not taken back. Postage is £4.95, above £60 it is free. The shop opens at 9 a.m. and is shut on Sundays."
)


def row(question, answer, must=(), must_not=()):
    return {
        "policy": POLICY,
        "question": question,
        "answer": answer,
        "answerable": bool(must),
        "must_contain": list(must),
        "must_not_contain": list(must_not),
    }


ROWS = {
    "return": row(
        "How long can I return a tent?",
        "You can return it within 30 days.",
        ["30 day*", "return*|send*|sent|bring*"],
        ["refund*"],
    ),
    "worn": row(
        "I wore the boots twice. Will you take them back?",
        "No, worn boots are not taken back.",
        ["no|not|never", "worn|wore|boots"],
    ),
    "postage": row("My order is £20. What is the postage?", "Postage is £4.95.", ["£4.95"], ["free", "£60"]),
    "free": row("Do I pay postage on £75?", "No, above £60 it is free.", ["free|nothing|no postage"]),
    "refund": row("How long do refunds take?", "Two to four working days.", ["2-4", "day*"], ["30"]),
    "open": row("When do you open?", "The shop opens at 9 a.m.", ["9am"]),
    "sunday": row("Open on Saturdays, too?", "Yes, it is shut on Sundays only.", ["sunday*"]),
    "silent": row("Which courier do you use for orders of 3 kg?", "I can't answer that from the policy."),
}
RIGHT, WRONG, REFUSED, INVENTED, BOTH = "right", "wrong", "refused", "invented", "refused and invented"
RIGHTLY_REFUSED = "right refusal"

REPLIES = [
    # the same fact in other words
    ("return", "You can return it within 30 days.", RIGHT),
    ("return", "Within thirty days you may send it back.", RIGHT),
    ("return", "There is a 30-day window for returns.", RIGHT),
    ("return", "RETURNS ARE ACCEPTED FOR 30 DAYS!", RIGHT),
    ("return", "Returned goods: 30 days", RIGHT),
    ("worn", "No. Boots that were worn can’t come back.", RIGHT),
    ("worn", "Sorry, we don't take worn boots back.", RIGHT),
    ("postage", "It costs 4.95 pounds.", RIGHT),
    ("postage", "£ 4.95", RIGHT),
    ("free", "You pay nothing: orders above £60 are free.", RIGHT),
    ("refund", "Refunds take 2–4 working days.", RIGHT),
    ("refund", "between two and four days", RIGHT),
    ("open", "At 9:00 am.", RIGHT),
    ("open", "We open at nine a.m. every day but Sunday.", RIGHT),
    ("sunday", "Yes, we are only closed on Sundays.", RIGHT),
    # the right number in a wrong sentence, or alone
    ("return", "Your refund arrives within 30 days of the return.", WRONG),
    ("return", "30 days.", WRONG),
    ("postage", "Postage is free, since £4.95 is below £60.", WRONG),
    ("refund", "Refunds take 2-4 days, at most 30.", WRONG),
    # a wrong number, or one beside the right one
    ("return", "You can return it within 60 days.", INVENTED),
    ("return", "You can return it within 30 or 45 days.", INVENTED),
    ("return", "You can return it within 300 days.", INVENTED),
    ("postage", "Postage is £4.", INVENTED),
    ("postage", "Postage is £14.95.", INVENTED),
    ("postage", "Postage is £4.955.", INVENTED),
    ("open", "The shop opens at 9:30 a.m.", INVENTED),
    ("open", "The shop opens at 9 p.m.", WRONG),
    ("open", "At 9 a.m., on Tuesdays later.", INVENTED),
    ("return", "Return it within 30 days to returns@ridgeline.example.", INVENTED),
    # yes for no
    ("worn", "Yes, worn boots are taken back.", WRONG),
    ("worn", "Yes, you can't wear them out.", WRONG),
    ("worn", "The answer is yes: boots worn twice are not worn out.", WRONG),
    ("worn", "Worn boots are taken back.", WRONG),
    ("free", "Yes, above £60 it is free.", WRONG),
    ("sunday", "No, it is shut on Sundays.", WRONG),
    ("sunday", "The shop is not open before Sunday.", WRONG),
    ("sunday", "Yes, it does not close before Sunday.", RIGHT),
    ("sunday", "It is shut on Sundays only.", RIGHT),
    # not an answer
    ("return", "", WRONG),
    ("return", POLICY, WRONG),
    ("return", "Return " + "it " * 40 + "within 30 days.", WRONG),
    ("worn", "Boots are a kind of shoe.", WRONG),
    ("sunday", "Open on Saturdays, too?", WRONG),
    ("return", "How long can I return a tent? 30 days.", WRONG),
    ("return", "How long can I return a tent? You can return it for 30 days.", RIGHT),
    # refusing what could be answered, also beside the answer
    ("return", "I can't answer that from the policy.", REFUSED),
    ("return", "I can't answer that from the policy. You can return it within 30 days.", REFUSED),
    ("return", "You can return it within 30 days, but the policy doesn't say how.", REFUSED),
    ("postage", "The policy does not mention postage.", REFUSED),
    # refusing what cannot be answered, in the course's words and in others
    ("silent", "I can't answer that from the policy.", RIGHTLY_REFUSED),
    ("silent", "i cannot answer that from the policy", RIGHTLY_REFUSED),
    ("silent", "Sorry, the policy doesn't mention the courier.", RIGHTLY_REFUSED),
    ("silent", "Which courier do you use for orders of 3 kg? I can't answer that.", RIGHTLY_REFUSED),
    (
        "silent",
        "Unfortunately that is not stated in the policy. Please contact our support team.",
        RIGHTLY_REFUSED,
    ),
    ("silent", "I’m unable to tell from this text, I'm afraid.", RIGHTLY_REFUSED),
    ("silent", "There is no information about couriers in the policy.", RIGHTLY_REFUSED),
    ("silent", "We don't know which courier takes 3 kg.", RIGHTLY_REFUSED),
    # answering it all the same
    ("silent", "Royal Mail.", INVENTED),
    ("silent", "The shop is shut on Sundays.", INVENTED),
    ("silent", "No, we do not use a courier.", INVENTED),
    ("silent", "I can't answer that from the policy. It is probably Royal Mail.", BOTH),
    ("silent", "The policy doesn't say, but it's usually Royal Mail.", BOTH),
    ("silent", "I can't answer that from the policy, it takes some days.", BOTH),
    ("silent", "The policy does not say which courier comes within 2 days.", BOTH),
    ("silent", "Sorry, please contact us.", WRONG),
    ("silent", "", WRONG),
]
VERDICTS = {  # right, refused, invented
    RIGHT: (True, False, False),
    WRONG: (False, False, False),
    REFUSED: (False, True, False),
    INVENTED: (False, False, True),
    BOTH: (False, True, True),
    RIGHTLY_REFUSED: (True, True, False),
}


@pytest.mark.parametrize(("name", "reply", "verdict"), REPLIES)
def test_reply(name, reply, verdict):
    assert judge(ROWS[name], reply) == dict(
        zip(("right", "refused", "invented"), VERDICTS[verdict], strict=True)
    )


def test_a_known_weakness_is_as_the_docstring_says():
    """Facts are checked, grammar is not."""
    assert judge(ROWS["return"], "30 days return tent not within moon")["right"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Can’t, won't, doesn't, I'm", "can not, will not, does not, i am"),
        ("twenty-four hours; forty eight; a hundred", "24 hours; 48; 100"),
        ("£1,250.00 and 5 pounds and £ 3", "£1250 and £5 and £3"),
        ("9 a.m. to 6:00 pm", "9am to 6pm"),
        ("three to five days, 3–5 days, between 3 and 5 days", "3-5 days, 3-5 days, 3-5 days"),
        ("10 per cent, 12 %", "10%, 12%"),
        ("a 30-day wait, 2kg, 60 centimetres", "a 30 day wait, 2 kg, 60 cm"),
        ("One  more\nday", "one more day"),
    ],
)
def test_one_spelling_for_several(text, normal):
    assert normalise(text) == normal


@given(st.text(alphabet="aon't0123456789 ,.-£%:pm twoive", max_size=40))
def test_a_verdict_needs_no_particular_text(text):
    """Whatever a model writes is judged, and nothing is both right and invented."""
    for data in ROWS.values():
        verdict = judge(data, text)
        assert not (verdict["right"] and verdict["invented"])
        assert verdict["refused"] or data["answerable"] or not verdict["right"]


@pytest.mark.parametrize(
    ("text", "entry", "there"),
    [
        ("within 30 days", "30 day*", True),
        ("within 30 days", "30 day", False),
        ("within 130 days", "30 day*", False),
        ("not £30.50", "£30", False),
        ("at 30.", "30", True),
        ("nothing", "no|not", False),
        ("do not", "no|not", True),
        ("from 9am-6pm", "6pm", True),
    ],
)
def test_entries_match_whole_words_and_numbers(text, entry, there):
    assert contains(text, entry) is there
