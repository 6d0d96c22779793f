import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.serving import gguf_export


def test_every_weight_comes_back_from_the_file(tmp_path):
    model, tokenizer = tiny_base.load()
    gguf_export.write(model, tokenizer, tmp_path / "tiny.gguf", "float32")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    weights = again.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert [place.name for place in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_split_that_has_no_name_here_is_refused():
    _, tokenizer = tiny_base.load()
    assert gguf_export.split_of(tokenizer) == "smollm"
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(LabError, match="Whitespace"):
        gguf_export.split_of(tokenizer)


def test_what_float16_cannot_hold_is_refused_and_leaves_no_file(tmp_path):
    model, tokenizer = tiny_base.load()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(LabError, match="float16"):
        gguf_export.write(model, tokenizer, tmp_path / "tiny.gguf", "float16")
    assert list(tmp_path.iterdir()) == []
