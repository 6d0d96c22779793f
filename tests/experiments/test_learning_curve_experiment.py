"""The rows of each arm of the experiment learning_curve."""

from tiny_training import train_rows

from labsupport.experiments import learning_curve_experiment as experiment
from labsupport.tasks import tickets


def families(rows):
    return {row["family"] for row in rows}


def test_every_arm_but_the_largest_visits_as_many_rows():
    for arm in experiment.ARMS:
        rows = experiment.rows_of(arm, train_rows(), 0)
        assert experiment.VISITS % len(rows) == 0
    assert len(experiment.rows_of("rows512", train_rows(), 0)) == 2 * experiment.VISITS


def test_rows_of_different_families():
    for size in (32, 64, 128, 256, 512):
        assert len(families(experiment.rows_of(f"rows{size}", train_rows(), 0))) == size


def test_few_families_are_some_of_many():
    few, many = (experiment.rows_of(arm, train_rows(), 0) for arm in ("few_families", "rows128"))
    assert len(few) == len(many) == len({row["id"] for row in few})
    assert families(few) < families(many)
    assert len(families(few)) <= 45
    assert {row["intent"] for row in few} == set(tickets.INTENTS)


def test_noise_is_one_wrong_field_in_eight_percent_of_the_rows():
    clean = experiment.rows_of("rows256", train_rows(), 0)
    for seed in (0, 1):
        noisy = experiment.rows_of("noisy256", train_rows(), seed)
        wrong = [(a, b) for a, b in zip(clean, noisy, strict=True) if a != b]
        assert len(wrong) == 20
        for a, b in wrong:
            assert [field for field in tickets.FIELDS if a[field] != b[field]] == [b["changed"]]
            assert b["text"] == a["text"]
    assert experiment.rows_of("noisy256", train_rows(), 0) != experiment.rows_of("noisy256", train_rows(), 1)
