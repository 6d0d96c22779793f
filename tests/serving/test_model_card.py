from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard, hf_api
from peft import LoraConfig, get_peft_model

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serving import model_card

GIVEN = {
    "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "dataset": "tickets",
    "results": {"exact_match": 0.8125, "macro_f1": 0.77},
    "limits": ["English messages only."],
    "license": "apache-2.0",
}


@pytest.fixture
def adapter(tmp_path):
    model, _ = tiny_base.load()
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(
        tmp_path / "mine"
    )
    return tmp_path / "mine"


def test_the_card_read_back_holds_the_numbers_and_no_path(adapter):
    model_card.write(adapter, **GIVEN)
    model_card.name_base(adapter, GIVEN["base"])
    card = ModelCard.load(adapter / "README.md")
    assert {one.metric_type: one.metric_value for one in card.data.eval_results} == GIVEN["results"]
    assert card.data.base_model == GIVEN["base"]
    for line in (
        "| exact_match | 0.8125 | tickets, test |",
        "| r | 4 |",
        "| target_modules | q_proj, v_proj |",
    ):
        assert line in card.text
    for name in ("README.md", "adapter_config.json"):
        assert str(tiny_base.FOLDER) not in (adapter / name).read_text()


def test_what_is_listed_is_what_upload_folder_sends(adapter, monkeypatch):
    """The library's own call, up to the commit that would go over the network."""
    model_card.write(adapter, **GIVEN)
    for beside in ("training_args.bin", ".git/config", ".cache/huggingface/x"):
        (adapter / beside).parent.mkdir(parents=True, exist_ok=True)
        (adapter / beside).write_text("x")
    sent = {}

    def commit(self, repo_id, *, operations, **_):
        sent.update({one.path_in_repo: one.upload_info.size for one in operations})
        return SimpleNamespace(pr_url=None, commit_url="", oid="")

    monkeypatch.setattr(HfApi, "create_commit", commit)
    monkeypatch.setattr(hf_api, "is_xet_available", lambda: False)  # it sends piece by piece, the same files
    monkeypatch.setattr(HfApi, "_validate_yaml", lambda self, **_: None)  # asks the hub
    HfApi().upload_folder(repo_id="you/name", folder_path=adapter)
    listed = dict(model_card.to_be_pushed(adapter))
    assert listed == sent and set(sent) == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "training_args.bin")
    }


@pytest.mark.parametrize("wrong", [{"base": "/models/smol"}, {"results": {}}, {"limits": []}])
def test_a_card_that_would_say_too_little_is_refused(adapter, wrong):
    with pytest.raises(LabError):
        model_card.write(adapter, **GIVEN | wrong)
