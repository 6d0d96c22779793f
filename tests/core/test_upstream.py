"""Each guard against a library's fault works, and the fault is still there (else: remove the guard)."""

import subprocess
import sys

import pytest
from fresh_process import run

# A 4-bit layer's gradient before and after a forward in evaluation mode, in a process of its own.
LINEAR_4BIT = """
import warnings
import torch, bitsandbytes as bnb
if not {guard} and not bnb.functional.has_avx512bf16():
    print("immune")
    raise SystemExit
if {guard}:
    from labsupport.core import upstream
    upstream.guard_4bit_on_cpu()
torch.manual_seed(0)
layer = bnb.nn.Linear4bit(
    64, 128, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=True
)
layer.load_state_dict(dict(weight=torch.randn(128, 64)))
layer = layer.to("cpu").train()
rows = torch.randn(3, 64)

def gradient():
    x = rows.clone().requires_grad_()
    try:
        (layer(x) ** 2).sum().backward()
    except RuntimeError:
        return torch.zeros_like(x)
    return torch.zeros_like(x) if x.grad is None else x.grad

assert layer.weight.quant_state is not None
before = gradient()
assert before.abs().sum() > 0
with torch.no_grad():
    layer.eval()(rows)
layer.train()
print("same" if torch.equal(before, gradient()) else "different")
if {guard}:
    try:
        warnings.warn("x: an autograd kernel was not registered to the key")
    except UserWarning:
        print("its warning is an error")
"""

# How often PEFT's warning is heard, after quiet_known_noise() and with its filter overruled.
RUN_PEFT = """
import warnings
from labsupport.core import upstream
upstream.quiet_known_noise()
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32
)

def heard(overruled):
    with warnings.catch_warnings(record=True) as seen:
        if overruled:
            warnings.simplefilter("always")
        get_peft_model(LlamaForCausalLM(config), LoraConfig(target_modules="all-linear"))
    return sum("is_gradient_checkpointing" in str(w.message) for w in seen)

print(heard(False), heard(True))
"""


def test_with_the_guard_an_evaluation_leaves_4bit_gradients_alone():
    """And the fault's only sign, a warning, is made an error."""
    assert run(LINEAR_4BIT.format(guard=True)) == "same\nits warning is an error"


def test_without_the_guard_an_evaluation_still_breaks_4bit_gradients():
    answer = run(LINEAR_4BIT.format(guard=False))
    if answer == "immune":
        pytest.skip("the fault needs a processor with AVX512-BF16")
    assert answer == "different", "bitsandbytes has fixed this: remove upstream.guard_4bit_on_cpu"


def test_keeping_freed_memory_is_harmless():
    program = (
        "import torch\nfrom labsupport.core import upstream\nupstream.keep_freed_memory()\n"
        "for _ in range(20):\n    total = torch.ones(4_000_000).sum().item()\nprint(total)"
    )
    assert run(program) == "4000000.0"


def test_keeping_freed_memory_does_nothing_without_glibc(monkeypatch):
    import ctypes
    import platform

    from labsupport.core import upstream

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("loaded a library"))
    upstream.keep_freed_memory()


def test_pefts_warning_is_still_there_and_is_silenced():
    silenced, loud = map(int, run(RUN_PEFT).split())
    assert silenced == 0
    assert loud > 0, "PEFT has fixed this: remove its filter from upstream.quiet_known_noise"


def test_other_warnings_are_heard():
    program = (
        "import warnings\nfrom labsupport.core import upstream\nupstream.quiet_known_noise()\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.warn('lr is odd')\n"
        "    warnings.warn('x will change', FutureWarning)\n"
        "    warnings.warn('is_gradient_checkpointing is odd')\n"
        "print(len(seen))"
    )
    assert run(program) == "3"


# How many positions TRL's output head scores, of 7 with 2 labels; the loss, gradient and metrics it finds.
TRL_HEAD = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer import utils
from labsupport.core import upstream

torch.manual_seed(0)
config = LlamaConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32
)
model = LlamaForCausalLM(config)
utils.add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
ids = torch.arange(8)[None]
labels = torch.full((1, 8), -100)
labels[0, -2:] = ids[0, -2:]
labels[0, -1] = model(input_ids=ids).logits[0, -2].argmax()  # one label is the likeliest
scored = []

def spy_on(head):
    class Spy:
        @staticmethod
        def apply(hidden, *rest):
            scored.append(hidden.shape[0])
            return head.apply(hidden, *rest)
    return Spy

def found():
    head = utils._ChunkedLogProbFunction
    utils._ChunkedLogProbFunction = spy_on(head)
    model.zero_grad()
    out = model(input_ids=ids, labels=labels, fused_lm_head=True)
    out.loss.backward()
    utils._ChunkedLogProbFunction = head
    gradient = model.model.layers[0].mlp.up_proj.weight.grad.clone()
    return out.loss.detach(), out.log_probs.detach(), out.entropy, out.is_top1.float(), gradient

before = found()
upstream.score_only_labels()
upstream.score_only_labels()
after = found()
assert before[3].sum() >= 1
assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True))
assert utils._ChunkedLogProbFunction.chunked is not utils._ChunkedLogProbFunction
print(*scored)
"""


def test_only_labelled_positions_are_scored_with_the_guard():
    without, guarded = map(int, run(TRL_HEAD).split())
    assert guarded == 2
    assert without == 7, "TRL does this on the CPU by now: remove upstream.score_only_labels"


# The products that an output head makes of the last 3 of 9 positions of 4 rows, without and with the guard.
HEAD_OF_A_SLICE = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM
from labsupport.core import upstream

class Products(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if result is not None and getattr(result, "shape", ())[-1:] == (40,):
            names.append(str(operation).split(".")[1])
        return result

torch.manual_seed(0)
config = LlamaConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=40
)
model = LlamaForCausalLM(config).eval().requires_grad_(False)  # frozen, as under an adapter
ids = torch.arange(36).view(4, 9)
logits = []
for guarded in (False, True):
    if guarded:
        upstream.hand_over_in_one_piece(model)
    names = []
    with torch.no_grad(), Products():
        logits.append(model(input_ids=ids, logits_to_keep=3).logits)
    print("bmm" in names, "mm" in names)
assert torch.allclose(*logits, atol=1e-6)
"""


def test_the_output_head_multiplies_a_slice_at_once_with_the_guard():
    without, guarded = run(HEAD_OF_A_SLICE).splitlines()
    assert guarded == "False True"
    assert without == "True False", "torch does this by now: remove upstream.hand_over_in_one_piece"


# In processes of their own, from nothing: what was imported once stays so.
QUICK_JSONSCHEMA = """
import sys
{how}
assert jsonschema.Draft202012Validator({{"enum": ["a"]}}).is_valid("a")
print("rfc3987_syntax" in sys.modules)
"""


@pytest.mark.parametrize(
    ("how", "grammar"),
    [
        ("import jsonschema", "True"),  # else jsonschema imports nothing slow by now: remove the guard
        ("from labsupport.core import upstream; jsonschema = upstream.quick_jsonschema()", "False"),
    ],
)
def test_jsonschema_builds_no_grammar_with_the_guard(how, grammar):
    command = [sys.executable, "-c", QUICK_JSONSCHEMA.format(how=how)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == grammar
