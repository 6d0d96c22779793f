"""training_args.bin read as data: what TRL saves is understood, and nothing in a pickle is ever run."""

import os
import pickle

import pytest
import torch
from trl import SFTConfig

from labsupport.run_folders.pickled_values import Unreadable, arguments_in


def saved(path, thing, **options):
    torch.save(thing, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_the_plain_fields_are_those_of_the_config(zipped, tmp_path):
    config = SFTConfig(
        output_dir="run", use_cpu=True, bf16=False, learning_rate=3e-4, max_length=None,
        lr_scheduler_type="cosine", gradient_checkpointing_kwargs={"use_reentrant": True},
        report_to="none", eval_strategy="steps", eval_steps=7,
    )  # fmt: skip
    path = saved(tmp_path / "training_args.bin", config, _use_new_zipfile_serialization=zipped)
    if not zipped:  # the older format has its version in front
        with pytest.raises(Unreadable):
            arguments_in(path)
        return
    found = arguments_in(path)
    assert found["learning_rate"] == 3e-4 and found["max_length"] is None and found["report_to"] == []
    assert (found["lr_scheduler_type"], found["eval_strategy"], found["eval_steps"]) == ("cosine", "steps", 7)
    assert found["gradient_checkpointing_kwargs"] == {"use_reentrant": True}
    for name, value in found.items():
        if isinstance(value, (int, float, bool)) and not name.startswith("_"):
            assert getattr(config, name) == value, name


class Evil:
    """What unpickles as a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_not_run(protocol, tmp_path):
    mark = tmp_path / "ran"
    evil = Evil(f"touch {mark}")
    path = tmp_path / "training_args.bin"
    path.write_bytes(pickle.dumps(evil, protocol))
    with pytest.raises(Unreadable):  # it has no fields
        arguments_in(path)
    torch.save(evil, path)
    with pytest.raises(Unreadable):
        arguments_in(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(evil, protocol))
    assert mark.exists()  # or the test would prove nothing


def test_a_call_hidden_in_a_field_is_left_out(tmp_path):
    mark = tmp_path / "ran"
    config = SFTConfig(output_dir="run", use_cpu=True, bf16=False, learning_rate=1e-3)
    config.hidden = [Evil(f"touch {mark}")]
    found = arguments_in(saved(tmp_path / "training_args.bin", config))
    assert found["learning_rate"] == 1e-3 and "hidden" not in found and not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\x80\x02", b"PK\x03\x04 cut", b"\x80\x02}q\x00.", b"(((("]
)
def test_what_is_no_such_file(content, tmp_path):
    path = tmp_path / "training_args.bin"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        arguments_in(path)
