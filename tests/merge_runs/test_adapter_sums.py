"""Sums of adapters: that they are sums, what the two skills train and score, and how the record is read."""

import copy
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_training import tiny_model

from labsupport.core.files import LabError
from labsupport.experiments import adapter_sums_experiment as experiment
from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import adapters, skills, sums, sums_reading
from labsupport.models import base_model, lora
from labsupport.tasks import facts

FEW = "base", "tickets", "tickets + facts", "TIES", "TIES of the factors", "both − facts"
SIZES = {"hidden_size": 64, "intermediate_size": 128}  # conftest's base


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two random adapters of ranks 4 and 2, unlike in alpha, too, saved for conftest's base."""
    folders = {}
    for seed, (name, rank, alpha) in enumerate((("one", 4, 8), ("two", 4, 12))):
        torch.manual_seed(seed)
        settings = {"target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
        model = get_peft_model(tiny_model(**SIZES), LoraConfig(r=rank, lora_alpha=alpha, **settings))
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture
def layers(base):
    return lora.linear_layers(base_model.load(base, "float32", "cpu")[0])


@pytest.mark.parametrize("weights", [(1, 1), (0.7, 0.3), (1, -1)])
def test_a_sum_is_what_peft_calls_cat(base, pair, layers, weights):
    model = PeftModel.from_pretrained(base_model.load(base, "float32", "cpu")[0], pair["one"], "one")
    model.load_adapter(pair["two"], adapter_name="two")
    model.add_weighted_adapter(["one", "two"], list(weights), "sum", combination_type="cat")
    updates = {name: sums.of(folder) for name, folder in pair.items()}
    ours = sums.weighted(dict(zip(pair, weights, strict=True)), updates)
    for name in layers:
        theirs = model.base_model.model.get_submodule(name).get_delta_weight("sum")
        assert torch.allclose(ours(name), theirs, rtol=0, atol=1e-5), name


def test_an_update_is_that_of_the_adapter(pair, layers):
    update, deltas = sums.of(pair["two"]), adapters.deltas(pair["two"])
    assert set(deltas) == set(layers)
    assert all(torch.equal(update(name), delta) for name, delta in deltas.items())
    with pytest.raises(LabError, match="lacks"):
        sums.of(pair["one"] / "nothing")


@torch.no_grad()
def test_a_put_update_is_the_adapter_beside_the_base_and_can_be_taken_out(base, pair):
    ids = torch.arange(100, 140)[None]
    model = base_model.load(base, "float32", "cpu")[0]
    first, before = sums.weights_of(model), model(ids).logits
    beside = PeftModel.from_pretrained(copy.deepcopy(model), pair["one"]).eval()(ids).logits
    sums.put(model, first, sums.of(pair["one"]))
    assert (model(ids).logits - beside).abs().max() < 1e-4 < (before - beside).abs().max()
    sums.put(model, first)
    assert torch.equal(model(ids).logits, before)


def test_ties_drops_small_entries_elects_signs_and_averages():
    one, two = torch.tensor([[4.0, 0.1, 3.0, 0.2]]), torch.tensor([[2.0, 0.3, -5.0, 0.1]])
    found = sums.tied([lambda _: one, lambda _: two], 0.5)("layer")
    assert found.tolist() == [[3.0, 0.0, -5.0, 0.0]]


def test_peft_ties_the_factors_and_not_the_update(base, pair, tmp_path, layers):
    folders = dict(pair)
    factors = sums.tied_factors(base, folders, 0.5, tmp_path)
    whole = sums.tied([sums.of(folder) for folder in pair.values()], 0.5)
    name = next(iter(layers))
    assert torch.linalg.matrix_rank(factors(name)) <= 4 < torch.linalg.matrix_rank(whole(name))


def test_a_misplaced_update_keeps_entries_and_singular_values(pair, layers):
    update = sums.of(pair["one"])
    other = sums.misplaced(update)
    name, second = [name for name in layers if name.endswith("q_proj")]
    one, moved = update(name), other(name)
    assert torch.equal(moved, other(name)) and not torch.equal(moved, one)
    assert torch.equal(one.flatten().sort().values, moved.flatten().sort().values)
    assert torch.allclose(torch.linalg.svdvals(one), torch.linalg.svdvals(moved), atol=1e-5)
    places = torch.arange(one.numel()).reshape(one.shape)
    orders = [sums.misplaced(lambda _: places)(layer) for layer in (name, second)]
    assert not torch.equal(*orders)


def test_products_give_cosines_and_lengths():
    first = {"a": torch.full((1, 2), 3.0), "b": torch.full((2, 1), 4.0)}
    one = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0], [2.0]])}
    two = {"a": torch.tensor([[0.0, 5.0]]), "b": torch.tensor([[0.0], [-1.0]])}
    found = sums.products(first, {"one": one.get, "two": two.get, "zero": lambda n: 0 * first[n]})
    assert sums.relative(found, "one") == pytest.approx((5 / 50) ** 0.5)
    assert sums.cosine(found, "one", "two") == pytest.approx(-2 / (5 * 26) ** 0.5, rel=1e-5)
    assert sums.cosine(found, {"one": 2, "two": -1}, "one") == pytest.approx(12 / (54 * 5) ** 0.5, rel=1e-5)
    assert math.isnan(sums.cosine(found, "one", "zero"))


