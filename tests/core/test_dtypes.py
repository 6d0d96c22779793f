"""The one table of number formats against the libraries that define them."""

import pytest
import safetensors.torch
import torch

from labsupport.core import dtypes, profiles
from labsupport.core.files import LabError


@pytest.mark.parametrize("dtype", dtypes.DTYPES, ids=lambda dtype: dtype.name)
def test_bytes_and_code_are_those_of_torch_and_safetensors(dtype):
    tensor = torch.zeros(3, dtype=getattr(torch, dtype.name))
    assert tensor.itemsize == dtype.bytes
    assert f'"dtype":"{dtype.code}"'.encode() in safetensors.torch.save({"zeros": tensor})


def test_a_format_is_found_by_its_long_and_its_short_name():
    for dtype in dtypes.DTYPES:
        assert dtypes.find(dtype.name) is dtypes.find(dtype.short) is dtype
    with pytest.raises(LabError, match="no dtype 'int8' here.*float32"):
        dtypes.find("int8")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("BF16", "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
        (" Float16 ", "float16"),
        ("half", "float16"),
        ("torch.half", "float16"),
        ("F16", "float16"),
        ("float", "float32"),
        ("F32", "float32"),
        (torch.bfloat16, "bfloat16"),
    ],
)
def test_other_names_of_a_format(written, name):
    assert dtypes.find(written).name == name


@pytest.mark.parametrize("written", ["", "float64", "fp8", "4bit", None, 16, "x" * 10_000])
def test_what_is_no_format_is_one_line(written):
    with pytest.raises(LabError) as caught:
        dtypes.find(written)
    assert "There is no dtype" in str(caught.value) and len(str(caught.value)) < 250


def test_profiles_choose_among_the_same():
    assert profiles.DTYPES == dtypes.NAMES
