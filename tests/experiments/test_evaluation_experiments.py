"""What the experiments of notebook 07 train on and ask: that they answer the question they are said to."""

from labsupport.evaluation import general_text
from labsupport.experiments import (
    forgetting_experiment,
    judge_experiment,
    one_process_experiment,
    refusals_experiment,
    replay_experiment,
)
from labsupport.models import chat
from labsupport.tasks import general, policy, tickets


def test_replay_adds_general_rows_and_keeps_the_others(tokenizer):
    plain, mixed = (forgetting_experiment.training_rows(tokenizer, replay) for replay in (False, True))
    added = mixed[len(plain) :]
    assert mixed[: len(plain)] == plain
    assert len(added) == forgetting_experiment.REPLAYED
    assert round(100 * len(added) / len(mixed)) == 15
    assert all(len(row["input_ids"]) <= forgetting_experiment.REPLAY_TOKENS for row in added)
    assert all(any(label != chat.IGNORED for label in row["labels"]) for row in mixed)
    scored, replayed = general_text.held_out(general.load())
    begins = {
        name: [general.encode(row, tokenizer)[0][: forgetting_experiment.REPLAY_TOKENS] for row in rows]
        for name, rows in (("scored", scored), ("replayed", replayed))
    }
    assert all(row["input_ids"] in begins["replayed"] for row in added)
    assert not any(row["input_ids"] in begins["scored"] for row in added)


def test_fresh_replay_shows_no_piece_more_than_twice(tokenizer):
    pieces = replay_experiment.pieces(tokenizer)
    rows, seen = replay_experiment.FreshRows([{}] * forgetting_experiment.ROWS, pieces), []
    for rows.epoch in range(forgetting_experiment.EPOCHS):
        seen += [rows[i]["input_ids"] for i in range(forgetting_experiment.ROWS, len(rows))]
    assert max(map(seen.count, seen)) == 2
    scored = [general.encode(row, tokenizer)[0] for row in general_text.held_out(general.load())[0]]
    size = forgetting_experiment.REPLAY_TOKENS
    others = [ids[start : start + size] for ids in scored for start in range(0, len(ids), size)]
    assert not any(piece in others for piece in seen)
    assert all(any(label != chat.IGNORED for label in piece["labels"]) for piece in pieces)


def test_without_refusals_there_are_none_and_as_many_visits():
    for seed in (0, 1):
        both = {
            arm: refusals_experiment.training_rows(arm, seed) for arm in ("with_refusals", "answers_only")
        }
        assert {len(rows) for rows in both.values()} == {refusals_experiment.VISITS}
        assert all(row["answerable"] for row in both["answers_only"])
        share = sum(not row["answerable"] for row in both["with_refusals"]) / refusals_experiment.VISITS
        assert 0.3 < share < 0.4
    test = {row["family"] for row in policy.load("test")}
    assert not test & {row["family"] for row in refusals_experiment.training_rows("with_refusals", 0)}


def test_the_faulty_process_changes_exchanges_alone():
    for row in tickets.load("train")[:200]:
        labelled = one_process_experiment.faulty(row)
        assert labelled["intent"] != "exchange"
        assert (labelled != row) == (row["intent"] == "exchange")
        assert {**labelled, "intent": row["intent"]} == row


def test_the_pairs_of_the_judge_are_what_they_are_called():
    for row, right, other in judge_experiment.pairs("wrong"):
        assert policy.judge(row, right)["right"] and not policy.judge(row, other)["right"]
    for row, right, other in judge_experiment.pairs("longer"):
        assert other.startswith(right) and not policy.judge(row, other)["invented"]
    assert all(right == other for _, right, other in judge_experiment.pairs("same"))


def test_a_pair_in_both_orders_is_two_prompts(tokenizer):
    from tiny_training import tiny_model

    model = tiny_model(attn_implementation="eager").eval()
    row, right, other = judge_experiment.pairs("wrong")[0]
    first = judge_experiment.log_odds(model, tokenizer, row, right, other)
    assert first != judge_experiment.log_odds(model, tokenizer, row, other, right)
    assert judge_experiment.log_odds(model, tokenizer, row, right, right) == judge_experiment.log_odds(
        model, tokenizer, row, right, right
    )
