"""bitsandbytes' fault on processors with AVX512-BF16, in a process of its own and on a model of two blocks.

    python -m labsupport.qlora_runs.repacking

prints one JSON document: what an evaluation in the middle does to the loss, the gradients and the unpacked
weights of a 4-bit model, first without and then with upstream.guard_4bit_on_cpu. On other processors both are
the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

HIDDEN, WORDS, TOKENS = 128, 256, 24


def shown() -> dict[str, dict]:
    """The document of such a process: "affected" (this processor has the fault), "plain" and "guarded", each
    with the values of `tried`. RuntimeError with the process's last words if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "labsupport.qlora_runs.repacking"],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def model():
    """A random Llama of two blocks in NF4 with LoRA, B not zero, so that A has gradients."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from labsupport.memory import workload

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=WORDS,
    )
    base = LlamaForCausalLM(config).to(torch.bfloat16)
    workload.put_linear_layers_in_nf4(base, True, "cpu")
    adapters = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(base, adapters)


def tried(guarded: bool) -> dict:
    """Loss and size of the adapters' gradient before an evaluation and after it, how alike the two gradients
    are (cosine), and how far the layers' unpacked weights have moved (relative to their size)."""
    import torch

    from labsupport.core import upstream

    if guarded:
        upstream.guard_4bit_on_cpu()
    tuned = model().train()
    ids = torch.arange(TOKENS)[None] % WORDS
    before, weights = backward(tuned, ids), unpacked(tuned)
    tuned.eval()
    with torch.no_grad():
        tuned(input_ids=ids)
    tuned.train()
    after, later = backward(tuned, ids), unpacked(tuned)
    moved = (torch.cat(later) - torch.cat(weights)).norm() / torch.cat(weights).norm()
    alike = torch.nn.functional.cosine_similarity(before[1], after[1], dim=0)
    return {
        "loss": [before[0], after[0]],
        "gradient": [before[1].norm().item(), after[1].norm().item()],
        "cosine": alike.item(),
        "moved": moved.item(),
    }


def backward(tuned, ids):
    """Loss, and the gradient of all adapters as one vector (zero where none arrived)."""
    import torch

    tuned.zero_grad()
    loss = tuned(input_ids=ids, labels=ids).loss
    loss.backward()
    trained = [p for p in tuned.parameters() if p.requires_grad]
    parts = [(torch.zeros_like(p) if p.grad is None else p.grad).float().flatten() for p in trained]
    return loss.item(), torch.cat(parts)


def unpacked(tuned) -> list:
    """The 4-bit layers' weights in numbers, flat, float32."""
    from bitsandbytes import functional
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in tuned.modules() if isinstance(module, Linear4bit)]
    return [functional.dequantize_4bit(m.weight.data, m.weight.quant_state).float().flatten() for m in layers]


def main() -> None:
    from labsupport.core import upstream

    upstream.quiet_known_noise()
    import bitsandbytes.nn.modules as modules

    affected = bool(modules.has_avx512bf16())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its only sign: here it is wanted
        plain = tried(guarded=False)
    print(json.dumps({"affected": affected, "plain": plain, "guarded": tried(guarded=True)}))


if __name__ == "__main__":
    main()
