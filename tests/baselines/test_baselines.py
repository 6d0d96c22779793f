"""The baselines: rules against the labelling rules, prompts against plain scoring, grammar, record."""

import json
import math

import numpy as np
import pytest

from labsupport.baselines import comparisons, prompting, rule_based
from labsupport.core import profiles
from labsupport.core.files import LabError
from labsupport.evaluation import intervals, metrics, scoring
from labsupport.models import chat
from labsupport.tasks import tickets

# ---------------------------------------------------------------- rules

ORDERS = [
    ("Where is RL-48213?", "RL-48213"),
    ("order #rl 48213, please", "rl 48213"),
    ("rl48213 is late", "rl48213"),
    ("No 2024-RL-338 came", "2024-RL-338"),
    ("order 94538: late", "94538"),
    ("invoice 20417 and RL-77701", "RL-77701"),
    ("invoice 20417 is wrong", None),
    ("my tracking number is 12345", None),
    ("I paid €12345 for it", None),
    ("12345.50 was taken", None),
    ("it starts with 482", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), ORDERS)
def test_order_ids_follow_the_labelling_rules(text, expected):
    assert rule_based.order_id(text) == expected


def test_the_pattern_finds_nearly_every_id_of_the_training_rows_and_copies_it():
    rows = tickets.load("train")
    found = [rule_based.order_id(row["text"]) for row in rows]
    assert all(f is None or f in row["text"] for f, row in zip(found, rows, strict=True))
    assert sum(f == row["order_id"] for f, row in zip(found, rows, strict=True)) > 0.98 * len(rows)


def test_the_product_is_the_likeliest_run_above_the_threshold():
    text = "my blue Kestrel 2 tent and the rope"
    chance = np.array([0.1, 0.2, 0.9, 0.6, 0.9, 0.0, 0.1, 0.95])
    assert rule_based.product(text, chance, 0.5) == "Kestrel 2 tent"
    assert rule_based.product(text, chance, 0.92) == "rope"
    assert rule_based.product(text, chance, 0.99) is None
    assert rule_based.product("", np.array([]), 0.5) is None


@pytest.fixture(scope="module")
def rules():
    return rule_based.fit(tickets.load("train")[:400], tickets.load("validation"), strengths=(10,))


def test_the_fitted_rules_beat_the_constant_on_every_field(rules):
    rows = comparisons.one_each("test_lookalike")
    labels = rules.predict([row["text"] for row in rows])
    mine = metrics.field_rights(labels, rows)
    constant = metrics.field_rights([rule_based.majority(tickets.load("train"))] * len(rows), rows)
    for field in tickets.FIELDS:
        assert sum(r[field] for r in mine) > 1.1 * sum(r[field] for r in constant)
    assert all(tickets.parse(json.dumps(label)) for label in labels)


def test_one_text_alone_gets_the_same_label(rules):
    texts = [row["text"] for row in tickets.load("validation")[:20]]
    assert [rules.predict([text])[0] for text in texts] == rules.predict(texts)


# ---------------------------------------------------------------- prompts


def test_the_wordings_list_every_allowed_value():
    for wording in prompting.wordings().values():
        assert all(value in wording for value in (*tickets.INTENTS, *tickets.URGENCIES, *tickets.FIELDS))
    assert set(prompting.INTENT_MEANINGS) == set(tickets.INTENTS)
    assert set(prompting.URGENCY_MEANINGS) == set(tickets.URGENCIES)


def test_fixed_examples_cover_the_intents_and_are_distinct():
    train = tickets.load("train")
    for k in (4, 8, 16):
        shots = prompting.fixed_shots(train, k)
        assert len({row["id"] for row in shots}) == k
        assert len({row["intent"] for row in shots}) == min(k, 8)
    assert len({row["urgency"] for row in prompting.fixed_shots(train, 8)}) == 3


def test_retrieved_examples_are_the_nearest_the_nearest_last_one_a_family():
    train = tickets.load("train")
    (shots,) = prompting.nearest_shots(train, [train[7]["text"]], 4)
    assert shots[-1]["family"] == train[7]["family"]
    assert len({row["family"] for row in shots}) == 4


def test_a_prompt_without_examples_is_the_courses_own(tokenizer):
    from labsupport.models import chat

    row = tickets.load("validation")[0]
    (ids,) = prompting.prompts(tokenizer, "zero_shot", [], [row], wording="short", examples=0)
    assert ids == chat.prompt_ids(tokenizer, row["text"])


