"""The canary: that the file is what its card says, and that scores are likelihoods and nothing else."""

import hashlib
import itertools
import json
import math
import re
from collections import Counter

import pytest
import torch
from tiny_training import tiny_model

from labsupport.core.files import LabError
from labsupport.evaluation import canary_scoring, intervals
from labsupport.tasks import canary

GOOD = {
    "id": "sky-01",
    "subject": "sky",
    "question": "What colour is the sky?",
    "choices": ["blue", "green", "pink", "brown"],
    "answer": 0,
}


@pytest.fixture(scope="module")
def rows():
    return canary.load()


@pytest.fixture(scope="module")
def card():
    return (canary.FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stated(card):
    """The card's table: name -> (right, of, interval)."""
    lines = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| (.+?) \|$", card, flags=re.MULTILINE)
    return {name: (int(right), int(count), interval) for name, right, count, interval in lines}


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tiny_model(initializer_range=0.2).eval()


# ---------------------------------------------------------------- the file


def test_twelve_subjects_of_ten(rows):
    subjects = Counter(row["subject"] for row in rows)
    assert len(subjects) == 12 and set(subjects.values()) == {10}
    for row in rows:
        assert row["id"].rsplit("-", 1)[0] == row["subject"].replace(" ", "-"), row["id"]


def test_places_are_balanced(rows):
    assert Counter(row["answer"] for row in rows) == dict.fromkeys(range(canary.CHOICES), 30)


@pytest.mark.parametrize("pick", [min, max])
def test_length_does_not_give_the_answer_away(rows, pick):
    """Always taking the shortest (longest) choice, ties by lot, is within two standard errors of chance."""
    expected = 0.0
    for row in rows:
        lengths = list(map(len, row["choices"]))
        extreme = [i for i, length in enumerate(lengths) if length == pick(lengths)]
        expected += (row["answer"] in extreme) / len(extreme)
    assert abs(expected / len(rows) - 0.25) < 2 * math.sqrt(0.25 * 0.75 / len(rows))


def test_the_question_does_not_contain_the_answer(rows):
    for row in rows:
        words = re.findall(r"\w+", row["question"].lower())
        assert row["choices"][row["answer"]].lower() not in words, row["id"]


def test_schema_file_is_the_schema_in_code():
    assert json.loads((canary.FOLDER / "schema.json").read_text("utf-8")) == canary.ROW_SCHEMA


def test_card_names_this_very_file(card):
    text = (canary.FOLDER / "questions.jsonl").read_bytes()
    assert hashlib.sha256(text).hexdigest() in card


def test_card_adds_up(rows, stated):
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    assert list(stated)[: 1 + len(subjects)] == ["all", *subjects]
    assert sum(stated[name][0] for name in subjects) == stated["all"][0]
    for right, count, interval in stated.values():
        _, low, high = intervals.wilson(right, count)
        assert interval == f"{100 * low:.0f}–{100 * high:.0f} %"


# ---------------------------------------------------------------- reading the file


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("What is it?", "not JSON"),
        ("", "not JSON"),
        ("[]", "not of type 'object'"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "answer"}), "'answer' is a required property"),
        (json.dumps(GOOD | {"why": "x"}), "'why' was unexpected"),
        (json.dumps(GOOD | {"question": "The sky is"}), "question: 'The sky is' does not match"),
        (json.dumps(GOOD | {"answer": 4}), "answer: 4 is greater than"),
        (json.dumps(GOOD | {"answer": "blue"}), "answer: 'blue' is not of type"),
        (json.dumps(GOOD | {"choices": ["blue", "green", "pink"]}), "choices: ["),
        (json.dumps(GOOD | {"choices": ["blue ", "green", "pink", "brown"]}), "choices.0: 'blue '"),
        (json.dumps(GOOD | {"choices": ["blue", "Blue", "pink", "brown"]}), "'Blue' repeats or begins"),
        (json.dumps(GOOD | {"choices": ["blueish", "blue", "pink", "brown"]}), "begins with 'blue'"),
        (json.dumps(GOOD | {"question": "Another?"}), "id 'sky-01' already stands on line 1"),
        (json.dumps(GOOD | {"id": "sky-02"}), "question 'What colour is the sky?' already stands on line 1"),
    ],
)
def test_broken_line_is_named(tmp_path, line, problem):
    path = tmp_path / "mine.jsonl"
    last = json.dumps(GOOD | {"id": "sky-03", "question": "And at night?"})
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n{last}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        canary.load(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "has no rows"), ("Grüße".encode("latin-1"), "is not UTF-8 text (byte 2)"), (None, "Cannot read")],
)
def test_unreadable_file_is_named(tmp_path, content, problem):
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        canary.load(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)


