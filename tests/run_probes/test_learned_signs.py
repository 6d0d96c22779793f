"""What a trained model makes of its training rows and of others, from numbers alone: nothing is run."""

from labsupport.run_probes import learned_signs
from labsupport.run_probes.learned_probes import Known


def rows_of(nats, regret=0.0, end=0.01, end_regret=0.0) -> list[Known]:
    """Rows of four tokens; nats and regret: of the hardest token, a number or one a row."""
    regrets = regret if isinstance(regret, list) else [regret] * len(nats)
    return [
        Known(f"row {place}", [one, 0.0, 0.0, 0.0], [worst, 0.0, 0.0, 0.0], end, end_regret)
        for place, (one, worst) in enumerate(zip(nats, regrets, strict=True), start=1)
    ]


def learned(trained, evaluated=(), before=8.0, rows=0) -> learned_signs.Learned:
    few = trained[:16]
    return learned_signs.Learned(
        rows or len(trained), trained, list(evaluated), few, rows_of([before] * len(few))
    )


def causes(measured, monkeypatch) -> list[str]:
    monkeypatch.setattr(learned_signs, "measured", lambda *_: measured)
    return [sign.cause for sign in learned_signs.of(None, None, None)]


HARD = [0.1, 0.2, 0.1, 4.0] * 8  # of the evaluation: every fourth row is wrong
WELL = [0.05, 0.1, 0.2, 0.1] * 12


def test_a_run_that_learned_and_generalised_gives_no_sign(monkeypatch):
    trained = rows_of(WELL)
    assert causes(learned(trained, rows_of(HARD, [0.0, 0.0, 0.0, 3.5] * 8)), monkeypatch) == []
    assert causes(learned(trained), monkeypatch) == []


def test_few_steps_make_rows_of_both_kinds_hard_and_are_no_noise(monkeypatch):
    trained = rows_of([0.5, 3.0, 4.0, 2.0] * 12, [0.0, 2.5, 3.0, 1.0] * 12)
    evaluated = rows_of([0.5, 3.0, 4.2, 2.0] * 8, [0.0, 2.5, 3.2, 1.0] * 8)
    assert causes(learned(trained, evaluated), monkeypatch) == []


def test_training_rows_that_are_worse_known_than_others_are_noise(monkeypatch):
    trained = rows_of([0.1, 0.1, 0.1, 7.0] * 12, [0.0, 0.0, 0.0, 6.5] * 12)
    assert causes(learned(trained, rows_of([0.1, 0.2] * 16)), monkeypatch) == ["noisy-labels"]


def test_rows_known_by_heart_beside_unknown_ones_are_memorised(monkeypatch):
    by_heart, unknown = rows_of([0.01] * 16), rows_of([6.0] * 20, 5.0)
    assert causes(learned(by_heart, unknown), monkeypatch) == ["memorised"]
    assert causes(learned(by_heart, unknown, rows=500), monkeypatch) == []  # facts, say


def test_an_answer_behind_which_the_model_goes_on(monkeypatch):
    trained = rows_of(WELL, end=4.0, end_regret=3.9)
    assert causes(learned(trained), monkeypatch) == ["eos-not-learned"]


def test_answers_that_are_unknown_say_nothing_about_the_end(monkeypatch):
    trained = rows_of([4.0] * 48, 3.0, end=4.0, end_regret=3.9)
    assert causes(learned(trained), monkeypatch) == []


def test_a_loss_that_hardly_left_the_bases(monkeypatch):
    assert causes(learned(rows_of([7.9] * 16, 5.0)), monkeypatch) == ["lr-too-low"]


def test_a_loss_above_the_bases(monkeypatch):
    assert causes(learned(rows_of([20.0, 22.0] * 8, 9.0)), monkeypatch) == ["lr-too-high"]