# ---------------------------------------------------------------- the two skills


def test_both_has_the_batches_of_the_two_in_another_order():
    tickets, codes = skills.batches("tickets", 0), skills.batches("facts", 0)
    both = skills.mixed(tickets, codes, seed=0)
    assert len(both) == len(tickets) + len(codes) and both[: len(tickets)] != tickets
    assert all(batch in both for batch in tickets + codes)
    assert len({row["completion"][0]["content"] for batch in codes for row in batch}) == skills.FACTS
    others = {row["prompt"][1]["content"] for batch in skills.batches("other facts", 0) for row in batch}
    assert not others & {row["prompt"][1]["content"] for batch in codes for row in batch}
    assert skills.batches("facts", 1) != codes and skills.batches("facts", 0) == codes


def test_symbols_and_nats_of_a_model_that_knows(monkeypatch, base):
    model, tokenizer = base_model.load(base, "float32", "cpu")
    rows = skills.known("facts")[:3]
    codes = [tokenizer(facts.answer(row), add_special_tokens=False)["input_ids"] for row in rows]

    def certain(model, tokenizer, examples, size):
        for i, example in enumerate(examples):
            assert example.targets == codes[i]
            logits = torch.nn.functional.one_hot(torch.tensor(codes[i]), 49152).float()
            yield i, 100 * (logits.roll(1, dims=0) if i == 1 else logits)

    monkeypatch.setattr(skills.prefixes, "logits_of_answers", certain)
    found = skills.recalled(model, tokenizer, rows)
    assert found["right"][0] == found["right"][2] == 8 > found["right"][1]
    assert found["nll"][0] == found["nll"][2] == 0 and found["nll"][1] > 100


