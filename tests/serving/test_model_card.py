import inspect

import pytest
from huggingface_hub import HfApi, ModelCard
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


def test_all_that_would_be_pushed_is_listed(adapter):
    model_card.write(adapter, **GIVEN)
    listed = dict(model_card.to_be_pushed(adapter))
    assert set(listed) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert listed["README.md"] == (adapter / "README.md").stat().st_size
    assert {"repo_id", "folder_path"} <= set(inspect.signature(HfApi.upload_folder).parameters)


@pytest.mark.parametrize("wrong", [{"base": "/models/smol"}, {"results": {}}, {"limits": []}])
def test_a_card_that_would_say_too_little_is_refused(adapter, wrong):
    with pytest.raises(LabError):
        model_card.write(adapter, **GIVEN | wrong)
