"""What a kind changes in a healthy run, and what a seed does."""

import json

import pytest

from labsupport.broken_runs import case_rows, kinds, probing
from labsupport.core.files import LabError

CONTRACT = (
    "healthy template-mismatch prompt-in-loss eos-not-learned lr-too-high lr-too-low capacity-too-small "
    "memorised leaked-eval adapter-inactive no-gradient truncated noisy-labels padding-side "
    "eval-template"
)
# The content of rows: what else may differ is how they are trained and asked.
CONTENT = {"memorised", "leaked-eval", "noisy-labels", "capacity-too-small"}


def healthy_beside(case):
    return kinds.case("healthy", case["seed"], case["base"], case["task"])


def test_there_are_the_kinds_that_diagnose_names():
    assert list(kinds.KINDS) == CONTRACT.split()


@pytest.mark.parametrize("kind", list(kinds.KINDS)[1:])
def test_a_kind_differs_from_the_healthy_run_of_its_seed_in_what_it_breaks(kind):
    for seed in range(20):
        case = kinds.case(kind, seed)
        healthy = healthy_beside(case)
        differs = {name for name in case if case[name] != healthy[name]}
        follows = {"epochs", "steps"} if "rows" in kinds.KINDS[kind] else set()
        allowed = set(kinds.KINDS[kind]) | follows
        assert differs and differs <= allowed, (seed, differs)
        assert json.loads(json.dumps(case)) == case and kind not in json.dumps(case)


@pytest.mark.parametrize("task", kinds.TASKS)
@pytest.mark.parametrize("base", [kinds.TINY, kinds.BUNDLED])
def test_healthy_runs_of_many_seeds_vary_within_their_ranges(base, task):
    cases = [kinds.case("healthy", seed, base, task) for seed in range(40)]
    for name in ("learning_rate", "rank", "points", "schedule", "rows"):
        assert len({case[name] for case in cases}) >= (2 if name == "schedule" else 3), name
    allowed = kinds.HEALTHY[base, task]["learning_rate"]
    assert all(allowed.low * 0.9 < case["learning_rate"] < allowed.high * 1.1 for case in cases)
    assert all(case["steps"] == -(-case["rows"] // case["batch"]) * case["epochs"] for case in cases)


def test_how_strongly_a_run_is_broken_is_drawn_too():
    rates = [kinds.case("lr-too-high", seed) for seed in range(40)]
    factors = [case["learning_rate"] / healthy_beside(case)["learning_rate"] for case in rates]
    assert 28 < min(factors) < 45 and 70 < max(factors) < 105
    shares = [kinds.case("noisy-labels", seed)["noise"] for seed in range(40)]
    assert 0.2 <= min(shares) < 0.25 and 0.35 < max(shares) <= 0.4


def test_few_rows_are_trained_as_long_as_many():
    for seed in range(20):
        case = kinds.case("memorised", seed)
        assert case["steps"] == pytest.approx(healthy_beside(case)["steps"], rel=0.1)
        assert case["epochs"] > 5 * healthy_beside(case)["epochs"]


def test_an_unknown_kind_or_task_is_a_line():
    with pytest.raises(LabError, match="Unknown kind of run 'lr-to-high'. There are: lr-too-high"):
        kinds.case("lr-to-high", 0)
    with pytest.raises(LabError, match="Unknown task 'poems'. There are: tickets, facts"):
        kinds.case("healthy", 0, task="poems")


# ---------------------------------------------------------------- the rows of a case


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_rows_are_those_of_the_seed_and_break_only_where_the_kind_breaks_them(kind):
    case = kinds.case(kind, 7)
    rows, healthy = case_rows.training(case), case_rows.training(healthy_beside(case))
    assert rows == case_rows.training(case) and len(rows) == case["rows"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert case_rows.evaluation(case) == case_rows.evaluation(healthy_beside(case))
    assert (rows == healthy) == (kind not in CONTENT - {"capacity-too-small"})
    assert case_rows.training(kinds.case(kind, 8)) != rows


def test_the_evaluation_shares_no_message_with_training():
    for task in kinds.TASKS:
        case = kinds.case("healthy", 3, task=task)
        asked = {row["prompt"][-1]["content"] for row in case_rows.training(case)}
        sets = [case_rows.evaluation(case)]
        sets += [case_rows.other(case, split, 30) for split in ("test_lookalike", "test_production")]
        for rows in sets:
            assert rows and not asked & {row["prompt"][-1]["content"] for row in rows}


def test_a_fact_that_is_evaluated_was_trained_in_other_words():
    case = kinds.case("healthy", 3, task="facts")
    known = [row["completion"] for row in case_rows.training(case)]
    assert all(known.count(row["completion"]) == kinds.PHRASINGS for row in case_rows.evaluation(case))


def test_noise_gives_that_share_of_rows_the_answer_of_another():
    case = kinds.case("noisy-labels", 5)
    pairs = zip(case_rows.training(case), case_rows.training(healthy_beside(case)), strict=True)
    wrong = sum(noisy["completion"] != clean["completion"] for noisy, clean in pairs)
    assert wrong / case["rows"] == pytest.approx(case["noise"], abs=0.01)


def test_leaked_rows_are_near_copies_with_the_same_answer():
    case = kinds.case("leaked-eval", 5)
    trained = [(row["prompt"][-1]["content"], row["completion"]) for row in case_rows.training(case)]
    found = [
        any(
            row["prompt"][-1]["content"].removesuffix(".") in text and row["completion"] == answer
            for text, answer in trained
        )
        for row in case_rows.evaluation(case)
    ]
    assert sum(found) / len(found) == pytest.approx(case["leaked"], abs=0.03)
    texts = [text for text, _ in trained]
    assert any(texts.count(text) < case_rows.COPIES for text in texts)


def test_more_rows_are_the_same_ones_and_fresh_ones():
    for kind in ("healthy", "memorised", "capacity-too-small"):
        case = kinds.case(kind, 4)
        more = kinds.changed(case, {"rows": 4 * case["rows"]})
        ids, all_ids = ({row["id"] for row in case_rows.training(c)} for c in (case, more))
        assert ids < all_ids and len(all_ids) == 4 * len(ids)
        assert more["steps"] == pytest.approx(case["steps"], rel=0.5)


def test_a_probe_asks_all_rows_of_the_evaluation():
    """The clinic compares a probe's figures with those of the run's own evaluation."""
    for healthy in kinds.HEALTHY.values():
        assert healthy["eval_rows"] <= probing.ASKED
