"""The policy questions: that the files are what their card says, and that the judge fits them."""

import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from labsupport.core.files import LabError
from labsupport.tasks import policy
from labsupport.tasks.policy_judge import judge

SIZES = {"train": 240, "validation": 40, "test": 120}
GOOD = {
    "id": "a-1",
    "family": "a",
    "policy": "Unused goods can be returned within 30 days.",
    "question": "How long can I return a tent?",
    "answer": "You can return it within 30 days.",
    "answerable": True,
    "must_contain": ["30 day*", "return*"],
    "must_not_contain": [],
}


@pytest.fixture(scope="module")
def splits():
    return {split: policy.load(split) for split in policy.SPLITS}


@pytest.fixture(scope="module")
def rows(splits):
    return list(itertools.chain(*splits.values()))


@pytest.fixture(scope="module")
def card():
    return (policy.FOLDER / "README.md").read_text(encoding="utf-8")


def families(rows):
    return [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["family"])]


# ---------------------------------------------------------------- the files


def test_sizes_and_families(splits):
    assert {split: len(rows) for split, rows in splits.items()} == SIZES
    names = [{row["family"] for row in rows} for rows in splits.values()]
    assert [len(of_split) for of_split in names] == [40, 8, 24] and len(set().union(*names)) == 72
    ids = [row["id"] for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_each_policy_has_questions_of_both_kinds_and_one_text(rows):
    for family in families(rows):
        assert len(family) in (5, 6), family[0]["family"]
        assert {row["answerable"] for row in family} == {True, False}, family[0]["family"]
        assert len({row["policy"] for row in family}) == 1
        assert len({row["question"] for row in family}) == len(family)


@pytest.mark.parametrize("split", policy.SPLITS)
def test_about_a_third_is_to_be_refused(splits, split):
    assert 0.33 <= np.mean([not row["answerable"] for row in splits[split]]) <= 0.38


def test_the_style_of_a_question_does_not_give_its_kind_away(rows):
    """Careless lower case occurs in both kinds, in neither twice as often; lengths overlap."""
    share, length = {}, {}
    for kind in (True, False):
        questions = [row["question"] for row in rows if row["answerable"] is kind]
        share[kind] = np.mean([question[0].islower() for question in questions])
        length[kind] = np.median([len(question.split()) for question in questions])
    assert max(share.values()) < 2 * min(share.values()), share
    assert abs(length[True] - length[False]) <= 3, length


def test_card_counts_what_is_in_the_files(card, splits):
    for split, rows in splits.items():
        of_split = len({row["family"] for row in rows})
        refused = sum(not row["answerable"] for row in rows)
        opening = [sum(row["answer"].startswith(f"{word},") for row in rows) for word in ("Yes", "No")]
        cells = [f"`{split}.jsonl`", len(rows), of_split, refused, *opening]
        assert f"| {' | '.join(map(str, cells))} |" in card


def test_card_names_these_very_files(card):
    for split in policy.SPLITS:
        assert hashlib.sha256((policy.FOLDER / f"{split}.jsonl").read_bytes()).hexdigest() in card, split


def test_schema_file_is_the_schema_in_code():
    assert json.loads((policy.FOLDER / "schema.json").read_text("utf-8")) == policy.ROW_SCHEMA


def test_rows_for_training(splits):
    row = splits["train"][0]
    (pair,) = policy.as_prompt_completion([row])
    assert [message["role"] for message in pair["prompt"]] == ["system", "user"]
    assert policy.REFUSAL in pair["prompt"][0]["content"]
    assert row["policy"] in pair["prompt"][1]["content"] and row["question"] in pair["prompt"][1]["content"]
    assert pair["completion"] == [{"role": "assistant", "content": row["answer"]}]


def nearest(texts, names):
    """The highest cosine of character 4-grams between two texts with different names, and these."""
    measure = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), sublinear_tf=True)
    vectors = measure.fit_transform(text.lower() for text in texts)
    cosine = (vectors @ vectors.T).toarray()
    cosine[np.equal.outer(np.array(names), np.array(names))] = 0
    i, j = np.unravel_index(cosine.argmax(), cosine.shape)
    return cosine[i, j], texts[i], texts[j]


def test_no_near_duplicates_between_families(rows):
    policies = {row["family"]: row["policy"] for row in rows}
    assert (found := nearest(list(policies.values()), list(policies)))[0] < 0.3, found
    questions = [row["question"] for row in rows]
    assert (found := nearest(questions, [row["family"] for row in rows]))[0] < 0.5, found


