"""The wizard of notebook 00: every branch of the three sources is reached and says what they say.

The expectations are written from the sources, row by row; a documented disagreement is asserted as such.
"""

import itertools

import pytest

from labsupport.baselines import decision
from labsupport.baselines.decision import Answers, decide, gpu_hours, kind_of_tuning, prompt_hours
from labsupport.configs import model_configs
from labsupport.core.files import LabError
from labsupport.cost import cost_model
from labsupport.setups.setup import Setup
from labsupport.sizes import counting, gpus

TRAINING = {"LoRA fine-tuning", "full fine-tuning", "DPO", "continued pretraining"}
PLENTY = {"examples": 5000, "pairs": 1000, "domain_text": True}


def in_order(path, *wanted):
    places = [path.index(step) for step in wanted]
    return places == sorted(places)


# ---------------------------------------------------------------- the module page's tree (guide 004)


def test_company_documents_mean_retrieval_and_no_training():
    found = decide(Answers(need="know", **PLENTY))
    assert "retrieval" in found.path and not TRAINING & set(found.path)
    tried = decide(Answers(need="know", tried="prompt"))
    assert tried.next == "retrieval"
    # Not even for speed: the facts would go stale in the weights.
    fast = Answers(need="know", tried="few-shot", good_enough=True, limit="latency or cost")
    assert not TRAINING & set(decide(fast).path)


def test_voice_or_format_means_prompt_and_examples_and_only_then_tuning():
    found = decide(Answers(need="form", **PLENTY))
    assert found.next == "prompt"
    assert in_order(found.path, "prompt", "few-shot", "LoRA fine-tuning")
    assert decide(Answers(need="form", tried="prompt", **PLENTY)).next == "few-shot"
    assert decide(Answers(need="form", tried="few-shot", **PLENTY)).next == "LoRA fine-tuning"
    assert decide(Answers(need="form", tried="few-shot", good_enough=True, **PLENTY)).next is None


def test_a_procedure_means_a_prompt_a_test_set_and_then_tuning():
    found = decide(Answers(need="procedure", test_set=False, **PLENTY))
    assert in_order(found.path, "write down the task and a test set", "prompt", "LoRA fine-tuning")
    assert decide(Answers(need="procedure", tried="few-shot", **PLENTY)).next == "LoRA fine-tuning"


def test_preferences_mean_dpo_after_supervised_tuning():
    found = decide(Answers(need="preferences", **PLENTY))
    assert in_order(found.path, "prompt", "LoRA fine-tuning", "DPO")
    assert decide(Answers(need="preferences", tried="LoRA", **PLENTY)).next == "DPO"
    few = decide(Answers(need="preferences", tried="LoRA", examples=5000, pairs=20))
    assert few.next == "collect preference pairs"


def test_an_underrepresented_domain_means_continued_pretraining_and_then_tuning():
    found = decide(Answers(need="domain", **PLENTY))
    assert in_order(found.path, "prompt", "continued pretraining", "LoRA fine-tuning")
    assert decide(Answers(need="domain", tried="prompt", **PLENTY)).next == "continued pretraining"
    assert decide(Answers(need="domain", tried="prompt")).next == "collect domain text"
    # "Rare": no other need reaches it.
    others = [need for need in decision.NEEDS if need != "domain"]
    assert all("continued pretraining" not in decide(Answers(need=need, **PLENTY)).path for need in others)


def test_not_sure_means_not_ready():
    found = decide(Answers(need="unsure", **PLENTY))
    assert found.path == ("write down the task and a test set",) and found.next == found.path[0]


# ---------------------------------------------------------------- the series article's table (guide 002)

SERIES = [
    # situation, arguments, what the table says, the documented disagreement (or None)
    ("GPU below 16 GB", (7, 12), "QLoRA", None),
    ("GPU of 24 GB", (7, 24), "LoRA", None),
    ("GPU of 40 GB", (7, 40), "LoRA", None),
    ("maximum quality", (7, 40, "maximum quality"), "DoRA", "series: maximum quality"),
    ("several adaptations", (7, 24, "many tasks"), "LoRA", None),
    ("below 1B", (0.5, 24), "full fine-tuning", "series: small model"),
    ("simple task", (7, 24, "ordinary", "simple"), "rank 4-8", None),
    ("complex task", (7, 24, "ordinary", "complex"), "rank 32-64", None),
    ("skill composition", (7, 24, "compose skills"), "LoRA", "series: compose skills"),
]