def test_an_answer_has_the_same_tokens_after_any_prompt(tokenizer):
    """score() appends the answer's ids to a prompt: the rendered conversation must have exactly these."""
    from labsupport.models import chat

    train, row = tickets.load("train"), tickets.load("validation")[0]
    shots = prompting.fixed_shots(train, 2)
    system = prompting.wordings()["values"]
    prompt = prompting.prompt_ids(tokenizer, system, shots, row["text"])
    messages = [{"role": "system", "content": system}]
    for shot in [*shots, row]:
        messages.append({"role": "user", "content": shot["text"]})
        messages.append({"role": "assistant", "content": tickets.answer(shot)})
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    example = chat.encode_example(tokenizer, row)
    assert prompt + example.ids[example.prompt_length :] == whole


# ---------------------------------------------------------------- one prefix, scores, replies


@pytest.fixture(scope="module")
def model():
    """A Llama of two narrow layers with the real vocabulary: fast, and its numbers are its own."""
    from tiny_training import tiny_model

    # An initializer_range of 0.02, the default, would make all tokens equally likely.
    return tiny_model(tie_word_embeddings=False, initializer_range=0.5).eval()


@pytest.fixture(scope="module")
def rows():
    return tickets.load("validation")[:5]


def test_scores_with_a_reused_prefix_equal_scores_without(model, tokenizer, rows):
    from labsupport.baselines import prompt_scoring
    from labsupport.training import prefixes

    shots = prompting.fixed_shots(tickets.load("train"), 2)
    prompts = [prompting.prompt_ids(tokenizer, "Label it.", shots, row["text"]) for row in rows]
    together = prompt_scoring.score(model, tokenizer, rows, prompts, batch_size=2)
    assert len(prefixes.shared(prompts)) > 50
    for row, prompt, expected in zip(
        rows, prompts, plain_scores(model, tokenizer, rows, prompts), strict=True
    ):
        (alone,) = prompt_scoring.score(model, tokenizer, [row], [prompt])
        assert alone["nll"] == pytest.approx(expected, rel=1e-4)
    for result, expected in zip(together, plain_scores(model, tokenizer, rows, prompts), strict=True):
        assert result["nll"] == pytest.approx(expected, rel=1e-4)


def plain_scores(model, tokenizer, rows, prompts):
    """NLL by field from one row, no cache, no padding: nothing that could hide a mistake."""
    import torch

    from labsupport.models import chat

    for row, prompt in zip(rows, prompts, strict=True):
        example = chat.encode_example(tokenizer, row)
        answer = example.ids[example.prompt_length :]
        with torch.no_grad():
            logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        taken = [-float(logs[len(prompt) + j - 1, token]) for j, token in enumerate(answer)]
        fields = scoring.field_of_tokens(example.answer, example.answer_offsets)
        by_field = {
            f: sum(t for t, name in zip(taken, fields, strict=False) if name == f) for f in tickets.FIELDS
        }
        yield {"all": sum(taken[: len(fields) + 1])} | by_field


def test_the_chance_of_each_intent_is_that_of_a_plain_pass(model, tokenizer, rows):
    import torch

    from labsupport.baselines import prompt_scoring

    shots = prompting.fixed_shots(tickets.load("train"), 2)
    prompts = [prompting.prompt_ids(tokenizer, "Label it.", shots, row["text"]) for row in rows]
    opening = tokenizer('{"intent":"')["input_ids"]
    for prompt, found in zip(
        prompts, prompt_scoring.intent_log_probs(model, tokenizer, prompts), strict=True
    ):
        assert list(found) == list(tickets.INTENTS)
        for intent, values in found.items():
            written = tokenizer('{"intent":"' + intent + '","')["input_ids"]
            assert written[: len(opening)] == opening
            with torch.no_grad():
                logs = model(torch.tensor([prompt + written])).logits[0].log_softmax(-1)
            places = range(len(opening), len(written))
            plain = [float(logs[len(prompt) + j - 1, written[j]]) for j in places]
            assert values == pytest.approx(plain, rel=1e-4)


def test_under_the_courses_prompt_it_is_evaluation_score(model, tokenizer, rows):
    from labsupport.baselines import prompt_scoring

    prompts = prompting.prompts(tokenizer, "zero_shot", [], rows, wording="short", examples=0)
    expected = scoring.score(model, tokenizer, rows)
    for mine, theirs in zip(prompt_scoring.score(model, tokenizer, rows, prompts), expected, strict=True):
        assert mine["nll"] == pytest.approx(theirs["nll"], rel=1e-4) and mine["exact"] == theirs["exact"]


