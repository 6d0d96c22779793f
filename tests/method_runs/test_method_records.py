"""What is read out of the records of the methods' tuning, comparison and tickets."""

import json
import math

import pytest

from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.method_runs import decision, figures, methods, ranks, reading, scales, ticket_reading, tuned

NATS = 40 * math.log(2)  # of a fact of which nothing is known


def tuning(bits_of: dict) -> dict:
    """A record in which a method at a rate has stored so many bits of one fact; None: it diverged."""
    cells = []
    for (method, rate), known in bits_of.items():
        for seed in (100, 101):
            nats = None if known is None else [NATS - known * math.log(2)]
            cells.append({"cell": {"method": method, "rate": rate, "seed": seed}, "metrics": {"nats": nats}})
    return {"cells": cells}


def test_the_best_rate_is_chosen_and_an_edge_is_named():
    record = tuning(
        {("lora", 1e-3): 5, ("lora", 2e-3): 9, ("lora", 4e-3): 7, ("dora", 1e-3): 3, ("dora", 2e-3): 4}
    )
    assert tuned.chosen(record) == {"lora": 2e-3, "dora": 2e-3}
    assert tuned.at_edge(record) == {"dora": "highest"}
    assert tuned.by_rate(record, "lora") == pytest.approx({1e-3: 5, 2e-3: 9, 4e-3: 7})
    shown = repr(tuned.tuning_table(record))
    assert "0.001: 5, 0.002: 9, 0.004: 7" in shown and "highest" in shown


def test_a_diverged_run_is_never_chosen():
    record = tuning({("lora", 1e-3): 5, ("lora", 2e-3): None})
    assert tuned.chosen(record) == {"lora": 1e-3}
    with pytest.raises(LabError, match="Every rate of full diverged"):
        tuned.chosen(tuning({("full", 1.0): None}))


def test_rates_come_from_the_published_record_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    with pytest.raises(LabError, match="method_rates.json is missing.*experiment method_rates --publish"):
        tuned.rate("lora")
    from labsupport.experiments import method_comparison_experiment as comparison

    with pytest.raises(LabError, match="method_rates.json is missing"):
        comparison.run(comparison.CELLS[0])
    record = tuning({("lora", 1e-3): 5, ("lora", 2e-3): 9})
    (tmp_path / "method_rates.json").write_text(json.dumps(record))
    assert tuned.rate("lora") == 2e-3
    cells = [
        {"cell": {"method": "lora", "seed": seed}, "metrics": {"rate": rate}}
        for seed, rate in enumerate((2e-3, 1e-3))
    ]
    assert tuned.outdated({"cells": cells[:1]}) == []
    assert tuned.outdated({"cells": cells}) == ["lora"]
    with pytest.raises(LabError, match="no rates of 'full'"):
        tuned.rate("full")


# ---------------------------------------------------------------- the comparison


def run_of(method: str, seed: int, bits: float, budget: str = "steps", flops: int = 100) -> dict:
    metrics = {
        "nats": [NATS - bits * math.log(2)],
        "general": {"kl": bits / 10, "nll": 4.0, "tokens": 10},
        "seconds_a_step": 0.1 * (seed + 1) * flops / 100,
        "losses": [3.0, 2.0 - bits / 100],
    }
    if budget == "steps":  # what a method costs is measured once
        metrics |= {
            "parameters": 50,
            "file_bytes": 400,
            "flops_a_step": flops,
            "forward": {"base": 1.0, "unmerged": 3.0, "merged": 1.5},
            "moves": {
                "26": {"l.0.q_proj": [seed, bits], "l.1.q_proj": [seed + 1, bits + 2]},
                "52": {"l.0.q_proj": [seed + 2, bits + 4]},
            },
        }
    return {"cell": {"method": method, "budget": budget, "seed": seed}, "metrics": metrics}


@pytest.fixture
def record():
    cells = [run_of("lora", seed, 10 + seed) for seed in range(6)]
    cells += [run_of("rslora", seed, 12 + seed + (-1) ** seed / 2) for seed in range(6)]
    cells += [run_of("dora", seed, 10 + seed + (-1) ** seed, flops=130) for seed in range(6)]
    cells += [run_of("dora", seed, 7 + seed, budget="flops", flops=130) for seed in range(6)]
    return {"cells": cells}


def test_differences_are_paired_by_seed(record):
    mean, low, high = reading.versus(record, "bits", "rslora")
    assert mean == pytest.approx(2) and 1 < low < 2 < high < 3
    assert reading.versus(record, "kl", "rslora")[0] == pytest.approx(0.2)
    assert reading.versus(record, "bits", "dora", "flops") == pytest.approx((-3, -3, -3))
    # The same operations a step: equal steps and equal operations are one run.
    assert reading.versus(record, "bits", "rslora", "flops") == reading.versus(record, "bits", "rslora")


