"""Signs weighed: which cause is named first, and which only follows from another; and how it is told."""

import json

import pytest
from made_runs import made

from labsupport.diagnosis import report, verdict
from labsupport.run_folders.causes import BY_ID, CATALOGUE, PROVES, SUGGESTS, Sign
from labsupport.run_folders.run_folder import RunFolder, opened


def weighed(*signs) -> tuple[list[str], list[tuple[str, str]]]:
    """(causes that are named, in their order; (cause, root) of those that follow)."""
    run = RunFolder(folder=None)
    found = verdict.weighed(run, [Sign(cause, strength, "seen") for cause, strength in signs])
    return [one.cause.id for one in found.found], [
        (one.cause.id, root.cause.id) for one, root in found.following
    ]


def test_nothing_is_nothing():
    assert weighed() == ([], [])


def test_what_is_proven_comes_first():
    assert weighed(("prompt-in-loss", SUGGESTS), ("leaked-eval", PROVES))[0] == [
        "leaked-eval",
        "prompt-in-loss",
    ]


def test_two_signs_of_one_cause_are_one_cause():
    assert weighed(("truncated", SUGGESTS), ("truncated", PROVES))[0] == ["truncated"]


@pytest.mark.parametrize(
    "root, follows",
    [
        ("no-gradient", "lr-too-low"),
        ("truncated", "lr-too-low"),
        ("template-mismatch", "prompt-in-loss"),
        ("lr-too-high", "eos-not-learned"),
        ("lr-too-low", "adapter-inactive"),
        ("noisy-labels", "capacity-too-small"),
    ],
)
def test_a_root_explains_what_follows_from_it(root, follows):
    named, following = weighed((root, PROVES), (follows, PROVES))
    assert named == [root] and following == [(follows, root)]


def test_what_is_proven_does_not_follow_from_what_is_only_suggested():
    named, following = weighed(("lr-too-low", SUGGESTS), ("adapter-inactive", PROVES))
    assert named == ["adapter-inactive", "lr-too-low"] and not following


def test_the_catalogue_is_that_of_the_clinic():
    from labsupport.broken_runs import kinds

    assert {"healthy", *BY_ID} == {*kinds.KINDS, "eval-dtype"}  # of which tiny_base shows nothing
    for cause in CATALOGUE:
        assert all(part.endswith(".") for part in (cause.why, cause.check.replace("?", "."), cause.fix)), (
            cause.id
        )
    assert all(root in BY_ID and brought <= BY_ID.keys() for root, brought in verdict.BRINGS.items())


@pytest.fixture
def diagnosis(tmp_path):
    run = opened(made(tmp_path / "run", tokenizer=False))
    return verdict.weighed(
        run,
        [
            Sign("truncated", PROVES, "12 of 20 rows are cut off", "row 3"),
            Sign("lr-too-low", SUGGESTS, "the loss stays"),
        ],
    )


def test_the_report_says_cause_evidence_check_and_fix(diagnosis):
    said = " ".join(report.in_words(diagnosis).split())
    cause = BY_ID["truncated"]
    for part in (cause.title, "row 3: 12 of 20 rows", cause.why, cause.check, cause.fix, "proven"):
        assert part in said
    assert "lr-too-low follows from truncated" in said and said.endswith("Most likely: truncated (proven).")
    assert "--data" in said  # what was not checked


def test_the_report_of_a_run_without_signs(tmp_path):
    run = opened(made(tmp_path / "run", tokenizer=False))
    said = report.in_words(verdict.weighed(run, []))
    assert report.NOTHING in said and "20 lines, 100 steps" in said and "rank 4" in said


def test_the_document_says_the_same(diagnosis):
    found = json.loads(json.dumps(report.as_document(diagnosis), allow_nan=False))
    assert [one["id"] for one in found["causes"]] == ["truncated"] and not found["healthy"]
    assert found["causes"][0]["evidence"][0]["where"] == "row 3"
    assert found["following"][0]["root"] == "truncated"


def test_what_rows_hold_cannot_harm_a_terminal(diagnosis):
    diagnosis.found[0].signs.append(Sign("truncated", PROVES, "\x1b[2Jgone"))
    assert "\x1b" not in report.in_words(diagnosis)
