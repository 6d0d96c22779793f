"""The ticket data: that it is what its card says, and that broken files are named line by line."""

import hashlib
import itertools
import json
import random
import re
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer

from labsupport.core.files import DATA, LabError
from labsupport.tasks import tickets
from labsupport.tasks import tickets_generator as generator

GENERATED = tuple(generator.FAMILIES)
GOOD = {
    "id": "a-1",
    "family": "a",
    "text": "Where is my Kestrel 2 tent? Order RL-48213.",
    "intent": "delivery",
    "product": "Kestrel 2 tent",
    "order_id": "RL-48213",
    "urgency": "normal",
}


@pytest.fixture(scope="module")
def splits():
    return {split: tickets.load(split) for split in tickets.SPLITS}


@pytest.fixture(scope="module")
def passes():
    lines = (tickets.FOLDER / "labelling_passes.jsonl").read_text(encoding="utf-8").splitlines()
    return {row.pop("id"): row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def card():
    return (tickets.FOLDER / "README.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the files


def test_committed_files_are_what_the_generator_writes(tmp_path, monkeypatch):
    shutil.copy(tickets.FOLDER / "slots.yaml", tmp_path)
    committed = {s: (tickets.FOLDER / f"{s}.jsonl").read_text("utf-8") for s in GENERATED}
    monkeypatch.setattr(tickets, "FOLDER", tmp_path)
    generator.write()
    for split in GENERATED:
        assert (tmp_path / f"{split}.jsonl").read_text("utf-8") == committed[split], split


def test_sizes_and_families(splits):
    sizes = {split: len(rows) for split, rows in splits.items()}
    assert sizes == generator.ROWS | {"test_production": 200}
    families = {split: {row["family"] for row in rows} for split, rows in splits.items()}
    for a, b in itertools.combinations(families, 2):
        assert not families[a] & families[b], (a, b)
    ids = [row["id"] for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_lookalike_has_many_small_families(splits):
    rows = splits["test_lookalike"]
    assert max(Counter(row["family"] for row in rows).values()) <= 5
    by_intent = Counter(intent for intent, _ in {(row["intent"], row["family"]) for row in rows})
    assert set(by_intent) == set(tickets.INTENTS)
    assert min(by_intent.values()) >= 15
    assert sum(by_intent.values()) >= 120


def test_one_of_each_family_is_the_one_that_the_published_records_hold(splits):
    record = json.loads((DATA / "experiments" / "baselines.json").read_text("utf-8"))
    for split in ("test_lookalike", "test_production"):
        recorded = [row["id"] for row in record["cells"][0]["metrics"][split]]
        chosen = tickets.one_of_each_family(splits[split])
        assert [row["id"] for row in chosen] == recorded
        assert {row["family"] for row in chosen} == {row["family"] for row in splits[split]}
    assert tickets.one_of_each_family([]) == []


def test_first_512_training_rows_are_512_families(splits):
    assert len({row["family"] for row in splits["train"][:512]}) == 512


def test_labels_stand_in_the_text(splits):
    for row in itertools.chain(*splits.values()):
        for field in ("product", "order_id"):
            assert row[field] is None or row[field] in row["text"], row["id"]
        assert not (row["order_id"] or "").startswith("#"), row["id"]


def test_test_series_are_in_no_other_split(splits):
    series = yaml.safe_load((tickets.FOLDER / "slots.yaml").read_text("utf-8"))["series"]
    named = {split: " ".join(row["product"] or "" for row in rows).lower() for split, rows in splits.items()}
    for split, own, other in [
        ("train", *series),
        ("validation", *series),
        ("test_lookalike", *series[::-1]),
    ]:
        assert any(name.lower() in named[split] for name in own), split
        assert not [name for name in other if name.lower() in named[split]], split


def test_production_labels_are_the_majority_of_the_passes(splits, passes):
    rows = splits["test_production"]
    assert [row["id"] for row in rows] == list(passes)
    ties = []
    for row, field in itertools.product(rows, tickets.FIELDS):
        given = [labels[field] for labels in passes[row["id"]].values()]
        label, votes = Counter(given).most_common(1)[0]
        if votes == 1:
            ties.append((row["id"], field))
            label = row[field] if row[field] in given else "none of the three"
        assert row[field] == label, (row["id"], field)
    assert ties == [("production-197", "product")]


def test_schema_file_is_the_schema_in_code():
    assert json.loads((tickets.FOLDER / "schema.json").read_text("utf-8")) == tickets.ROW_SCHEMA


# ---------------------------------------------------------------- the card


def tables(markdown: str) -> list[list[list[str]]]:
    """The tables of a markdown text as lists of rows of cells, header first, rule left out."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE)
    cells = [[[c.strip() for c in r[1:-1].split("|")] for r in b.splitlines()] for b in blocks]
    return [[table[0], *table[2:]] for table in cells]


def by_header(card: str, corner: str) -> dict[str, dict[str, str]]:
    """The card's one table with this top left cell: row name -> column name -> cell."""
    (table,) = [table for table in tables(card) if table[0][0] == corner]
    return {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[1:]}


def summary(rows: list[dict]) -> dict[str, str]:
    """One column of the card's table of contents."""

    def count(field, value):
        return sum(row[field] == value for row in rows)

    def share_without(field):
        return f"{100 * count(field, None) / len(rows):.1f} %"

    return {
        "families": str(len({row["family"] for row in rows})),
        **{f"intent {value}": str(count("intent", value)) for value in tickets.INTENTS},
        **{f"urgency {value}": str(count("urgency", value)) for value in tickets.URGENCIES},
        "without product": share_without("product"),
        "without order id": share_without("order_id"),
    }


def test_card_counts_what_is_in_the_files(card, splits):
    stated = by_header(card, "")
    for split, rows in splits.items():
        assert {name: cells[split] for name, cells in stated.items()} == summary(rows), split
    sizes = by_header(card, "file")
    for split, rows in splits.items():
        assert sizes[f"`{split}.jsonl`"]["rows"] == str(len(rows))
    families = sum(len(generator.read_families(intent)) for intent in tickets.INTENTS)
    assert sizes["`families/*.yaml`, `slots.yaml`"]["rows"] == f"{families} families"


def test_card_states_the_agreement_of_the_passes(card, passes):
    agreement = {}
    for a, b in itertools.combinations((1, 2, 3), 2):
        pairs = [(labels[f"pass_{a}"], labels[f"pass_{b}"]) for labels in passes.values()]
        agreement[f"{a} and {b}"] = {"all four": str(sum(x == y for x, y in pairs))} | {
            field: str(sum(x[field] == y[field] for x, y in pairs)) for field in tickets.FIELDS
        }
    assert by_header(card, "passes") == agreement


def test_production_file_is_the_frozen_one(card):
    text = (tickets.FOLDER / "test_production.jsonl").read_text("utf-8")
    assert hashlib.sha256(text.encode()).hexdigest() in card


# ---------------------------------------------------------------- near-duplicates between splits

# A near-duplicate is the same message with details exchanged. The limit was fixed before any two
# splits were compared: 95 % of the pairs of rows that do come from one family reach it, although
# such pairs differ in slots, urgency phrase, optional parts and typos.
LIMIT = 0.5

# Families of different splits with rows over the limit, read and judged to be different messages.
REVIEWED = {
    # "Label fell off the X I want to return unused. Would that count against me?"
    # "Return label wanted. X. Unused."
    ("return-66", "return-45"),
    # "Please send me, whenever it is convenient, a tax receipt for the X."
    # "Please e-mail me a return label for order N. Whenever convenient."
    ("payment-67", "return-05"),
}


def masked(row: dict) -> str:
    """The wording alone: lower case, with product, order id and digits hidden."""
    text = row["text"]
    for field, mask in (("product", "@"), ("order_id", "&")):
        text = text.replace(row[field], mask) if row[field] else text
    return re.sub(r"\d+", "0", text.lower())


def vectors(splits: dict[str, list[dict]]) -> dict:
    """Unit TF-IDF vectors of the masked texts, one sparse matrix a split."""
    measure = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4), sublinear_tf=True)
    measure.fit(masked(row) for rows in splits.values() for row in rows)
    return {split: measure.transform(map(masked, rows)) for split, rows in splits.items()}


def near_duplicates(splits: dict[str, list[dict]]) -> dict[tuple[str, str], list[str]]:
    """Families of different splits with a pair of rows over LIMIT, and the texts of that pair."""
    matrices, found = vectors(splits), {}
    for a, b in itertools.combinations(splits, 2):
        cosine = (matrices[a] @ matrices[b].T).tocoo()
        for i, j in np.column_stack([cosine.row, cosine.col])[cosine.data >= LIMIT]:
            pair = [splits[a][i], splits[b][j]]
            found[tuple(row["family"] for row in pair)] = [row["text"] for row in pair]
    return found


def test_no_near_duplicates_between_splits(splits):
    found = near_duplicates(splits)
    assert found.keys() == REVIEWED, found


@pytest.mark.parametrize("target", tickets.SPLITS[1:])
def test_detector_finds_a_planted_near_duplicate(splits, target):
    """A training message with another product, id, urgency and a typo, hidden in another split."""
    wording = (
        "Good morning, the {} from order {} hangs on my shoulders like a curtain. {}"
        " How do I go about sending it back for the money?"
    )
    source = GOOD | {
        "family": "planted-train",
        "text": wording.format("Auk fleece", "RL-11111", "No hurry at all."),
        "product": "Auk fleece",
        "order_id": "RL-11111",
    }
    mistyped = wording.replace("shoulders", "shuolders")
    copy = GOOD | {
        "family": "planted-copy",
        "text": mistyped.format("stove", "22222", "I leave on Friday!").lower(),
        "product": "stove",
        "order_id": "22222",
    }
    planted = {split: list(rows) for split, rows in splits.items()}
    planted["train"].append(source)
    planted[target].append(copy)
    found = near_duplicates(planted)
    assert found.keys() - REVIEWED == {("planted-train", "planted-copy")}


def test_detector_sees_95_percent_of_the_pairs_of_one_family(splits):
    matrices, cosines = vectors(splits), []
    for split in GENERATED:
        rows_of = defaultdict(list)
        for i, row in enumerate(splits[split]):
            rows_of[row["family"]].append(i)
        for rows in rows_of.values():
            within = (matrices[split][rows] @ matrices[split][rows].T).toarray()
            cosines += list(within[np.triu_indices(len(rows), k=1)])
    assert len(cosines) > 2000
    assert np.mean(np.array(cosines) >= LIMIT) >= 0.945  # "95 %" in the card


# ---------------------------------------------------------------- reading data files


def without(key: str) -> dict:
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{'id': 1}", "not JSON"),
        ("", "not JSON"),
        ("[]", "not of type 'object'"),
        (json.dumps(without("urgency")), "'urgency' is a required property"),
        (json.dumps(GOOD | {"note": "x"}), "'note' was unexpected"),
        (json.dumps(GOOD | {"intent": "refund"}), "intent: 'refund' is not one of"),
        (json.dumps(GOOD | {"text": ""}), "text: ''"),
        (json.dumps(GOOD | {"order_id": 48213}), "order_id: 48213 is not of type"),
        (json.dumps(GOOD | {"product": "tarp"}), "product 'tarp' does not occur in the text"),
        (json.dumps(GOOD | {"order_id": "rl-48213"}), "order_id 'rl-48213' does not occur"),
        (json.dumps(GOOD), "id 'a-1' already stands on line 1"),
    ],
)
def test_broken_line_is_named(tmp_path, line, problem):
    path = tmp_path / "mine.jsonl"
    last = json.dumps(GOOD | {"id": "a-3"})
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n{last}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        tickets.load("mine", path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no rows"),
        ("{'text': 'Grüße'}".encode("latin-1"), "is not UTF-8 text (byte 12)"),
        (None, "Cannot read"),
    ],
)
def test_unreadable_file_is_named(tmp_path, content, problem):
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        tickets.load("mine", path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_a_good_file_of_ones_own_loads(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert tickets.load("mine", path) == [GOOD]


def test_unknown_split_lists_the_valid_ones():
    with pytest.raises(LabError) as caught:
        tickets.load("test")
    assert all(split in str(caught.value) for split in tickets.SPLITS)


# ---------------------------------------------------------------- reading answers


def test_answer_and_parse_are_inverse(splits):
    for row in itertools.chain(*splits.values()):
        assert tickets.parse(tickets.answer(row)) == {f: row[f] for f in tickets.FIELDS}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "null",
        f"[{tickets.answer(GOOD)}]",
        f"Here it is: {tickets.answer(GOOD)}",
        f"{tickets.answer(GOOD)}\nAnything else?",
        f"```json\n{tickets.answer(GOOD)}\n```",
        tickets.answer(GOOD)[:-1],
        json.dumps(GOOD),
        json.dumps({"intent": "delivery", "product": None, "order_id": None}),
        tickets.answer(GOOD | {"intent": "refund"}),
        tickets.answer(GOOD | {"urgency": "High"}),
        tickets.answer(GOOD | {"intent": None}),
        tickets.answer(GOOD | {"product": ["tent"]}),
        tickets.answer(GOOD | {"order_id": 48213}),
        "[" * 100_000,
    ],
)
def test_parse_refuses_everything_but_the_object(reply):
    assert tickets.parse(tickets.answer(GOOD)) is not None
    assert tickets.parse(reply) is None