@pytest.mark.parametrize(
    ("arguments", "says", "disagreement"), [row[1:] for row in SERIES], ids=[r[0] for r in SERIES]
)
def test_the_series_article(arguments, says, disagreement):
    technique, reason = kind_of_tuning(*arguments)
    assert says in technique
    assert reason == decision.DISAGREEMENTS[disagreement] if disagreement else reason
    if says == "LoRA":
        assert "QLoRA" not in technique


def test_where_the_series_article_is_contradicted_the_answer_is_another():
    assert kind_of_tuning(7, 40, "maximum quality")[0].startswith("LoRA with its learning rate tuned")
    assert "beside LoRA" in kind_of_tuning(0.5, 24)[0]
    assert "fusion" not in kind_of_tuning(7, 24, "compose skills")[0]


def test_memory_decides_and_not_the_size_of_the_card_alone():
    assert kind_of_tuning(13, 24)[0].startswith("QLoRA")  # 26 GB of 16-bit weights do not fit
    assert kind_of_tuning(13, 40)[0].startswith("LoRA")
    assert kind_of_tuning(70, 24)[0] == "a smaller model or more GPUs"


# ---------------------------------------------------------------- the day-078 table (guide 003)


def test_prompting_is_the_first_attempt_always():
    for need, closed, limit in itertools.product(decision.NEEDS, (False, True), decision.LIMITS):
        if need != "unsure":
            assert decide(Answers(need=need, closed=closed, limit=limit, **PLENTY)).next == "prompt"


def test_few_shot_for_format_and_style():
    assert "few-shot" in decide(Answers(need="form")).path


def test_lora_for_domain_specific_behaviour():
    for need in ("form", "procedure"):
        done = Answers(need=need, tried="all without training", **PLENTY)
        assert decide(done).next == "LoRA fine-tuning"


def test_full_fine_tuning_for_maximum_performance_under_the_module_pages_conditions():
    ripe = {"tried": "LoRA", "examples": 100_000, "several_gpus": True}
    assert decide(Answers(**ripe)).next == "full fine-tuning"
    for change in ({"tried": "few-shot"}, {"examples": 5000}, {"several_gpus": False}, {"good_enough": True}):
        assert decide(Answers(**(ripe | change))).next != "full fine-tuning"
    assert "100,000" in decision.DISAGREEMENTS["day-078: full fine-tuning"]


def test_continued_pretraining_for_a_new_language_or_domain():
    assert (
        decide(Answers(need="domain", tried="all without training", **PLENTY)).next == "continued pretraining"
    )


def test_times_are_the_tables_and_costs_are_computed():
    assert [decision.TIME[step] for step in ("prompt", "few-shot", "LoRA fine-tuning")] == [
        "minutes",
        "hours",
        "hours",
    ]
    assert decision.TIME["full fine-tuning"] == "days" and decision.TIME["continued pretraining"] == "weeks"
    assert "$10-100" in decision.DISAGREEMENTS["day-078: cost"]
    # The module page's own run, 2,000 examples of 200 tokens: far below 10 at any rate a card is rented for.
    low, high = gpu_hours("LoRA fine-tuning", 7, 0.4)
    # 2 operations a weight forwards, again with checkpointing, and backwards, on an L4's 59 TFLOP/s at best.
    assert 6 * 7e9 * 0.4e6 * 2 / 59e12 / 3600 < low < high < 1


# ---------------------------------------------------------------- what else decides


def test_closed_answers_are_tried_without_a_language_model():
    found = decide(Answers(closed=True, tried="prompt", **PLENTY))
    assert found.next == "rules or a classifier"


def test_valid_structure_asks_for_constrained_decoding_before_tuning():
    found = decide(Answers(must_be_valid=True, **PLENTY))
    assert in_order(found.path, "constrained decoding", "LoRA fine-tuning")


def test_changing_facts_ask_for_retrieval_beside_tuning():
    found = decide(Answers(facts_change=True, **PLENTY))
    assert in_order(found.path, "retrieval", "LoRA fine-tuning")


def test_a_model_that_never_gets_it_right_asks_for_a_larger_one():
    found = decide(Answers(base_fails=True, tried="all without training", **PLENTY))
    assert found.next == "larger base model"


def test_few_examples_ask_for_more():
    assert decide(Answers(tried="few-shot", examples=100)).next == "collect examples"
    assert "collect examples" not in decide(Answers(tried="few-shot", examples=500)).path


