"""Recorded runs: killed, corrupted, out of disk or repeated, the result is the same to the last bit."""

import contextlib
import errno
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh_process
import numpy as np
import pytest
import torch
from tiny_training import NAME, tiny_model, tiny_trainer
from transformers import TrainerCallback, set_seed

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.tasks import tickets
from labsupport.training import fingerprint, old_runs, prefixes, run_store

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RUNS", tmp_path / "runs")
    return files.RUNS


def train(tokenizer, **settings):
    trainer = tiny_trainer(tokenizer, **settings)
    run = run_store.recorded(trainer, NAME)
    return trainer, run


def result(trainer, run):
    """What must not depend on interruptions: the weights and the logged losses."""
    assert len(run.losses()[1]) > 1
    return fingerprint.weights_hash(trainer.model), run.losses(), trainer.model.training


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    """The uninterrupted run: its folder for runs and its result."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "RUNS", folder)
        trainer, run = train(tokenizer)
        assert run.outcome == "trained"
        assert fingerprint.weights_hash(trainer.model) != fingerprint.weights_hash(
            tiny_trainer(tokenizer).model
        )
        return folder, result(trainer, run)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """For each moment, the folder for runs that a process killed at that moment left behind."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork and no SIGKILL on this system")
    folder = tmp_path_factory.mktemp("killed")
    program = (
        f"import pathlib, tiny_training\ntiny_training.kill_at_every_moment(pathlib.Path({str(folder)!r}))"
    )
    fresh_process.run(program)
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    """A copy of a folder for runs; returns the folder of its one run."""
    shutil.copytree(folder, target)
    (run,) = target.glob(f"{NAME}-*")
    return run


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize(
    ("moment", "start"),
    [
        ("before_first_checkpoint", None),
        ("after_checkpoint", 3),
        ("in_checkpoint", 3),
        ("before_manifest", 3),
        ("in_second_epoch", 9),
        ("in_final_weights", 9),
        ("before_run_json", 9),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_and_losses(
    moment, start, killed, whole, runs, tokenizer, capsys
):
    folder = copy_of(killed / moment, runs)
    assert not (folder / "run.json").exists()
    trainer, run = train(tokenizer)
    assert run.outcome == ("resumed" if start else "trained")
    said = re.findall(r"from checkpoint-(\d+)", capsys.readouterr().out)
    assert said == ([str(start)] if start else [])
    assert result(trainer, run) == whole[1]
    assert not (folder / "checkpoints").exists()


def interrupt(tokenizer, at, **settings):
    """Train, and stop at the beginning of step `at` as Ctrl-C does."""
    trainer = tiny_trainer(tokenizer, **settings)
    real = trainer.training_step

    def step(*args, **kwargs):
        if trainer.state.global_step == at:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    trainer.training_step = step
    with pytest.raises(KeyboardInterrupt):
        run_store.recorded(trainer, NAME)


def test_a_checkpoint_between_two_epochs_resumes_to_the_same_weights(runs, tokenizer, monkeypatch):
    settings = {"steps": 16}  # saves at 4, 8, 12, 16; the first epoch ends at 8
    trainer, run = train(tokenizer, **settings)
    expected = result(trainer, run)
    shutil.rmtree(runs)
    interrupt(tokenizer, 9, **settings)
    trainer, run = train(tokenizer, **settings)
    assert run.outcome == "resumed"
    assert result(trainer, run) == expected


def test_losses_are_the_same_when_saves_and_logs_fall_on_different_steps(runs, tokenizer):
    settings = {"logging_steps": 2, "steps": 10}
    trainer, run = train(tokenizer, **settings)
    expected = result(trainer, run)
    shutil.rmtree(runs)
    interrupt(tokenizer, 7, **settings)
    trainer, run = train(tokenizer, **settings)
    assert run.outcome == "resumed"
    assert result(trainer, run) == expected


def test_random_numbers_drawn_between_building_and_training_change_nothing(whole, runs, tokenizer):
    trainer = tiny_trainer(tokenizer)
    torch.rand(1000)
    assert result(trainer, run_store.recorded(trainer, NAME)) == whole[1]


# ---------------------------------------------------------------- corrupt checkpoints


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


CORRUPTIONS = {
    "truncated optimizer": lambda checkpoint: truncate(checkpoint / "optimizer.pt"),
    "missing state": lambda checkpoint: (checkpoint / "trainer_state.json").unlink(),
    "missing manifest": lambda checkpoint: (checkpoint / "manifest.json").unlink(),
    "empty manifest": lambda checkpoint: (checkpoint / "manifest.json").write_text(""),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_corrupt_checkpoint_is_named_and_the_older_one_used(
    corrupt, killed, whole, runs, tokenizer, capsys
):
    checkpoints = copy_of(killed / "in_second_epoch", runs) / "checkpoints"
    assert sorted(c.name for c in checkpoints.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-9"]
    corrupt(checkpoints / "checkpoint-9")
    trainer, run = train(tokenizer)
    said = capsys.readouterr().out
    assert "checkpoint-9 is not whole" in said
    assert "resumed from checkpoint-6" in said
    assert result(trainer, run) == whole[1]


def test_with_no_whole_checkpoint_it_starts_again(killed, whole, runs, tokenizer, capsys):
    checkpoints = copy_of(killed / "in_second_epoch", runs) / "checkpoints"
    for checkpoint in checkpoints.glob("checkpoint-*"):
        truncate(checkpoint / "optimizer.pt")
    trainer, run = train(tokenizer)
    assert capsys.readouterr().out.count("is not whole") == 2
    assert run.outcome == "trained"
    assert result(trainer, run) == whole[1]


# ---------------------------------------------------------------- loading


def refuse_to_train(trainer) -> None:
    def fail(*args, **kwargs):
        raise AssertionError("it trained")

    trainer.train = fail


def test_the_same_run_is_loaded_not_trained(whole, runs, tokenizer, capsys):
    copy_of(whole[0], runs)
    trainer = tiny_trainer(tokenizer)
    refuse_to_train(trainer)
    run = run_store.recorded(trainer, NAME)
    assert run.outcome == "loaded"
    assert capsys.readouterr().out.startswith(f"{NAME}: loaded, trained before in ")
    assert result(trainer, run) == whole[1]
    assert trainer.state.log_history == run.log
    assert trainer.state.global_step == 12


def test_the_cell_run_again_loads_and_changes_nothing(runs, tokenizer):
    trainer, first = train(tokenizer)
    expected = result(trainer, first)
    refuse_to_train(trainer)
    for _ in range(2):
        again = run_store.recorded(trainer, NAME)
        assert again.outcome == "loaded"
        assert result(trainer, again) == expected


def test_a_used_trainer_with_other_settings_is_refused(whole, runs, tokenizer):
    copy_of(whole[0], runs)
    trainer, _ = train(tokenizer)
    trainer.args.learning_rate = 5e-3
    with pytest.raises(LabError, match="has trained before"):
        run_store.recorded(trainer, NAME)


def mixed(tokenizer):
    """Adapters in float32 on a bfloat16 base, trained in mixed precision."""
    trainer = tiny_trainer(tokenizer, steps=4, lora={"lora_dropout": 0.0}, bf16=True, save_strategy="no")
    for parameter in trainer.model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    return trainer


def test_mixed_precision_trains_the_same_weights_without_pefts_casts(runs, tokenizer):
    usual, ours = mixed(tokenizer), mixed(tokenizer)
    inputs = {usual: set(), ours: set()}
    for trainer, seen in inputs.items():
        adapters = [m for name, m in trainer.model.named_modules() if name.endswith("lora_A.default")]
        for module in adapters:
            module.register_forward_pre_hook(lambda module, args, seen=seen: seen.add(args[0].dtype))
    usual.train()
    run_store.recorded(ours, NAME)
    assert list(inputs.values()) == [{torch.float32}, {torch.bfloat16}]
    assert fingerprint.weights_hash(ours.model) == fingerprint.weights_hash(usual.model)


def test_after_mixed_precision_a_trained_model_computes_as_a_loaded_one(runs, tokenizer):
    trained, loaded = mixed(tokenizer), mixed(tokenizer)
    assert [run_store.recorded(each, NAME).outcome for each in (trained, loaded)] == ["trained", "loaded"]
    ids = torch.arange(8)[None]
    with torch.no_grad():
        logits, again = (each.model.eval()(input_ids=ids).logits for each in (trained, loaded))
    assert torch.equal(logits, again) and logits.dtype == again.dtype == torch.bfloat16


@pytest.mark.parametrize("make", [tiny_trainer, mixed], ids=["float32", "mixed precision"])
def test_scores_of_a_trained_model_serve_the_loaded_one(make, runs, tokenizer):
    trained, loaded = make(tokenizer), make(tokenizer)
    assert [run_store.recorded(each, NAME).outcome for each in (trained, loaded)] == ["trained", "loaded"]
    assert fingerprint.of_model(trained.model) == fingerprint.of_model(loaded.model)


def test_with_a_shared_prompt_it_learns_the_same_from_fewer_tokens(runs, tokenizer):
    settings = {"lora": {"lora_dropout": 0.0}, "steps": 6, "save_strategy": "no"}
    padded, shared = tiny_trainer(tokenizer, **settings), tiny_trainer(tokenizer, **settings)
    prefixes.share(shared)
    padded.train()
    run = run_store.recorded(shared, NAME)
    logs = [[entry for entry in trainer.state.log_history if "loss" in entry] for trainer in (padded, shared)]
    for theirs, ours in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-2)
        assert 0 < ours["num_tokens"] < theirs["num_tokens"]
    assert run.losses()[1][-1] < 0.99 * run.losses()[1][0]


def test_full_training_without_an_adapter_is_loaded_too(runs, tokenizer):
    trainer, run = train(tokenizer, lora=False, steps=4)
    again = tiny_trainer(tokenizer, lora=False, steps=4)
    refuse_to_train(again)
    assert result(again, run_store.recorded(again, NAME)) == result(trainer, run)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: truncate(folder / "trained.safetensors"),
        lambda folder: (folder / "trained.safetensors").unlink(),
        lambda folder: truncate(folder / "run.json"),
        lambda folder: (folder / "run.json").write_text("[]"),
        lambda folder: (folder / "run.json").write_text("{}"),
    ],
)
def test_a_damaged_run_is_named_and_trained_again(damage, whole, runs, tokenizer, capsys):
    damage(copy_of(whole[0], runs))
    trainer, run = train(tokenizer)
    assert "is damaged" in capsys.readouterr().out
    assert run.outcome == "trained"
    assert result(trainer, run) == whole[1]


# ---------------------------------------------------------------- the fingerprint


@pytest.fixture(scope="module")
def usual(tokenizer):
    torch.set_num_threads(1)
    return fingerprint.fingerprint(tiny_trainer(tokenizer))


def other_text():
    rows = tickets.load("train")[:16]
    return [*rows[:-1], rows[-1] | {"text": rows[-1]["text"] + " Thanks."}]


CHANGES = {
    "text": lambda: {"rows": other_text()},
    "seed": lambda: {"seed": 1},
    "learning rate": lambda: {"learning_rate": 2e-2},
    "alpha": lambda: {"lora": {"lora_alpha": 16}},
    "dropout": lambda: {"lora": {"lora_dropout": 0.2}},
    "weights": lambda: {"model_seed": 1},
    "epochs": lambda: {"steps": -1, "num_train_epochs": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_what_decides_the_result(change, usual, tokenizer):
    assert fingerprint.fingerprint(tiny_trainer(tokenizer, **change())) != usual


def test_the_fingerprint_changes_with_the_code_of_a_collator(usual, tokenizer):
    def one_way(rows):
        return prefixes.collate(rows)

    def another_way(rows):
        return prefixes.collate(rows[:1])

    found = {usual}
    for collator in (prefixes.collate, one_way, another_way):
        trainer = tiny_trainer(tokenizer)
        trainer.data_collator = collator
        found.add(fingerprint.fingerprint(trainer))
    assert len(found) == 4


def test_the_fingerprint_changes_with_threads_optimizer_and_attention(usual, tokenizer):
    trainer = tiny_trainer(tokenizer)
    assert fingerprint.fingerprint(trainer) == usual
    torch.set_num_threads(2)
    assert fingerprint.fingerprint(trainer) != usual
    torch.set_num_threads(1)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    with_one_rate = fingerprint.fingerprint(trainer)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.2)
    assert len({usual, with_one_rate, fingerprint.fingerprint(trainer)}) == 3
    trainer.optimizer = None
    trainer.model.set_attn_implementation("eager")
    assert fingerprint.fingerprint(trainer) != usual


class Collator:
    """A collator of a learner: a class with settings."""

    def __init__(self, keep: int):
        self.keep = keep

    def __call__(self, rows):
        return prefixes.collate(rows[: self.keep])


class Callback(TrainerCallback):
    """Counts steps, as callbacks do."""

    def __init__(self, every: int):
        self.every, self.seen = every, 0

    def on_step_end(self, args, state, control, **kwargs):
        self.seen += 1


def cut(rows, keep):
    return prefixes.collate(rows[:keep])


def with_collator(collator):
    def change(trainer):
        trainer.data_collator = collator

    return change


def with_callback(every):
    return lambda trainer: trainer.add_callback(Callback(every))


def with_reference(seed):
    def change(trainer):
        trainer.ref_model = tiny_model(seed, vocab_size=64)

    return change


def with_loss(power):
    def change(trainer):
        trainer.compute_loss_func = lambda outputs, labels, **_: outputs.loss**power

    return change


HANDED_IN = {
    "settings of a collator": [with_collator(Collator(1)), with_collator(Collator(2))],
    "arguments of a partial": [
        with_collator(functools.partial(cut, keep=1)), with_collator(functools.partial(cut, keep=2))
    ],
    "settings of a callback": [with_callback(1), with_callback(2)],
    "a reference model": [with_reference(0), with_reference(1)],
    "a loss": [with_loss(1), with_loss(2)],
}  # fmt: skip


@pytest.mark.parametrize("changes", HANDED_IN.values(), ids=HANDED_IN)
def test_the_fingerprint_changes_with_what_is_handed_in(changes, usual, tokenizer):
    found = {usual}
    for change in changes:
        for _ in range(2):  # made anew it is the same
            trainer = tiny_trainer(tokenizer)
            change(trainer)
            found.add(fingerprint.fingerprint(trainer))
    assert len(found) == 3


def test_the_fingerprint_changes_with_a_function_that_a_collator_calls(usual, tokenizer, monkeypatch):
    def collator(rows):
        return prefixes.collate(rows)

    trainer = tiny_trainer(tokenizer)
    trainer.data_collator = collator
    before = fingerprint.fingerprint(trainer)
    monkeypatch.setattr(prefixes, "first_trained", lambda labels: 0)
    assert fingerprint.fingerprint(trainer) != before


def test_a_callback_that_has_counted_does_not_hide_the_run(runs, tokenizer):
    trainer = tiny_trainer(tokenizer, steps=4)
    trainer.add_callback(Callback(2))
    first = run_store.recorded(trainer, NAME)
    assert run_store.recorded(trainer, NAME).fingerprint == first.fingerprint
    trainer.callback_handler.callbacks[-1].every = 3
    trainer.add_callback(Callback(3))
    with pytest.raises(LabError, match="has trained before"):
        run_store.recorded(trainer, NAME)


@pytest.mark.parametrize(
    "change", [{"output_dir": "elsewhere"}, {"logging_steps": 5}, {"disable_tqdm": False}], ids=str
)
def test_the_fingerprint_does_not_change_with_paths_and_logging(change, usual, tokenizer):
    assert fingerprint.fingerprint(tiny_trainer(tokenizer, **change)) == usual


# ---------------------------------------------------------------- seeds and random states


def orders(tokenizer, seed: int, sampling: str) -> list[list[int]]:
    """The rows of each of three epochs, in the order in which they were trained."""
    trainer = tiny_trainer(
        tokenizer, rows=8, steps=-1, num_train_epochs=3, seed=seed, train_sampling_strategy=sampling
    )
    seen, real = [], trainer.training_step
    rows = [tuple(row["input_ids"]) for row in trainer.train_dataset]

    def step(model, inputs, *rest, **options):
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            seen.append(rows.index(tuple(ids[mask.bool()].tolist())))
        return real(model, inputs, *rest, **options)

    trainer.training_step = step
    run_store.recorded(trainer, f"{NAME}-{sampling}-{seed}")
    return [seen[start : start + 8] for start in (0, 8, 16)]


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_no_epoch_of_a_seed_has_the_order_of_an_epoch_of_another(sampling, runs, tokenizer):
    epochs = [order for seed in (0, 1, 2) for order in orders(tokenizer, seed, sampling)]
    assert all(sorted(order) == list(range(8)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 9


def test_the_first_epoch_has_the_trainers_own_order(runs, tokenizer):
    plain = tiny_trainer(tokenizer, steps=8, seed=3, train_sampling_strategy="random", save_strategy="no")
    ours = tiny_trainer(tokenizer, steps=8, seed=3, train_sampling_strategy="random")
    plain.train()
    run_store.recorded(ours, NAME)
    assert fingerprint.weights_hash(ours.model) == fingerprint.weights_hash(plain.model)


def test_a_random_order_is_taken_up_again_in_the_second_epoch(runs, tokenizer):
    settings = {"train_sampling_strategy": "random", "steps": 16}
    expected = result(*train(tokenizer, **settings))
    shutil.rmtree(runs)
    interrupt(tokenizer, 13, **settings)
    trainer, run = train(tokenizer, **settings)
    assert run.outcome == "resumed"
    assert result(trainer, run) == expected


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_trained_resumed_or_loaded_the_random_state_is_as_before(runs, tokenizer):
    outcomes, numbers = [], []
    for interrupted in (False, False, True):
        if interrupted:
            shutil.rmtree(runs)
            interrupt(tokenizer, 7)
        trainer = tiny_trainer(tokenizer)
        set_seed(1234)
        expected = drawn()
        set_seed(1234)
        outcomes.append(run_store.recorded(trainer, NAME).outcome)
        numbers.append(drawn())
    assert outcomes == ["trained", "loaded", "resumed"]
    assert numbers == [expected] * 3


# ---------------------------------------------------------------- runs recorded before the package had rooms


def test_a_run_found_under_the_hash_of_then_is_loaded(runs, tokenizer, monkeypatch):
    def new_trainer(**settings):
        trainer = tiny_trainer(tokenizer, steps=4, **settings)
        prefixes.share(trainer)
        return trainer

    trainer = new_trainer()
    old = runs / f"{NAME}-{old_runs.key_then(trainer, fingerprint.weights_hash(trainer.model))[:12]}"
    run = run_store.recorded(trainer, NAME)
    expected = result(trainer, run)
    run.folder.rename(old)
    key = old_runs.key_then(new_trainer(), fingerprint.of_model(new_trainer().model)["weights"])
    record = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps(record | {"fingerprint": key}))

    again = new_trainer()
    refuse_to_train(again)
    assert result(again, run_store.recorded(again, NAME)) == expected
    assert (old / "run.json").exists()  # it is the learner's
    assert run_store.recorded(new_trainer(seed=1), NAME).outcome == "trained"


def test_what_the_hash_of_then_did_not_see_is_not_taken_over(tokenizer):
    def could_be_found(change, **settings):
        trainer = tiny_trainer(tokenizer, **{"steps": 4} | settings)
        prefixes.share(trainer)
        change(trainer)
        return old_runs.could_be_found(trainer)

    assert could_be_found(lambda trainer: None)
    for changes in HANDED_IN.values():
        assert not could_be_found(changes[0])
    assert not could_be_found(lambda trainer: None, steps=16)  # a second epoch has another order now


def test_the_collator_is_still_the_one_of_then():
    assert old_runs.collator_source() == old_runs.SOURCE_THEN, "delete labsupport/training/old_runs.py"


# ---------------------------------------------------------------- disk trouble


def raises(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def fails_with_one_line(tokenizer, runs) -> None:
    """Training ends with a LabError of one line and leaves no half-written result."""
    with pytest.raises(LabError) as caught:
        train(tokenizer)
    assert "\n" not in str(caught.value)
    assert "annot be written" in str(caught.value) or "Cannot write" in str(caught.value)
    left = {file.name for file in runs.rglob("*") if file.is_file()}
    assert not any(".tmp" in name or name.startswith(".") for name in left)
    assert "run.json" not in left


FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")
STACK = "[enforce fail at inline_container.cc:664] . unexpected pos 128 vs 22\nframe #0: c10::..."


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("torch.save", FULL),
        ("torch.save", READ_ONLY),
        ("torch.save", RuntimeError(STACK)),
        ("labsupport.training.run_store.save_file", FULL),
        ("labsupport.training.run_store.save_file", READ_ONLY),
        ("os.fsync", FULL),
    ],
)
def test_disk_trouble_is_one_line_and_the_next_try_ends_right(
    where, error, whole, runs, tokenizer, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(where, raises(error))
        fails_with_one_line(tokenizer, runs)
    assert result(*train(tokenizer)) == whole[1]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes cannot be multiplied"),
        RuntimeError("assignment destination is read-only"),
        OSError("tiny is not a local folder and is not a valid model identifier"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_other_errors_are_not_blamed_on_the_disk(error, runs, tokenizer):
    trainer = tiny_trainer(tokenizer)
    trainer.training_step = raises(error)
    with pytest.raises(type(error), match=str(error)[-15:]):
        run_store.recorded(trainer, NAME)


def test_another_error_while_the_weights_are_saved_is_not_blamed_on_the_disk(runs, tokenizer, monkeypatch):
    monkeypatch.setattr("labsupport.training.run_store.save_file", raises(ValueError("shared tensors")))
    with pytest.raises(ValueError, match="shared tensors"):
        train(tokenizer)


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Mounts a real file system of a given size for the runs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no mount command: {error}")
        if done.returncode:
            pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
        mounted.append(folder)
        monkeypatch.setattr(files, "RUNS", folder)
        return folder

    yield mount
    with contextlib.suppress(OSError):
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


# From "not even the weights of a checkpoint" to "one checkpoint, or most of it, but no second".
@pytest.mark.parametrize("size", ["16k", "128k", "4200k"])
def test_a_really_full_disk(size, whole, small_disk, tokenizer):
    runs = small_disk(f"size={size}")
    fails_with_one_line(tokenizer, runs)
    subprocess.run(["mount", "-o", "remount,size=64m", str(runs)], check=True)
    assert result(*train(tokenizer)) == whole[1]


def test_a_really_read_only_disk(whole, small_disk, tokenizer):
    runs = small_disk("size=64m")
    subprocess.run(["mount", "-o", "remount,ro", str(runs)], check=True)
    fails_with_one_line(tokenizer, runs)
    subprocess.run(["mount", "-o", "remount,rw", str(runs)], check=True)
    assert result(*train(tokenizer)) == whole[1]


# ---------------------------------------------------------------- two at once


def test_two_processes_on_one_run_the_second_is_told(runs, tokenizer):
    trainer = tiny_trainer(tokenizer)
    folder = runs / f"{NAME}-{fingerprint.fingerprint(trainer)[:12]}"
    folder.mkdir(parents=True)
    code = (
        "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(LabError, match="is training this run"):
            run_store.recorded(trainer, NAME)
        holder.kill()  # a killed process holds no lock
        holder.wait()
        assert run_store.recorded(trainer, NAME).outcome == "trained"
    finally:
        holder.kill()
        holder.communicate()


def test_run_json_names_the_weights_it_belongs_to(whole):
    (folder,) = whole[0].glob(f"{NAME}-*")
    record = json.loads((folder / "run.json").read_text())
    assert record["sha256"] == files.sha256(folder / "trained.safetensors")