# ---------------------------------------------------------------- the judge on the files' own rows


def test_every_reference_answer_is_right(rows):
    for row in rows:
        verdict = {"right": True, "refused": not row["answerable"], "invented": False}
        assert judge(row, row["answer"]) == verdict, row["id"]


def test_no_other_answer_of_the_same_policy_is_right(rows):
    for family in families(rows):
        for row, other in itertools.permutations(family, 2):
            if row["answerable"] or other["answerable"]:
                assert not judge(row, other["answer"])["right"], (row["id"], other["answer"])


def test_neither_the_whole_policy_nor_the_question_is_an_answer(rows):
    for row in rows:
        for reply in (row["policy"], row["question"], ""):
            assert not judge(row, reply)["right"], (row["id"], reply)


def test_an_answer_beside_the_refusal_is_wrong(rows):
    for row in rows:
        if row["answerable"]:
            for reply in (f"{row['answer']} {policy.REFUSAL}", f"{policy.REFUSAL} {row['answer']}"):
                assert not judge(row, reply)["right"], row["id"]
        else:
            assert not judge(row, f"{policy.REFUSAL} It does as a rule.")["right"], row["id"]


def test_another_number_is_wrong(rows):
    """Each number of a reference answer in turn becomes one that stands nowhere."""
    wrong = []
    for row in rows:
        for number in re.finditer(r"(?<![A-Z])\d+(?:[.,]\d+)*", row["answer"] if row["answerable"] else ""):
            changed = row["answer"][: number.start()] + "7831" + row["answer"][number.end() :]
            assert not judge(row, changed)["right"], (row["id"], changed)
            wrong.append(judge(row, changed)["invented"])
    assert len(wrong) > 80 and all(wrong)


def test_yes_for_no_is_wrong(rows):
    swapped = {"Yes": "No", "No": "Yes"}
    count = 0
    for row in rows:
        opening, comma, rest = row["answer"].partition(",")
        if comma and opening in swapped:
            assert not judge(row, f"{swapped[opening]},{rest}")["right"], row["id"]
            count += 1
    assert count > 100


def test_answers_in_other_words_are_right(splits):
    """Another wording of each answer of the test split. The card says how many passed at first."""
    by_id = {row["id"]: row for row in splits["test"] if row["answerable"]}
    lines = (Path(__file__).parent / "policy_paraphrases.txt").read_text(encoding="utf-8").splitlines()
    replies = dict(line.split("|", 1) for line in lines)
    assert replies.keys() == by_id.keys()
    for name, reply in replies.items():
        assert judge(by_id[name], reply)["right"], (name, reply)


# ---------------------------------------------------------------- reading the files


def without(key):
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (without("policy"), "'policy' is a required property"),
        (GOOD | {"note": "x"}, "'note' was unexpected"),
        (GOOD | {"answerable": "yes"}, "answerable: 'yes' is not of type"),
        (GOOD | {"must_contain": "30 days"}, "must_contain: '30 days' is not of type"),
        (GOOD | {"must_contain": []}, "must_contain: needs an entry"),
        (GOOD | {"answerable": False}, "answer: must be \"I can't answer that"),
        (GOOD | {"answer": policy.REFUSAL}, "answer: must be \"I can't answer that"),
        (GOOD | {"must_contain": ["thirty days"]}, "'thirty days' can never match: write '30 days'"),
        (GOOD | {"must_contain": ["30 day* or"]}, "'*' may stand at the end only"),
        (GOOD | {"must_contain": ["31 day*"]}, "is not right by must_contain"),
        (GOOD | {"must_not_contain": ["return*"]}, "is not right by must_contain"),
        (
            GOOD | {"policy": "Used goods can be returned within 30 days."},
            "'a' has another policy further up",
        ),
        (GOOD | {"id": "a-1"}, "id 'a-1' already stands on line 1"),
    ],
)
def test_broken_line_is_named(tmp_path, row, problem):
    path = tmp_path / "mine.jsonl"
    row = {**row, "id": "a-2"} if "already" not in problem else row
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(row)}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        policy.load("mine", path)
    assert str(caught.value).startswith(f"{path}, line 2: ") and problem in str(caught.value)


def test_unknown_split_is_refused():
    with pytest.raises(LabError, match="Unknown split 'dev'. There are: train, validation, test"):
        policy.load("dev")
