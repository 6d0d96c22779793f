"""The measures: likelihood against a slow reference, exact match against generation, honest intervals."""

import json
import math

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import tiny_model

from labsupport.core import files
from labsupport.evaluation import intervals, metrics, result_store, scoring
from labsupport.models import chat
from labsupport.tasks import tickets

ROWS = [*tickets.load("train")[:3], *tickets.load("test_production")[:4]]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tiny_model(initializer_range=0.2).eval()


@pytest.fixture(scope="module")
def learned(tokenizer):
    """A model that has learned the first three rows by heart."""
    torch.set_num_threads(1)
    model = tiny_model().train()
    examples = [chat.encode_example(tokenizer, row) for row in ROWS[:3]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    ids, mask = chat.pad_left([e.ids for e in examples], tokenizer.pad_token_id)
    longest = ids.shape[1]
    labels = [chat.labels(e.ids, e.prompt_length) for e in examples]
    labels = torch.tensor([[chat.IGNORED] * (longest - len(row)) + row for row in labels])
    keep = max(len(e.ids) - e.prompt_length for e in examples) + 1
    for _ in range(150):
        loss = chat.answer_loss(
            model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits, labels[:, -keep:]
        )
        if loss < 0.02:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def slow_score(model, tokenizer, row):
    """One row, one token at a time, no padding: NLL by field and whether every token came first."""
    example = chat.encode_example(tokenizer, row)
    fields = scoring.field_of_tokens(example.answer, example.answer_offsets) + [None]
    nll, exact = dict.fromkeys(["all", *tickets.FIELDS], 0.0), True
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([example.ids])).logits[0].double().log_softmax(-1)
    for j, field in enumerate(fields):
        position = example.prompt_length + j
        token = example.ids[position]
        nll["all"] -= log_probs[position - 1, token].item()
        if field:
            nll[field] -= log_probs[position - 1, token].item()
        exact = exact and log_probs[position - 1].argmax().item() == token
    return {"nll": nll, "exact": exact}


