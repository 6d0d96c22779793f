"""The experiment of the baselines: which there are, and that no test row decides anything."""

from labsupport.baselines import comparisons, rule_based
from labsupport.experiments import baselines_experiment as experiment
from labsupport.tasks import tickets


def test_no_test_row_is_read_while_fitting(monkeypatch):
    """Settings come from validation: the experiment reads the test sets only after `fit`."""
    order = []
    monkeypatch.setattr(
        tickets, "load", lambda split, path=None, load=tickets.load: (order.append(split), load(split))[1]
    )
    monkeypatch.setattr(rule_based, "fit", lambda *a: order.append("fit") or FakeRules())
    result = experiment.run({"baseline": "rules"})
    assert order[:3] == ["train", "validation", "fit"] and set(order[3:]) == set(comparisons.SETS)
    assert {split: len(result[split]) for split in comparisons.SETS} == {
        "test_lookalike": 144,
        "test_production": 200,
    }
    assert {row["right"] for row in result["test_production"]} <= {f"{i:04b}" for i in range(16)}


class FakeRules:
    settings: dict = {}

    def predict(self, texts):
        return [{"intent": "return", "product": None, "order_id": None, "urgency": "normal"}] * len(texts)


def test_the_experiment_has_every_baseline_that_is_described():
    assert [cell["baseline"] for cell in experiment.CELLS] == list(comparisons.ABOUT)
    assert set(comparisons.PROMPTED) == {"zero_shot", *experiment.EXAMPLES}