def test_dora_is_held_to_lora_of_its_own_scale(record):
    record["cells"] += [run_of("dora8", seed, 13 + seed) for seed in range(6)]
    lines = repr(scales.table(record)).splitlines()
    (line,) = [line for line in lines if line.startswith("DoRA, at scale 8")]
    # 13 + seed less 12 + seed +- 1 / 2, and not less LoRA's 10 + seed
    assert "+1 [" in line
    assert scales.slower(record, "dora8", "rslora")[0] == pytest.approx(-0.005)
    assert scales.slower(record, "dora8", "lora")[0] == pytest.approx(-0.015)


def test_a_target_is_reached_by_the_mean_of_an_epoch():
    falling = [3.0] * 13 + [1.0] * 13
    assert scales.steps_to(falling, 3.0) == 13
    assert scales.steps_to(falling, 1.0) == 26
    assert scales.steps_to(falling, 2.0) == 20  # seven of thirteen are down: 25 / 13
    assert scales.steps_to(falling, 0.9) is None


def test_the_steps_are_counted_to_where_lora_of_the_same_scale_ends():
    def run(method, losses):
        return {"cell": {"method": method, "budget": "steps", "seed": 0}, "metrics": {"losses": losses}}

    def again(cells):
        return [{**c, "cell": c["cell"] | {"seed": 1}} for c in cells]

    cells = [run("lora", [3.0] * 13 + [2.0] * 13), run("dora", [2.0] * 26)]
    cells += [run("rslora", [3.0] * 26), run("dora8", [4.0] * 26)]
    two, eight = repr(scales.steps_table({"cells": cells + again(cells)})).splitlines()[-2:]
    assert "-0.500" in two and "13, 13" in two
    assert "+1.000" in eight and "never, never" in eight


def swept(bits_of: dict) -> dict:
    return {
        "cells": [
            {
                "cell": {"method": method, "rank": rank, "rate": rate, "seed": seed},
                "metrics": {"nats": [NATS - (bits + 2 * seed) * math.log(2)]},
            }
            for (method, rank, rate), bits in bits_of.items()
            for seed in range(3)
        ]
    }


def test_ranks_are_compared_along_a_rate_and_at_each_ones_best():
    sweep = swept(
        {
            ("lora", 2, 1e-3): 5,
            ("lora", 2, 4e-3): 9,
            ("dora", 2, 1e-3): 10,
            ("dora", 2, 4e-3): 4,
            ("lora", 8, 1e-3): 20,
            ("lora", 8, 4e-3): 6,
            ("dora", 8, 1e-3): 20,
            ("dora", 8, 4e-3): 6,
        }
    )
    assert (ranks.best(sweep, "lora", 2), ranks.best(sweep, "dora", 2)) == (4e-3, 1e-3)
    assert ranks.gap(sweep, 2) == pytest.approx((1, 1, 1))
    assert ranks.gap(sweep, 2, 1e-3)[0] == pytest.approx(5)
    two, eight = repr(ranks.table(sweep)).splitlines()[-2:]
    assert "+1 [+1, +1]" in two and two.split()[-2:] == ["+5", "-5"]
    assert "+0 [+0, +0]" in eight
    assert [axis.get_title(loc="left") for axis in ranks.figure(sweep, "").axes] == ["rank 2", "rank 8"]


def test_no_difference_says_what_could_have_been_seen(record):
    mean, low, high = reading.versus(record, "bits", "dora")
    assert low < 0 < high
    seen = reading.detectable(record, "bits", "dora")
    # Differences of +1 and -1: a standard deviation of sqrt(6 / 5), t with five degrees of freedom.
    assert seen == pytest.approx((2.5706 + 0.9195) * math.sqrt(6 / 5) / math.sqrt(6), rel=1e-3)
    assert reading.verdict(record, "bits", "dora") == f"no detectable difference ({seen:,.0f} would be seen)"
    assert reading.verdict(record, "bits", "rslora") == "more than LoRA"
    assert reading.verdict(record, "bits", "dora", "flops") == "less than LoRA"


def test_tables_have_every_method_of_the_record(record):
    at_steps = repr(reading.comparison_table(record, "bits"))
    assert all(title in at_steps for title in ("LoRA", "rsLoRA", "DoRA", "6 paired seeds"))
    assert "+2 [" in at_steps and "PiSSA" not in at_steps
    assert "-3 [-3, -3]" in repr(reading.comparison_table(record, "bits", "flops"))
    costs = repr(reading.costs_table(record))
    assert "1.30" in costs and "3.00" in costs and "1.50" in costs