def test_free_replies_with_a_reused_prefix_are_generates(model, tokenizer, rows, monkeypatch):
    from labsupport.baselines import prompt_scoring

    monkeypatch.setenv("LAB_PROFILE", "smoke")  # cuts replies short
    prompts = prompting.prompts(tokenizer, "zero_shot", [], rows, wording="short", examples=0)
    plain = [plain_reply(model, tokenizer, chat.prompt_ids(tokenizer, row["text"])) for row in rows]
    assert all(plain) and len(set(plain)) > 1
    assert prompt_scoring.generate(model, tokenizer, rows, prompts) == plain
    assert scoring.generate(model, tokenizer, rows) == plain


def plain_reply(model, tokenizer, prompt: list[int]) -> str:
    """One greedy reply by one forward pass a token, with no cache, no padding and no generate."""
    import torch

    ids = list(prompt)
    for _ in range(profiles.current().reply_tokens):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()


def test_constrained_replies_are_valid_and_copied_even_from_a_random_model(model, tokenizer, rows):
    from labsupport.baselines import prompt_scoring

    prompts = prompting.prompts(tokenizer, "zero_shot", [], rows, wording="short", examples=0)
    free = prompt_scoring.generate(model, tokenizer, rows, prompts)
    replies = prompt_scoring.generate(model, tokenizer, rows, prompts, constrained=True)
    assert not metrics.valid_json(free).any() and metrics.valid_json(replies).all()
    for reply, row in zip(replies, rows, strict=True):
        label = tickets.parse(reply)
        assert all(label[f] is None or label[f] in row["text"] for f in ("product", "order_id"))


def test_what_the_grammar_forbids_cannot_win_and_what_it_admits_can(allowed, tokenizer):
    import torch

    from labsupport.baselines import grammar

    text = "my tent is torn"
    row = {"intent": "defect", "product": "tent", "order_id": None, "urgency": "low"}
    answer = torch.tensor(tokenizer(tickets.answer(row))["input_ids"])
    logits = torch.zeros(len(answer), 49152)
    logits[range(len(answer)), answer] = 5.0
    logits[:, tokenizer("zebra")["input_ids"][0]] = 9.0  # the free choice everywhere, admitted nowhere
    first = grammar.admit(allowed, text, logits, answer).argmax(-1)
    assert (first == answer).all() and not (logits.argmax(-1) == answer).any()
    place = answer.tolist().index(tokenizer("def")["input_ids"][0])
    logits[place, tokenizer("return")["input_ids"][0]] = 7.0  # another intent
    first = grammar.admit(allowed, text, logits, answer).argmax(-1)
    assert [j for j in range(len(answer)) if first[j] != answer[j]] == [place]
    unreachable = torch.tensor(tokenizer(tickets.answer(row | {"product": "boots"}))["input_ids"])
    first = grammar.admit(allowed, text, logits, unreachable).argmax(-1)
    assert first[-1] != unreachable[-1]


def test_constrained_scores_come_beside_the_free_ones(model, tokenizer, rows):
    from labsupport.baselines import prompt_scoring

    prompts = prompting.prompts(tokenizer, "zero_shot", [], rows[:2], wording="short", examples=0)
    for result in prompt_scoring.score(model, tokenizer, rows[:2], prompts, constrained=True):
        assert not result["exact"]  # freely, a random model does not even write a bracket
        assert set(result["constrained"]["right"]) == set(tickets.FIELDS)


def test_what_is_right_freely_is_right_under_the_grammar(model, tokenizer, rows, monkeypatch):
    import torch

    from labsupport.baselines import prompt_scoring

    def sure(model, tokenizer, examples, batch_size):
        for i, example in enumerate(examples):
            targets = torch.tensor(example.targets)
            yield i, 20.0 * torch.nn.functional.one_hot(targets, model.config.vocab_size)

    monkeypatch.setattr(prompt_scoring.prefixes, "logits_of_answers", sure)
    prompts = prompting.prompts(tokenizer, "zero_shot", [], rows, wording="short", examples=0)
    for result in prompt_scoring.score(model, tokenizer, rows, prompts, constrained=True):
        assert result["exact"] and all(result["right"].values())
        assert result["constrained"]["exact"] and all(result["constrained"]["right"].values())


# ---------------------------------------------------------------- grammar


@pytest.fixture(scope="module")
def allowed(model, tokenizer):
    from labsupport.baselines import grammar

    return grammar.for_tokenizer(model, tokenizer)


def admitted(allowed, tokenizer, text, answer):
    from labsupport.baselines import grammar

    ids = tokenizer(answer)["input_ids"]
    return grammar.matcher_for(allowed, text).validate_tokens(ids) == len(ids)


def test_every_right_answer_of_validation_is_admitted(allowed, tokenizer):
    rows = tickets.load("validation")[:100]
    assert all(admitted(allowed, tokenizer, row["text"], tickets.answer(row)) for row in rows)


