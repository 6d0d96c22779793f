"""The published records of notebook 08: complete, paired, and of the arms that they say."""

from labsupport.evaluation import experiments
from labsupport.experiments import qlora_budget_experiment, qlora_experiment, qlora_rates_experiment
from labsupport.qlora_runs import reading


def by_cell(name: str) -> dict[tuple, dict]:
    """A cell's settings as a tuple -> its metrics."""
    cells = experiments.published(name)["cells"]
    return {tuple(c["cell"].values()): c["metrics"] for c in cells}


def test_arms_are_paired_and_scored_where_they_say():
    found = by_cell("qlora")
    assert list(found) == [tuple(cell.values()) for cell in qlora_experiment.CELLS]
    ids = {split: found["full", 0]["own"][split]["id"] for split in reading.SETS}
    for (arm, seed), metrics in found.items():
        assert len(metrics["losses"]) == len(metrics["grad_norms"]) == qlora_experiment.ROWS // 8
        assert ("before" in metrics) == (seed == 0)
        assert ("other" in metrics) == (arm in qlora_experiment.OTHER)
        for where in ("before", "own", "other"):
            for split, expected in ids.items():
                assert where not in metrics or metrics[where][split]["id"] == expected


def test_the_first_loss_is_the_bases():
    """Adapters begin as nothing, so the first loss tells the base: the same for both arms on NF4."""
    found = by_cell("qlora")
    for seed in qlora_experiment.SEEDS:
        first = {arm: found[arm, seed]["losses"][0] for arm in qlora_experiment.ARMS}
        assert first["nf4"] == first["nf4, adapters in bfloat16"]
        assert len({first["full"], first["nf4"], first["noise"]}) == 3


def test_other_rates_and_lengths_are_of_the_same_runs():
    once, others = by_cell("qlora"), by_cell("qlora_budget")
    assert list(others) == [tuple(cell.values()) for cell in qlora_budget_experiment.CELLS]
    for (arm, rate, epochs, seed), metrics in others.items():
        assert len(metrics["losses"]) == 32 * epochs
        assert (
            metrics["losses"][0] == once[arm, seed]["losses"][0]
        )  # same base, first adapters and first rows
        assert metrics["dtype"] == once[arm, seed]["dtype"]
        assert metrics["learning_rate"] == 2e-3 * rate


def test_the_sweep_has_every_rate_and_length():
    found = by_cell("qlora_rates")
    assert list(found) == [tuple(cell.values()) for cell in qlora_rates_experiment.CELLS]
    for (arm, rate, epochs, seed), metrics in found.items():
        assert len(metrics["losses"]) == 13 * epochs  # 100 facts, 8 a step
        assert len(metrics["own"]) == qlora_rates_experiment.FACTS
        assert ("other" in metrics) == (arm == "nf4")
        assert metrics["losses"][0] == found[arm, 1e-3, epochs, seed]["losses"][0], (rate, epochs)
