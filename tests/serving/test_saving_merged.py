import collections
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serving import saving

IDS = torch.arange(40)[None]


def test_shards_give_the_same_logits_and_the_same_prompt(tmp_path):
    model, tokenizer = tiny_base.load()
    written = saving.save_merged(model, tokenizer, tmp_path / "merged", shard_gb=0.003)
    assert len(written) > 1
    assert sum(file.stat().st_size for file in written) == pytest.approx(saving.bytes_of(model), rel=0.01)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model.eval()(IDS).logits)
    chat = [{"role": "user", "content": "Where is order 12?"}]
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert reloaded.apply_chat_template(chat)["input_ids"] == tokenizer.apply_chat_template(chat)["input_ids"]


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 10**6, 10**6))
    model, tokenizer = tiny_base.load()
    with pytest.raises(LabError, match=r"needs 0.0719 GB in .*deep/merged, and 0.001 GB are free"):
        saving.save_merged(model, tokenizer, tmp_path / "deep" / "merged")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_folder_that_cannot_be_finished(tmp_path, monkeypatch):
    model, tokenizer = tiny_base.load()
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "old").touch()

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(LabError, match="No space left"):
        saving.save_merged(model, tokenizer, tmp_path / "merged")
    assert [place.name for place in tmp_path.rglob("*")] == ["merged", "old"]


def test_a_model_that_is_not_merged_is_refused(tmp_path):
    model, tokenizer = tiny_base.load()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(LabError, match="merge_and_unload"):
        saving.save_merged(adapted, tokenizer, tmp_path / "merged")
