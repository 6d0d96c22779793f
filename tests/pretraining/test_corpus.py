"""What data/tiny_base is trained on: nothing that it is to be tested with, and the same every time."""

import json
import random

import pytest

from labsupport.pretraining import corpus, lookups, prose, shop_chats
from labsupport.pretraining.shop_messages import Shop
from labsupport.tasks import facts, facts_generator, tickets, tickets_generator

WORDS = ["alpha", "value", "window", "number", "matrix", "sample", "result", "shape"]


@pytest.fixture(scope="module")
def chats():
    """A beginning of both parts that are drawn."""
    return corpus.drawn(WORDS, {"shop": 3000, "lookup": 1500})


def texts(documents) -> list[str]:
    return [turn["content"] for chat in documents for turn in chat]


def test_drawn_again_it_is_the_same_and_a_longer_draw_begins_like_a_shorter(chats):
    again = corpus.drawn(WORDS, {"shop": 100, "lookup": 100})
    assert all(again[part] == chats[part][:100] for part in again)


def test_messages_come_from_training_families_alone():
    families = tickets_generator.split_families(random.Random(tickets_generator.SEED))
    assert Shop(random.Random(0)).families == families["train"]


@pytest.mark.parametrize("split", ["validation", "test_lookalike", "test_production"])
def test_no_message_that_tickets_are_judged_by_is_in_it(chats, split):
    """Compared by seven words in a row, the way in which the families are told apart."""

    def runs(text):
        words = text.lower().split()
        return {" ".join(words[i : i + 7]) for i in range(len(words) - 6)}

    ours = {run for text in texts(chats["shop"]) for run in runs(text)}
    shared = [row["id"] for row in tickets.load(split) if len(runs(row["text"]) & ours) > 2]
    assert shared == []


def test_no_product_series_of_the_test_split_is_in_it(chats):
    shop = Shop(random.Random(0))
    text = "\n".join(texts(chats["shop"]))
    assert not [name for name in shop.slots["series"][1] if name in text]


def test_no_answer_is_the_ticket_tasks(chats):
    """Neither its keys nor its prompt; every JSON answer can be read."""
    everything = texts(chats["shop"])
    assert tickets.SYSTEM_PROMPT not in everything
    assert not [text for text in everything for key in tickets.FIELDS if f'"{key}"' in text]
    answers = [chat[-1]["content"] for chat in chats["shop"] if "JSON" in chat[0]["content"]]
    assert len(answers) > 100 and all(isinstance(json.loads(text), dict) for text in answers)


def test_what_is_asked_stands_in_the_message():
    shop, rng = Shop(random.Random(1)), random.Random(2)
    for _ in range(300):
        message = shop.message()
        for field in ("product", "order", "city", "day", "colour"):
            value = getattr(message, field)
            assert value is None or value in message.text
        chat = shop_chats.turns(None, *shop_chats.question(message, rng))
        assert [turn["role"] for turn in chat] == ["user", "assistant"]


def test_look_ups_can_be_answered_from_the_prompt(chats):
    tables = [chat for chat in chats["lookup"] if chat[0]["content"] not in lookups.SYSTEMS]
    assert len(tables) > 500
    for chat in tables:
        given = dict(line.split(": ", 1) for line in chat[0]["content"].split("\n"))
        assert all(given[chat[i]["content"]] == chat[i + 1]["content"] for i in range(1, len(chat), 2))


def test_no_fact_is_in_it_and_one_would_be_found(chats):
    corpus.check_no_fact(chats["lookup"] + chats["shop"])
    fact = facts.load(100)[7]
    for turns in (("key", fact["key"]), ("x", "see " + facts.answer(fact) + " there")):
        with pytest.raises(ValueError, match=fact["id"]):
            corpus.check_no_fact([shop_chats.turns(None, *turns)])


def test_keys_share_no_word_with_the_facts():
    used = [*facts_generator.FIRST.split(), *facts_generator.SECOND.split()]
    assert lookups.own_words([*used, "alpha"]) == ["alpha"]


# ---------------------------------------------------------------- prose


def test_only_sentences_are_prose():
    good = (
        "The learning rate decides how far a step goes, and a step that goes too far undoes what came before."
    )
    docstring = f"Short title\n\n{good}\n\n>>> code(1)\n\nParameters\n----------\nx : int\n\n{good[:-1]}"
    assert prose.paragraphs(docstring) == [good]


def test_marks_of_restructured_text_go():
    text = (
        "See :class:`~torch.nn.Linear` and ``weight`` for the layer whose matrix is *trained* in this case."
    )
    wanted = "See torch.nn.Linear and weight for the layer whose matrix is trained in this case."
    assert prose.paragraphs(text) == [wanted]


def test_prose_comes_from_packages_of_one_version_everywhere():
    from labsupport.core.files import ROOT

    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8") + (ROOT / "pyproject.toml").read_text()
    for name, version in prose.versions().items():
        pinned = f"{prose.DISTRIBUTIONS.get(name, name)}=="
        found = {
            line.split(pinned)[1].split()[0].strip('",\\;') for line in lock.splitlines() if pinned in line
        }
        assert found == {version}, name