@pytest.fixture(scope="module")
def record(tmp_path_factory, tokenizer):
    """The experiment on a random two-layer Llama: a step or two of everything, few rows."""
    folder = tmp_path_factory.mktemp("adapter_sums")
    tiny_model(**SIZES).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    few = {split: rows[:9] for split, rows in prompt_formats.test_sets().items()}
    texts = skills.passages()[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_BASE_MODEL", str(folder / "base"))
        patch.setattr("labsupport.core.files.RUNS", folder / "runs")
        patch.setattr("labsupport.core.upstream.score_only_labels", lambda: None)
        patch.setattr(prompt_formats, "test_sets", lambda: few)
        patch.setattr(skills, "passages", lambda: texts)
        models = {name: weights for name, weights in experiment.MODELS.items() if name in FEW}
        patch.setattr(experiment, "MODELS", models)
        for name, value in {"TICKETS": 16, "FACTS": 8, "EPOCHS": 2}.items():
            patch.setattr(skills, name, value)
        return {"cells": [{"cell": {"seed": 0}, "metrics": experiment.run({"seed": 0})}]}


def test_every_model_is_scored_on_everything(record):
    metrics = record["cells"][0]["metrics"]
    assert sums_reading.models(record) == list(FEW)
    for scores in metrics["scores"].values():
        assert len(scores["tickets"]["exact"]) == 3 and len(scores["general"]["tokens"]) == 2
        assert len(scores["facts"]["nll"]) == len(scores["facts"]["right"]) == 8
    assert metrics["scores"]["base"]["general"]["kl"] == [0, 0]


def test_adapters_train_on_what_the_experiment_says(record):
    losses = record["cells"][0]["metrics"]["losses"]
    steps = {name: len(found) for name, found in losses.items()}
    assert steps == {"tickets": 2, "facts": 2, "other facts": 2, "both": 4, "one after the other": 2}
    assert losses["one after the other"][0] != losses["facts"][0]  # it goes on from tickets
    updates = record["cells"][0]["metrics"]["updates"]
    size = {name: sums.relative(updates, name) for name in updates["names"]}
    assert size["misplaced"] == pytest.approx(size["facts"]) and min(size.values()) > 0
    assert abs(sums.cosine(updates, "facts", "misplaced")) < 0.1


def test_tables_can_be_made_of_it(record):
    assert [row[0] for row in sums_reading.table(record).rows] == list(FEW)
    assert [row[0] for row in sums_reading.updates_table(record).rows][:2] == ["tickets", "facts"]


def test_what_is_added_up_is_trained_or_made(record):
    """Every model asks for updates that there are, and the names say what is subtracted from what."""
    there = set(record["cells"][0]["metrics"]["updates"]["names"])
    assert all(set(weights) <= there for weights in experiment.MODELS.values())
    for name, weights in experiment.MODELS.items():
        start, _, taken = name.partition(" − ")
        if taken:
            assert start in experiment.MODELS and [*weights.values()][0] == 1
            assert taken.removeprefix("0.5 ") in weights and [*weights.values()][1] < 0


# ---------------------------------------------------------------- the reading


def scores(nats: float, stops: int, nll: float, right: int, kl: float) -> dict:
    """Two rows of everything; the second answer has a nat more."""
    columns = dict.fromkeys(prompt_formats.COLUMNS, [0.0, 0.0])
    fact = {"nll": [nll, nll], "right": [right, right]}
    general = {"tokens": [10, 30], "nll": [20.0, 60.0], "kl": [10 * kl, 30 * kl]}
    tickets = columns | {"id": ["a", "b"], "rest": [nats, nats + 1], "exact": [1, 1], "stops": [1, stops]}
    return {"tickets": tickets, "facts": fact, "general": general}


@pytest.fixture
def made():
    nothing = 40 * 0.6931471805599453  # nats of a code of which nothing is known
    cells = []
    for seed in (0, 1):
        found = {
            "base": scores(20 + seed, 0, nothing, 0, 0.0),
            "tickets": scores(2 + seed, 1, nothing, 0, 0.1),
            "facts": scores(30 + seed, 0, 0.0, 8, 0.2),
            "tickets + facts": scores(6.5 + seed, 0, nothing / 4, 6, 0.5),
            "tickets − facts": scores(11 + seed, 0, 2 * nothing, 0, 0.4),
        }
        products = [[4, 3, 0], [3, 9, 0], [0, 0, 1]]
        updates = {"names": ["tickets", "facts", "both"], "products": products, "weights": 100}
        cells.append({"cell": {"seed": seed}, "metrics": {"scores": found, "updates": updates}})
    return {"cells": cells}


def test_levels_are_means_of_rows_and_seeds(made):
    assert sums_reading.level(made, "tickets", "nats")[0] == pytest.approx(3)
    assert sums_reading.by_seed(made, "tickets", "nats") == pytest.approx([2.5, 3.5])
    assert sums_reading.level(made, "tickets + facts", "exact")[0] == 0.5  # the second does not stop
    assert sums_reading.level(made, "tickets + facts", "symbols") == (0.75, 0.75, 0.75)
    assert sums_reading.level(made, "tickets + facts", "bits")[0] == pytest.approx(30)
    assert sums_reading.level(made, "tickets", "kl") == pytest.approx((0.1, 0.1, 0.1))
    assert sums_reading.by_seed(made, "facts", "kl") == pytest.approx([0.2, 0.2])
    with pytest.raises(ValueError, match="give one of nats"):
        sums_reading.of_rows(scores(1, 1, 1, 1, 1), "accuracy")


def test_gaps_are_paired_so_that_seeds_do_not_blur_them(made):
    assert sums_reading.gap(made, "tickets + facts", "tickets", "nats") == pytest.approx((4.5, 4.5, 4.5))
    assert sums_reading.gap(made, "tickets + facts", "tickets", "kl") == pytest.approx((0.4, 0.4, 0.4))


def test_tables_say_what_was_measured(made):
    rows = {row[0]: row[1:] for row in sums_reading.table(made).rows}
    assert rows["tickets + facts"][1:] == ["50", "75 [75, 75]", "30.0", "0.5"]
    assert sums_reading.table(made).caption.startswith("2 seeds")
    (row,) = sums_reading.negations_table(made).rows
    assert row[:3] == ["tickets", "facts", "+9.00 [+9.00, +9.00]"] and row[-1] == "+0.30 [+0.30, +0.30]"
    rows = {row[0]: row[1:] for row in sums_reading.updates_table(made).rows}
    assert rows["facts"] == ["30.00, 30.00", "+0.500, +0.500", "+1.000, +1.000", "+0.000, +0.000"]
    whole = 19**0.5  # of the sum: 4 + 2 · 3 + 9
    assert rows["tickets + facts"][0] == f"{10 * whole:.2f}, {10 * whole:.2f}"
    assert sums_reading.cosine(made, {"tickets": 1, "facts": 1}, "facts") == pytest.approx([4 / whole] * 2)
