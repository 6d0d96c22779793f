"""The measures: likelihood against a slow reference, exact match against generation, honest intervals."""

import functools
import json
import math
from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from sklearn.metrics import f1_score
from tiny_training import tiny_model

from labsupport.baselines import prompt_scoring
from labsupport.core import files, upstream
from labsupport.evaluation import canary_scoring, intervals, metrics, result_store, scoring
from labsupport.models import chat
from labsupport.tasks import tickets
from labsupport.training import fingerprint

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
    ids, mask = chat.pad_left(tokenizer, [e.ids for e in examples])
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


COUNT = Path("unset")  # a path, and so no part of what decides a result


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A measure that counts in a file how often it is computed."""
    monkeypatch.setattr(files, "RUNS", tmp_path)
    monkeypatch.setitem(globals(), "COUNT", tmp_path / "count")
    return measured


def measured(model, tokenizer, rows):
    with COUNT.open("a") as file:
        file.write("x")
    prompt = tickets.prompt("")  # whose text then decides the result, too
    return [{"nll": {"all": 0.1 + len(row["text"])}, "exact": prompt == []} for row in rows]


def measured_otherwise(model, tokenizer, rows):
    return measured(model, tokenizer, rows)[::-1]


def times_computed():
    return len(COUNT.read_text())


@pytest.fixture
def adapted():
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(tiny_model(vocab_size=64), lora)


def test_what_was_computed_is_loaded(adapted, tokenizer, counted, capsys):
    first = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    again = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    assert again == first
    assert times_computed() == 1
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == ["computed", "loaded"]


def test_whatever_changes_the_result_computes_again(adapted, tokenizer, counted, monkeypatch):
    def times(rows=ROWS, name="score"):
        result_store.recorded(adapted, tokenizer, rows, name, counted)
        return times_computed()

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
    (file,) = (files.RUNS / "evaluations").iterdir()
    file.write_text(damage)
    assert result_store.recorded(adapted, tokenizer, ROWS, "score", counted) == first
    assert times_computed() == 2
    assert json.loads(file.read_text())["result"] == first


def test_a_result_under_anothers_key_is_not_taken(adapted, tokenizer, counted):
    first = result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
    (file,) = (files.RUNS / "evaluations").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"key": "0" * 64}))
    assert result_store.recorded(adapted, tokenizer, ROWS, "score", counted) == first
    assert times_computed() == 2


def test_code_and_versions_are_part_of_the_key(adapted, tokenizer, counted, monkeypatch):
    def result(compute):
        return result_store.recorded(adapted, tokenizer, ROWS, "score", compute)

    forwards, backwards = result(measured), result(measured_otherwise)
    assert forwards == backwards[::-1] != backwards
    assert result(lambda *given: measured(*given)[1:]) == forwards[1:]
    partial = [result(functools.partial(cut, rows_kept=kept)) for kept in (1, 2)]
    assert [len(rows) for rows in partial] == [1, 2]
    before = times_computed()
    monkeypatch.setattr(fingerprint, "environment", lambda: {"versions": ["torch 99"]})
    result(measured)
    assert times_computed() == before + 1


def cut(model, tokenizer, rows, rows_kept):
    return measured(model, tokenizer, rows[:rows_kept])


def test_a_model_in_training_mode_is_another_one(adapted, tokenizer, counted):
    """Its dropout is on."""
    for training, times in ((False, 1), (True, 2), (False, 2)):
        adapted.train(training)
        result_store.recorded(adapted, tokenizer, ROWS, "score", counted)
        assert times_computed() == times


def four_bit(model, double: bool = True, compute: torch.dtype = torch.float32):
    """The model with its linear layers in NF4, as transformers builds them."""
    upstream.guard_4bit_on_cpu()
    for layer in model.model.layers:
        for name in ("q_proj", "o_proj"):
            plain = getattr(layer.self_attn, name)
            packed = bnb.nn.Linear4bit(
                plain.in_features, plain.out_features, bias=False, compute_dtype=compute,
                compress_statistics=double, quant_type="nf4",
            )  # fmt: skip
            packed.load_state_dict(plain.state_dict())
            setattr(layer.self_attn, name, packed.to("cpu"))
    return model


def test_models_that_differ_only_in_the_scales_of_their_4_bit_weights_are_two(tokenizer, counted):
    """absmax, double quantisation and the compute dtype are no parameters: the packed bytes are the same."""

    def times(model):
        result_store.recorded(model.eval(), tokenizer, ROWS, "score", counted)
        return times_computed()

    model = four_bit(tiny_model(vocab_size=64))
    assert times(model) == 1
    twice = tiny_model(vocab_size=64)
    for layer in twice.model.layers:
        for weight in (layer.self_attn.q_proj.weight, layer.self_attn.o_proj.weight):
            weight.data *= 2  # the codes stay, absmax doubles
    twice = four_bit(twice)
    key = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(twice.get_parameter(key).data, model.get_parameter(key).data)
    assert times(twice) == 2
    assert times(four_bit(tiny_model(vocab_size=64), double=False)) == 3
    assert times(four_bit(tiny_model(vocab_size=64), compute=torch.bfloat16)) == 4
    assert times(four_bit(tiny_model(vocab_size=64))) == 4


# ---------------------------------------------------------------- modes


def test_after_an_exception_every_module_has_its_mode_of_before(tokenizer, monkeypatch):
    model = tiny_model().train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    for call in (
        lambda: scoring.score(model, tokenizer, ROWS),
        lambda: scoring.generate(model, tokenizer, ROWS),
        lambda: canary_scoring.continuation_nll(model, tokenizer, [("one", " two")], 1),
        lambda: prompt_scoring.intent_log_probs(model, tokenizer, [[1, 2, 3]]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(model.model.layers[1], "forward", stop)
            with pytest.raises(KeyboardInterrupt):
                call()
        assert [module.training for module in model.modules()] == before


def stop(*arguments, **options):
    raise KeyboardInterrupt


# ---------------------------------------------------------------- against libraries


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (["a", "b", "a", "c"], ["a", "b", "b", "c"]),
        (["a", None, "a", "c", None], ["a", "b", None, "b", None]),
        ([None, None], ["a", "b"]),
    ],
)
def test_f1_is_scikit_learns_micro_average_without_the_null_class(predicted, expected):
    labels = sorted({value for value in [*predicted, *expected] if value is not None})
    names = [["null" if value is None else value for value in values] for values in (expected, predicted)]
    theirs = f1_score(*names, labels=labels, average="micro", zero_division=0)
    assert metrics.f1(predicted, expected) == pytest.approx(theirs)


@settings(max_examples=100)
@given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "c", None])] * 2), min_size=1))
def test_f1_is_scikit_learns_for_any_answers(pairs):
    predicted, expected = zip(*pairs, strict=True)
    if any(value is not None for pair in pairs for value in pair):
        test_f1_is_scikit_learns_micro_average_without_the_null_class(list(predicted), list(expected))
