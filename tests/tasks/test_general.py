"""The general text: that it is what its card says, that no passage repeats another, and how it is encoded."""

import ast
import doctest
import hashlib
import itertools
import json
import re
from collections import Counter, defaultdict

import pytest

from labsupport.core.files import DATA, LabError
from labsupport.tasks import general

GOOD = {"id": "poem-01", "kind": "poem", "text": "The sea has gone."}
SAID = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good morning"}]
CHAT = {"id": "chat-01", "kind": "chat", "messages": SAID}
RUN = 7  # words: of the passages, no two share so many in a row


@pytest.fixture(scope="module")
def rows():
    return general.load()


@pytest.fixture(scope="module")
def card():
    return (general.FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stated(card):
    """The card's table: kind -> [passages, tokens, scored tokens, NLL per token]."""
    lines = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| (\d+) \| (\d\.\d\d) \|$", card, flags=re.MULTILINE)
    return {kind: [float(value) for value in values] for kind, *values in lines}


@pytest.fixture(scope="module")
def encoded(rows, tokenizer):
    return {row["id"]: general.encode(row, tokenizer) for row in rows}


def words(text):
    return re.findall(r"\w+", text.lower())


def runs(text):
    found = words(text)
    return {tuple(found[i : i + RUN]) for i in range(len(found) - RUN + 1)}


# ---------------------------------------------------------------- the passages


def test_counts_are_the_cards(rows, encoded, stated):
    counted = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        ids, first = encoded[row["id"]]
        for kind in (row["kind"], "all"):
            for place, amount in enumerate((1, len(ids), len(ids) - first)):
                counted[kind][place] += amount
    assert {kind: values[:3] for kind, values in stated.items()} == counted
    assert counted.keys() == {"all", *general.KINDS}
    assert counted["all"][0] == 120 and counted["all"][2] >= 20_000
    assert min(values[0] for values in counted.values()) >= 6


def test_every_passage_is_short_enough_to_be_taken_whole(encoded):
    for name, (ids, first) in encoded.items():
        assert len(ids) - first >= 80 and len(ids) <= 400, name


def test_ids_count_within_their_kind(rows):
    seen = Counter()
    for row in rows:
        seen[row["kind"]] += 1
        assert row["id"] == f"{row['kind']}-{seen[row['kind']]:02d}"


def test_no_passage_is_made_from_another(rows):
    """Words in common, over the smaller vocabulary; and no run of words in common at all."""
    sets = [(row["id"], set(words(general.content(row))), runs(general.content(row))) for row in rows]
    for (one, some, here), (other, others, there) in itertools.combinations(sets, 2):
        assert len(some & others) / min(len(some), len(others)) < 0.5, (one, other)
        assert not here & there, (one, other)


@pytest.mark.parametrize("task", ["tickets", "canary", "facts", "policy"])
def test_no_passage_quotes_the_data_of_a_task(rows, task):
    text = "\n".join(file.read_text("utf-8") for file in sorted((DATA / task).glob("*.jsonl")))
    theirs = runs(text)
    for row in rows:
        assert not runs(general.content(row)) & theirs, row["id"]


def test_python_does_what_its_docstrings_say(rows):
    """Each passage of kind "python" runs, and so do the examples in it."""
    tried = 0
    for row in rows:
        if row["kind"] == "python":
            space = {"__name__": "passage"}
            exec(compile(row["text"], row["id"], "exec"), space)
            runner = doctest.DocTestRunner()
            for node in ast.walk(ast.parse(row["text"])):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    says = ast.get_docstring(node) or ""
                    examples = doctest.DocTestParser().get_doctest(says, space, row["id"], None, 0)
                    tried += runner.run(examples, out=lambda text: None, clear_globs=False).attempted
            assert runner.failures == 0, row["id"]
    assert tried > 15


def test_schema_file_is_the_schema_in_code():
    assert json.loads((general.FOLDER / "schema.json").read_text("utf-8")) == general.ROW_SCHEMA


def test_card_names_this_very_file(card):
    assert hashlib.sha256((general.FOLDER / "passages.jsonl").read_bytes()).hexdigest() in card


# ---------------------------------------------------------------- encoding


def test_text_is_scored_from_its_second_token(tokenizer):
    ids, first = general.encode(GOOD, tokenizer)
    assert first == 1 and tokenizer.decode(ids) == GOOD["text"]


def test_chat_is_scored_from_its_first_message(tokenizer):
    ids, first = general.encode(CHAT, tokenizer)
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(SAID, tokenize=False)
    assert tokenizer.decode(ids[first:]).startswith("Hello<|im_end|>")


# ---------------------------------------------------------------- reading the file


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("The sea", "not JSON"),
        ({"id": "x", "text": "The sea"}, "'kind' is a required property"),
        (GOOD | {"kind": "song"}, "kind: 'song' is not one of"),
        (GOOD | {"text": ""}, "text: "),
        (GOOD | {"text": "The sea \n"}, "text: 'The sea' begins or ends with white space"),
        (GOOD | {"title": "Low Tide"}, "'title' was unexpected"),
        (GOOD | {"text": "Another sea"}, "id 'poem-01' already stands on line 1"),
        (GOOD | {"id": "poem-02"}, "has the same content as 'poem-01'"),
        (GOOD | {"id": "poem-02", "kind": "chat"}, "a row of kind 'chat' has 'messages', and no 'text'"),
        (CHAT | {"kind": "poem"}, "a row of kind 'poem' has 'text', and no 'messages'"),
        (CHAT | {"text": "Hello"}, "a row of kind 'chat' has 'messages', and no 'text'"),
        (CHAT | {"messages": SAID[:1]}, "messages: "),
        (CHAT | {"messages": SAID[::-1]}, "messages: must alternate"),
        (CHAT | {"messages": [*SAID, SAID[0]]}, "messages: must alternate"),
        (CHAT | {"messages": [{"role": "system", "content": "Hi"}, SAID[1]]}, "messages.0.role: 'system'"),
        (CHAT | {"messages": [SAID[0], SAID[1] | {"content": " x"}]}, "messages: 'x' begins or ends"),
    ],
)
def test_broken_passage_is_named(tmp_path, row, problem):
    path = tmp_path / "mine.jsonl"
    line = row if isinstance(row, str) else json.dumps(row)
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        general.load(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


def test_good_rows_are_returned_as_they_stand(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(CHAT)}\n", encoding="utf-8")
    assert general.load(path) == [GOOD, CHAT]


# ---------------------------------------------------------------- the base model


@pytest.mark.slow
def test_base_model_finds_the_passages_as_likely_as_the_card_says(rows, encoded, stated):
    import torch

    from labsupport.models import base_model

    torch.set_num_threads(1)
    model, _ = base_model.load(base_model.BUNDLED, dtype="float32", device="cpu")
    sums = defaultdict(lambda: [0.0, 0])
    for row in rows:
        ids, first = encoded[row["id"]]
        with torch.no_grad():
            log_probs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        nll = [-log_probs[place - 1, ids[place]].item() for place in range(first, len(ids))]
        for kind in (row["kind"], "all"):
            sums[kind][0] += sum(nll)
            sums[kind][1] += len(nll)
    measured = {kind: total / count for kind, (total, count) in sums.items()}
    assert measured == pytest.approx({kind: values[3] for kind, values in stated.items()}, abs=0.011)