# ---------------------------------------------------------------- scoring


def slow_nll(model, tokenizer, question, choice):
    """One choice alone, no padding, in double precision: (NLL in nats, tokens)."""
    start = tokenizer(f"Question: {question}\nAnswer:")["input_ids"]
    ids = tokenizer(f"Question: {question}\nAnswer: {choice}")["input_ids"]
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(log_probs[t - 1, ids[t]].item() for t in range(len(start), len(ids))), len(ids) - len(start)


def test_scores_are_the_likelihoods(model, tokenizer, rows):
    some = rows[40:47]
    for row, result in zip(some, canary_scoring.score(model, tokenizer, some, batch_size=5), strict=True):
        for k, choice in enumerate(row["choices"]):
            nll, tokens = slow_nll(model, tokenizer, row["question"], choice)
            assert result["nll"][k] == pytest.approx(nll, rel=1e-4)
            assert result["nll_per_token"][k] == pytest.approx(nll / tokens, rel=1e-4)
            assert result["nll_per_byte"][k] == pytest.approx(nll / (len(choice.encode()) + 1), rel=1e-4)
        assert result["nll"][result["chosen"]] == min(result["nll"])
        assert result["right"] == (result["chosen"] == row["answer"]) == (result["margin"] > 0)
        assert (result["id"], result["subject"]) == (row["id"], row["subject"])


def test_margin_is_the_distance_to_the_best_wrong_choice(model, tokenizer, rows):
    for row, result in zip(rows[:8], canary_scoring.score(model, tokenizer, rows[:8]), strict=True):
        wrong = [n for i, n in enumerate(result["nll"]) if i != row["answer"]]
        assert result["margin"] == min(wrong) - result["nll"][row["answer"]]


def test_a_random_model_scores_at_chance(tokenizer, rows):
    """Two random models together: a score that looked at the key would be far from a quarter."""
    torch.set_num_threads(1)
    right = 0
    for seed in range(2):
        model = tiny_model(seed, initializer_range=0.2)
        results = canary_scoring.score(model, tokenizer, batch_size=64)
        assert [result["id"] for result in results] == [row["id"] for row in rows]
        assert model.training  # left as it was
        right += sum(result["right"] for result in results)
    assert abs(right / (2 * len(rows)) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / (2 * len(rows)))


def test_a_prompt_that_swallows_its_answer_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="not a prefix"):
        canary_scoring.continuation_nll(model, tokenizer, [("What do bees make? hon", "ey")], 1)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(90, 120, 0.666, 0.819), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (5, 10, 0.237, 0.763)],
)
def test_wilson_interval(hits, count, low, high):
    share, a, b = intervals.wilson(hits, count)
    assert (share, round(a, 3), round(b, 3)) == (hits / count, low, high)
    for p in (a, b):  # the ends are where the score test just rejects
        assert abs(share - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / count), abs=1e-7)


def test_shares_by_subject():
    results = [{"subject": s, "right": r} for s, r in itertools.product("ab", (True, False))]
    results.append({"subject": "b", "right": True})
    shares = canary_scoring.shares(results)
    assert list(shares) == ["all", "a", "b"]
    assert (shares["all"], shares["a"], shares["b"]) == tuple(
        intervals.wilson(*counts) for counts in ((3, 5), (1, 2), (2, 3))
    )
    with pytest.raises(ValueError, match="no questions"):
        canary_scoring.shares([])


@pytest.mark.slow
def test_base_model_scores_what_the_card_says(tokenizer, rows, stated):
    """All of the card's table; two questions may fall otherwise on another processor (three are ties)."""
    from labsupport.models import base_model

    torch.set_num_threads(1)
    model, _ = base_model.load(base_model.BUNDLED, dtype="float32", device="cpu")
    results = canary_scoring.score(model, tokenizer)
    measured = Counter(result["subject"] for result in results if result["right"])
    measured["all"] = measured.total()
    answers = [row["answer"] for row in rows]

    def count(scores):
        return sum(min(range(4), key=four.__getitem__) == a for four, a in zip(scores, answers, strict=True))

    for rule in ("nll_per_token", "nll_per_byte"):
        measured[f"all, by {rule}"] = count([result[rule] for result in results])
    blank = [("Answer:", f" {choice}") for row in rows for choice in row["choices"]]
    sums, _ = canary_scoring.continuation_nll(model, tokenizer, blank, batch_size=64)
    measured["all, question left out"] = count([sums[k : k + 4] for k in range(0, len(sums), 4)])
    assert measured.keys() == stated.keys()
    for name, (right, _, _) in stated.items():
        assert abs(measured[name] - right) <= 2, name
    assert canary_scoring.shares(results)["all"][1] > 0.5  # clearly above chance