# ---------------------------------------------------------------- families and the generator


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"text": "Where is it?", "normal": ""}, "{u} must stand in the text exactly once"),
        ({"text": "{u} Where is it? {u}", "normal": ""}, "{u} must stand in the text exactly once"),
        ({"text": "Where is it? {u}", "low": "In {month}."}, "unknown slots ['month']"),
        ({"text": "My {product}, my {product}! {u}", "normal": ""}, "may stand there once each"),
        ({"text": "My {product}. {u}", "high": "My {product}!"}, "may stand there once each"),
        ({"text": "Where is it? {u}"}, "needs at least one of low, normal, high"),
        ({"text": "Where is it? {u}", "urgent": "Now!"}, "keys are text and at least one of"),
        ({"normal": ""}, "keys are text and at least one of"),
    ],
)
def test_broken_family_is_named(tmp_path, entry, problem):
    good = {"text": "Where is {order}? {u}", "normal": ""}
    (tmp_path / "delivery.yaml").write_text(yaml.safe_dump([good, entry]), encoding="utf-8")
    with pytest.raises(LabError) as caught:
        generator.read_families("delivery", tmp_path)
    assert "delivery.yaml, family 2: " in str(caught.value)
    assert problem in str(caught.value)


def test_typo_changes_words_but_never_a_slot():
    rng, changed = random.Random(0), 0
    families = [f for intent in tickets.INTENTS for f in generator.read_families(intent)]
    texts = [family.text for family in families] + ["{product}s and{tracking}and{colour}ish"] * 50
    for text in texts:
        result = generator.typo(rng, text)
        assert re.findall(r"\{.*?\}", result) == re.findall(r"\{.*?\}", text)
        assert len(text) - len(result) in (0, 1)
        changed += result != text
    assert changed > 600


def test_careless_rows_keep_their_labels_in_the_text():
    lowered = generator.careless(GOOD | {"text": "Where is my Kestrel 2 tent? It is RL-48213."})
    assert lowered["text"] == "where is my kestrel 2 tent? it is rl-48213"
    assert (lowered["product"], lowered["order_id"]) == ("kestrel 2 tent", "rl-48213")