def same(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a["nll"] == pytest.approx(b["nll"], abs=tolerance, rel=1e-4)
        assert a["exact"] == b["exact"]


# ---------------------------------------------------------------- fields


def test_each_token_goes_to_the_field_it_decides():
    answer = '{"intent":"return","product":null,"order_id":"A-1","urgency":"low"}'
    cuts = ['{"', "intent", '":"', "return", '","', "product", '":', "null", ',"', "order_id", '":"', "A-1"]
    cuts += ['","', "urgency", '":"', "low", '"}']
    assert "".join(cuts) == answer
    ends = np.cumsum([len(c) for c in cuts]).tolist()
    offsets = list(zip([0, *ends[:-1]], ends, strict=True))
    i, p, o, u = tickets.FIELDS
    # `":"` opens a string, where `":` leaves null possible: it decides, so it counts for the value.
    expected = [None, None, i, i, i, None, None, p, None, None, o, o, o, None, u, u, u]
    assert scoring.field_of_tokens(answer, offsets) == expected


def test_a_value_that_looks_like_a_key_does_not_move_the_fields():
    row = {"intent": "return", "product": 'x","urgency":"low', "order_id": "ü", "urgency": "high"}
    answer = tickets.answer(row)
    letters = scoring.field_of_tokens(answer, [(k, k + 1) for k in range(len(answer))])
    for field in tickets.FIELDS:
        chosen = "".join(c for c, name in zip(answer, letters, strict=True) if name == field)
        assert json.loads(chosen) == row[field]


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_equal_a_slow_reference_at_any_batch_size(batch_size, model, learned, tokenizer):
    # The learned model's logits are large: single precision alone costs some 1e-5 a token.
    for each, tolerance in ((model, 1e-4), (learned, 1e-3)):
        expected = [slow_score(each, tokenizer, row) for row in ROWS]
        same(scoring.score(each, tokenizer, ROWS, batch_size=batch_size), expected, tolerance)


def test_exact_is_what_greedy_decoding_writes(learned, tokenizer):
    exact = [row["exact"] for row in scoring.score(learned, tokenizer, ROWS)]
    replies = scoring.generate(learned, tokenizer, ROWS, batch_size=4)
    assert [reply == tickets.answer(row) for reply, row in zip(replies, ROWS, strict=True)] == exact
    assert exact[:3] == [True] * 3
    assert not all(exact)


def test_a_right_answer_that_does_not_stop_is_not_exact(learned, tokenizer):
    row = ROWS[0]
    assert scoring.score(learned, tokenizer, [row])[0]["exact"]
    example = chat.encode_example(tokenizer, row)
    end = len(example.answer_offsets)
    first = torch.ones(end + 2, dtype=torch.bool)
    log_probs = -torch.arange(end + 2.0)
    assert scoring.summarise(example, log_probs, first)["nll"]["all"] == sum(range(end + 1))
    first[end + 1] = False  # the newline after the end of the turn is the template's
    assert scoring.summarise(example, log_probs, first)["exact"]
    first[end] = False
    assert not scoring.summarise(example, log_probs, first)["exact"]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_put_back(training, model, tokenizer):
    model.train(training)
    scoring.score(model, tokenizer, ROWS[:1])
    assert model.training is training
    scoring.generate(model, tokenizer, ROWS[:1])
    assert model.training is training
    model.eval()


# ---------------------------------------------------------------- metrics


def test_a_reply_is_right_only_as_exactly_the_right_json():
    row = {"intent": "return", "product": "lamp", "order_id": None, "urgency": "low"}
    right = tickets.answer(row)
    wrong = [
        "", "null", "[]", right[:-1], f"Sure: {right}",
        right.replace("lamp", "Lamp"), right.replace("null", '"null"'), right.replace("low", "lowest"),
        right.replace('"low"', '"low","more":1'),
    ]  # fmt: skip
    assert metrics.is_right(right, row)
    assert metrics.is_right(json.dumps(dict(reversed(row.items()))), row)  # other order, more spaces
    assert not any(metrics.is_right(reply, row) for reply in wrong)
    valid = metrics.valid_json([right, right.replace("lamp", "Lamp"), "", "null", right[:-1]])
    assert valid.tolist() == [1, 1, 0, 0, 0]
    assert metrics.exact_match([row, row], [right, ""]).tolist() == [1, 0]
    with pytest.raises(ValueError):
        metrics.exact_match([row, row], [right])


def test_field_f1_is_f1_with_an_interval_over_families():
    """Half of the families wrong, five rows each: as wide as ten independent rows, not as fifty."""
    row = {"intent": "return", "product": "lamp", "order_id": None, "urgency": "low"}
    wrong = tickets.answer(row | {"product": "tent"})
    rows = [row | {"family": f"family {k // 5}"} for k in range(50)]
    replies = [wrong if k // 5 % 2 else tickets.answer(row) for k in range(50)]
    scores = metrics.field_f1(rows, replies)
    assert scores["intent"] == (1.0, 1.0, 1.0)
    predicted = [tickets.parse(reply)["product"] for reply in replies]
    mean, low, high = scores["product"]
    assert mean == metrics.f1(predicted, ["lamp"] * 50) == 0.5
    assert 0.45 < high - low < 0.8  # in theory 2 x 1.96 x the root of 0.25 / 10


@pytest.mark.parametrize(
    ("predicted", "expected", "value"),
    [
        (["a", "b"], ["a", "b"], 1.0),
        (["a", None], ["a", "b"], 2 / 3),
        (["a", "c"], ["a", None], 2 / 3),
        ([None, None], ["a", "b"], 0.0),
        (["a", "a"], [None, None], 0.0),
        (["b"], ["a"], 0.0),
    ],
)
def test_f1(predicted, expected, value):
    assert metrics.f1(predicted, expected) == pytest.approx(value)


def test_f1_of_nothing_is_not_a_number_and_invalid_replies_claim_nothing():
    assert math.isnan(metrics.f1([None], [None]))
    row = {"intent": "return", "product": None, "order_id": "7", "urgency": "low", "family": "a"}
    scores = metrics.field_f1([row, row], [tickets.answer(row), "no idea"])
    assert all(math.isnan(value) for value in scores.pop("product"))
    assert {field: score[0] for field, score in scores.items()} == pytest.approx(
        {"intent": 2 / 3, "order_id": 2 / 3, "urgency": 2 / 3}
    )


# ---------------------------------------------------------------- intervals


def width(found) -> float:
    return found[2] - found[1]


def test_correlated_rows_make_the_interval_wider():
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 30), 5).astype(float)
    families = [f"family {k // 5}" for k in range(150)]
    by_family = intervals.interval(values, families)
    by_row = intervals.interval(values, list(range(150)))
    assert by_family[0] == by_row[0] == values.mean()
    assert by_family[1] < values.mean() < by_family[2]
    assert width(by_family) > 1.8 * width(by_row)  # in theory the root of five