@pytest.mark.parametrize(
    "change",
    [
        {"intent": "complaint"},
        {"urgency": "urgent"},
        {"product": "zebra"},  # not in the message
        {"product": "ten"},  # part of a word
        {"product": ""},
        {"order_id": "RL-99999"},
    ],
)
def test_other_answers_are_not_admitted(change, allowed, tokenizer):
    text = "my tent is torn, order RL-48213"
    right = {"intent": "defect", "product": "tent", "order_id": "RL-48213", "urgency": "normal"}
    assert admitted(allowed, tokenizer, text, tickets.answer(right))
    assert not admitted(allowed, tokenizer, text, tickets.answer(right | change))


@pytest.mark.parametrize("value", ['"Siesta Duo"', "café", "a\\b", "two\nlines"])
def test_quotes_backslashes_and_newlines_can_be_copied(value, allowed, tokenizer):
    row = {"intent": "return", "product": value, "order_id": None, "urgency": "low"}
    assert admitted(allowed, tokenizer, f"the {value} please", tickets.answer(row))


def test_a_very_long_copy_is_not_admitted(allowed, tokenizer):
    text = "word " * 30
    row = {"intent": "return", "product": text.strip(), "order_id": None, "urgency": "low"}
    assert not admitted(allowed, tokenizer, text, tickets.answer(row))


# ---------------------------------------------------------------- errors, and the record


def test_the_clustered_error_is_the_plain_one_for_single_rows_and_larger_for_sisters():
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    plain = math.sqrt(0.25 / 8)
    assert intervals.clustered_error(values, list("abcdefgh")) == pytest.approx(plain)
    sisters = intervals.clustered_error([1, 1, 1, 1, 0, 0, 0, 0], list("aabbccdd"))
    assert sisters == pytest.approx(plain * math.sqrt(2))


def test_the_clustered_error_agrees_with_the_bootstrap():
    rows = tickets.load("test_lookalike")
    values = [float(row["urgency"] == "high") for row in rows]
    families = [row["family"] for row in rows]
    _, low, high = intervals.interval(values, families)
    assert 1.96 * intervals.clustered_error(values, families) == pytest.approx((high - low) / 2, rel=0.15)


def fake_record():
    rows = {split: comparisons.one_each(split) for split in comparisons.SETS}
    cells = []
    for name, good in (("rules", 3), ("few_shot", 9)):
        metrics = {
            split: [
                {
                    "id": row["id"],
                    "right_exact": i % good == 0,
                    "right": "1111" if i % good == 0 else "0010",
                    "constrained_exact": i % 4 == 0,
                    "constrained": "1111" if i % 4 == 0 else "1000",
                }
                for i, row in enumerate(rows[split])
            ]
            for split in comparisons.SETS
        }
        cells.append({"cell": {"baseline": name}, "metrics": metrics})
    return {"cells": cells}


def test_methods_intervals_and_paired_differences_come_out_of_a_record():
    found = comparisons.methods(fake_record())
    assert list(found) == ["rules", "few_shot", "few_shot + constrained"]
    split = "test_production"
    rules, prompt = found["rules"][split], found["few_shot"][split]
    mean, low, high = comparisons.interval(rules, split)
    assert mean == pytest.approx(67 / 200) and low < mean < high
    assert comparisons.interval(rules, split, "order_id")[0] == 1
    mean, low, high = comparisons.paired(rules, prompt, split)
    assert mean == pytest.approx((67 - 23) / 200) and low > 0
    assert comparisons.paired(rules, rules, split) == (0, 0, 0)
    assert 0.05 < comparisons.detectable(rules, prompt, split) < 0.15
    assert (
        comparisons.best(fake_record(), ["few_shot", "few_shot + constrained"], split)
        == "few_shot + constrained"
    )


def test_only_common_rows_are_paired():
    results = comparisons.results(fake_record(), "rules", "test_production")
    half = dict(list(results.items())[:100])
    assert comparisons.paired(results, half, "test_production") == (0, 0, 0)
    with pytest.raises(LabError, match="no row in common"):
        comparisons.paired(results, {"production-999": {"exact": True}}, "test_production")


def test_what_a_record_lacks_is_named():
    for baseline, split, constrained in (
        ("magic", "test_production", False),
        ("rules", "train", False),
        ("rules", "test_production", True),
    ):
        with pytest.raises(
            LabError, match="Baselines: rules, few_shot; sets: test_lookalike, test_production"
        ):
            comparisons.results(fake_record(), baseline, split, constrained)


def test_flags_follow_the_order_of_the_fields():
    assert comparisons.flags({"urgency": False, "intent": True, "order_id": True, "product": False}) == "1010"