def test_good_enough_stops_unless_it_is_too_slow_or_dear():
    good = {"tried": "few-shot", "good_enough": True}
    assert decide(Answers(**good)).next is None
    assert decide(Answers(**good, limit="data must stay here")).next is None
    assert decide(Answers(**good, limit="latency or cost")).next == "LoRA fine-tuning"
    assert decide(Answers(**good, test_set=False)).next is not None  # nobody can know that it is good enough


def test_every_step_and_every_disagreement_is_reached():
    flags = [(False, True)] * 4
    seen = set()
    for need, tried, *rest in itertools.product(decision.NEEDS, decision.TRIED, *flags):
        facts = dict(zip(("test_set", "closed", "must_be_valid", "facts_change"), rest, strict=True))
        for more in ({}, PLENTY, {"base_fails": True}, {"examples": 100_000, "several_gpus": True}):
            found = decide(Answers(need=need, tried=tried, **facts, **more))
            assert found.next is None or found.next in found.path
            assert set(found.why) == set(found.path) and found.changes
            seen.add(found.next)
    assert seen - {None} == set(decision.WHY)
    assert {row[3] for row in SERIES} - {None} == {
        d for d in decision.DISAGREEMENTS if d.startswith("series")
    }


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"need": "magic"}, "Unknown need 'magic'. There are: know, form"),
        ({"tried": "hope"}, "Unknown stage 'hope'"),
        ({"limit": "?"}, "Unknown limit"),
        ({"examples": -1}, "examples is -1"),
    ],
)
def test_bad_answers_are_named(answers, message):
    with pytest.raises(LabError, match=message.replace("?", r"\?")):
        decide(Answers(**answers))


def test_bad_sizes_are_named():
    for bad in ((0, 24), (7, -1)):
        with pytest.raises(LabError, match="above 0"):
            kind_of_tuning(*bad)
    with pytest.raises(LabError, match="Unknown aim"):
        kind_of_tuning(7, 24, "fame")


# ---------------------------------------------------------------- hours


def test_hours_grow_with_model_and_tokens_and_prompting_has_a_price_too():
    assert gpu_hours("prompt", 7, 1) is None
    lora, full, more = (gpu_hours(step, 7, 1) for step in ("LoRA fine-tuning", "full fine-tuning", "DPO"))
    for end in (0, 1):
        assert 1.2 < full[end] / lora[end] < 1.6  # the weights' own gradients, and their optimizer
        assert 1.25 < more[end] / lora[end] < 4 / 3  # the reference's forward pass
    twice = gpu_hours("LoRA fine-tuning", 7, 2)
    assert twice == pytest.approx([2 * each for each in lora])
    read_once, read_twice = gpu_hours("continued pretraining", 7, 1), gpu_hours("full fine-tuning", 7, 1)
    assert read_once[0] < read_twice[0] / 2  # and in long packed rows
    # 2 operations a parameter and token, at best as fast as an L4 multiplies: a million times 200 tokens, 7B.
    low, high = prompt_hours(7, 200, 10**6)
    ideal = 2 * 7e9 * 2e8 / 59e12 / 3600
    assert ideal < low < 1.3 * ideal and 2 < high / low < 3


def test_a_model_is_as_slow_as_the_llama_nearest_in_size_by_its_parameters():
    own = counting.model_parameters(model_configs.find("llama-2-7b")) / 1e9
    hours, more = (gpu_hours("LoRA fine-tuning", size, 1) for size in (own, 1.05 * own))
    assert more == pytest.approx([1.05 * each for each in hours])
    assert gpu_hours("LoRA fine-tuning", 0.001, 1)[0] > 0


@pytest.mark.parametrize(
    "model", ["smollm2-135m", "llama-3.2-1b", "llama-2-7b", "llama-3.1-8b", "llama-3-70b"]
)
@pytest.mark.parametrize(
    ("step", "method", "four_bit"),
    [
        ("LoRA fine-tuning", "lora", False),
        ("LoRA fine-tuning", "qlora", True),
        ("full fine-tuning", "full", False),
    ],
)
def test_hours_are_those_of_the_cost_model_for_a_model_of_that_size(model, step, method, four_bit):
    config = model_configs.find(model)
    run = Setup(config, method, length=200)
    exact = cost_model.estimate(run, rows=2000, epochs=decision.EPOCHS, card=gpus.find("l4"), rate=0).hours
    size = counting.model_parameters(config) / 1e9
    assert gpu_hours(step, size, 2000 * 200 / 1e6, four_bit, 200) == pytest.approx(exact)