def test_seeds_that_disagree_make_the_interval_wider():
    families = [f"family {k}" for k in range(40)] * 2
    seeds = [0] * 40 + [1] * 40
    values = np.array([0.0] * 40 + [1.0] * 40)
    assert intervals.interval(values, families, seeds)[1:] == (0.0, 1.0)
    assert width(intervals.interval(values, list(range(80)))) < 0.3


def test_the_interval_is_reproducible_and_narrows_with_its_level():
    values, families = list(np.arange(20.0)), [k // 2 for k in range(20)]
    assert intervals.interval(values, families) == intervals.interval(values, families)
    assert width(intervals.interval(values, families, level=0.5)) < width(
        intervals.interval(values, families)
    )


@pytest.mark.parametrize(
    ("values", "families", "seeds"),
    [([], [], None), ([1.0], ["a", "b"], None), ([1.0, 2.0], ["a"], None), ([1.0, 2.0], ["a", "b"], [0])],
)
def test_lengths_that_do_not_fit_are_refused(values, families, seeds):
    with pytest.raises(ValueError):
        intervals.interval(values, families, seeds)


def test_two_seeds_of_one_method_are_seldom_called_different():
    """Seeds shift whole families. Clustered, at most 10 % of pairs exclude zero; row by row, far more."""
    rng = np.random.default_rng(7)
    families, rows, pairs = 40, 5, 200
    names = np.repeat(np.arange(families), rows).tolist()
    clustered = by_row = 0
    for _ in range(pairs):
        shift = rng.normal(size=(families, 1))  # the difference of two seeds on a family
        difference = (shift + 0.5 * rng.normal(size=(families, rows))).ravel()
        _, low, high = intervals.interval(difference, names)
        clustered += not low <= 0 <= high
        drawn = rng.choice(difference, size=(200, difference.size)).mean(1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        by_row += not low <= 0 <= high
    assert clustered <= 0.10 * pairs
    assert by_row >= 0.25 * pairs


# ---------------------------------------------------------------- recorded results


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A measure that counts how often it is computed."""
    monkeypatch.setattr(result_store, "RUNS", tmp_path)

    def compute(model, tokenizer, rows):
        compute.times += 1
        return [{"nll": {"all": 0.1 + len(row["text"])}, "exact": False} for row in rows]

    compute.times = 0
    return compute


@pytest.fixture
def adapted():
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(tiny_model(vocab_size=64), lora)


def test_what_was_computed_is_loaded(adapted, tokenizer, counted, capsys):
    first = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    again = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    assert again == first
    assert counted.times == 1
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == ["computed", "loaded"]


def test_whatever_changes_the_result_computes_again(adapted, tokenizer, counted, monkeypatch):
    def times(rows=ROWS, name="score"):
        result_store.recorded(adapted, tokenizer, rows, name, counted)
        return counted.times

    assert times() == 1
    with adapted.disable_adapter():
        assert times() == 2
    assert times() == 2
    assert times(rows=ROWS[:-1]) == 3
    assert times(name="generate") == 4
    with torch.no_grad():
        next(adapted.parameters())[0, 0] += 1
    assert times() == 5
    layer = next(m for m in adapted.modules() if hasattr(m, "lora_A"))
    layer.scaling["default"] *= 2
    assert times() == 6
    monkeypatch.setattr(tickets, "SYSTEM_PROMPT", "Another prompt.")
    assert times() == 7
    monkeypatch.setattr(tokenizer, "chat_template", tokenizer.chat_template + " ")
    assert times() == 8


@pytest.mark.parametrize("damage", ["", "null", "[]", "{}", '{"result": [{"nll'])
def test_a_damaged_result_is_computed_again(damage, adapted, tokenizer, counted):
    first = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    (file,) = (result_store.RUNS / "evaluations").iterdir()
    file.write_text(damage)
    assert result_store.recorded(adapted, tokenizer, ROWS, "score", counted) == first
    assert counted.times == 2
    assert json.loads(file.read_text())["result"] == first


def test_results_are_kept_in_the_folder_for_runs():
    assert result_store.RUNS == files.RUNS