def test_correlations_are_of_one_kind_of_matrix_over_layers_and_moments(record):
    assert reading.moves(record, "lora", "q_proj")[0] == [(0, 10), (1, 12), (2, 14)]
    assert reading.moves(record, "lora", "v_proj") == []
    for cell in record["cells"]:
        if cell["cell"]["method"] == "dora" and "moves" in cell["metrics"]:
            cell["metrics"]["moves"] = {"26": {"l.0.q_proj": [0.0, 0.0], "l.1.q_proj": [0.0, 0.0]}}
    assert reading.moves(record, "dora", "q_proj") == []  # left alone, so nothing goes together
    assert "DoRA" not in repr(reading.correlation_table(record))
    assert "+1.00 [+1.00, +1.00]" in repr(reading.correlation_table(record))


def test_the_figure_names_every_method_where_it_stands(record):
    (axis,) = figures.over_parameters(record, "bits", "").axes
    places = {text.get_text().strip(): text.xy for text in axis.texts}
    assert places == {
        title: (50, pytest.approx(mean))
        for title, mean in {"LoRA": 12.5, "rsLoRA": 14.5, "DoRA": 12.5}.items()
    }


def test_names_are_spread_in_their_order():
    assert figures.spread([5.0, 0.0, 5.2], 1.0) == pytest.approx([5 - 0.8 / 3, -0.8 / 3, 6 - 0.8 / 3])
    assert figures.spread([], 1.0) == []


# ---------------------------------------------------------------- tickets


def scored(nats: float) -> dict:
    fields = dict.fromkeys(ticket_reading.by_row.FIELDS, [0.0, 0.0, 0.0])
    rows = {"id": ["a", "b", "c"], "exact": [1, 0, 1], "stops": [1, 1, 1]} | fields
    return {split: rows | {"intent": [nats, nats + 1, nats]} for split in ticket_reading.by_row.SETS}


def test_tickets_are_paired_by_row_and_seed():
    cells = [
        {"cell": {"method": method, "seed": seed}, "metrics": {"scores": scored(level + seed)}}
        for method, level in (("lora", 2.0), ("full", 1.5))
        for seed in range(2)
    ]
    record = {"cells": cells}
    assert ticket_reading.versus(record, "full", "test_lookalike", "answer") == pytest.approx((-0.5,) * 3)
    assert ticket_reading.detectable(record, "full", "test_lookalike", "answer") == pytest.approx(0, abs=1e-6)
    shown = repr(ticket_reading.table(record))
    assert "full fine-tuning" in shown and "-0.50" in shown and "DoRA" not in shown


# ---------------------------------------------------------------- what is recorded


def test_every_method_is_tuned_alike_on_seeds_of_its_own():
    from labsupport.experiments import method_comparison_experiment as comparison
    from labsupport.experiments import method_rates_experiment as rates

    assert set(methods.RATES) == set(methods.METHODS)
    trials = [len(grid) for grid in methods.RATES.values()]
    assert min(trials) >= 4
    for grid in methods.RATES.values():
        assert list(grid) == sorted(grid)
    assert not {c["seed"] for c in rates.CELLS} & {c["seed"] for c in comparison.CELLS}
    both = {(c["method"], c["budget"]) for c in comparison.CELLS}
    assert {method for method, budget in both if budget == "flops"} == {
        name for name, kind in methods.METHODS.items() if not kind.lora_flops
    }


def test_a_longer_grid_leaves_done_runs_valid(monkeypatch):
    from labsupport.experiments import method_rates_experiment as rates

    before = experiments.code_of(rates)
    monkeypatch.setattr(methods, "RATES", methods.RATES | {"lora": (1.0, 2.0)})
    assert experiments.code_of(rates) == before
    monkeypatch.setattr(methods, "ALPHA", 64)
    assert experiments.code_of(rates) != before


# ---------------------------------------------------------------- which method when


def test_every_choice_has_what_was_measured_for_it_or_is_called_an_opinion():
    found = [dict(zip(decision.table().headings, line, strict=True)) for line in decision.table().rows]
    assert len(found) >= 8
    for line in found:
        evidence = line["because"]
        assert evidence.startswith("opinion") or any(symbol.isdigit() for symbol in evidence), line
    (first,) = [line for line in found if line["you have"] == "a first run"]
    gap = reading.versus(experiments.published("method_comparison"), "bits", "dora")
    assert f"{gap[0]:+,.0f} [" in first["because"]
