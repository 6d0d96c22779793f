"""Every guard against, or patch of, a library's private parts. Each one has a test that shows it is
still needed, so that a new release which mends the fault is noticed and the guard removed.
"""

from __future__ import annotations

import logging
import warnings


def guard_4bit_on_cpu() -> None:
    """Keep bitsandbytes from repacking 4-bit weights in place. Call before a 4-bit model is built.

    On a CPU with AVX512-BF16, `Linear4bit.forward` in evaluation mode swaps its weights for a packed
    copy that has no backward, cannot be dequantised and is lossy to save (bitsandbytes issue 2078).
    One evaluation in the middle of QLoRA training then silently stops the gradients. The guard turns
    the fast path off: single-row decoding becomes slower and everything else is right.
    """
    import bitsandbytes.nn.modules as modules

    modules.has_avx512bf16 = lambda: False
    # The only sign of the fault is this warning: never let it pass.
    warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the kernel after every tensor.

    PyTorch on a CPU allocates each activation anew; by default glibc maps and unmaps the large ones,
    and the page faults take a quarter of a training step. Blocks from 32 MiB on, glibc's highest limit,
    are still handed back: kept ones would pile up. Does nothing where there is no glibc.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3  # malloc.h
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(m_mmap_threshold, 32 * 2**20)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    libc.mallopt(m_top_pad, 64 * 2**20)


def hand_over_in_one_piece(model) -> None:
    """Give the output head hidden states that are contiguous in memory. Changes the model in place.

    With `logits_to_keep`, as in scoring and in generation, transformers hands the head a slice of a batch.
    With such a slice and a frozen weight torch multiplies row by row and copies the weight for every row:
    0.9 GB for 16 rows of this model, and two fifths of a scoring pass on a CPU.
    """
    model.get_output_embeddings().register_forward_pre_hook(_contiguous)


def _contiguous(module, inputs: tuple) -> tuple:
    return (inputs[0].contiguous(),)


def score_only_labels() -> None:
    """Let TRL's SFTTrainer score the trained tokens alone, and plainly, also on a CPU. Call before training.

    On a GPU its fused output head skips positions whose label is -100. Elsewhere it scores every position
    (and zeroes what it did not need), to spare compiled backends a changing shape. It also splits the
    vocabulary into chunks and computes each anew backwards, to save memory that so few tokens do not need.
    The first makes up a third of a step of this model, the second a sixth of the rest. The loss is the same.
    """
    import trl.trainer.utils

    # Used there only for this choice; the kernels ask their own module for the device.
    trl.trainer.utils._use_triton = lambda device: True
    if trl.trainer.utils._ChunkedLogProbFunction is not _PlainLogProbs:
        _PlainLogProbs.chunked = trl.trainer.utils._ChunkedLogProbFunction
        trl.trainer.utils._ChunkedLogProbFunction = _PlainLogProbs


class _PlainLogProbs:
    """TRL's log-probabilities of the labels: by an ordinary product on a CPU, elsewhere by TRL's own way."""

    chunked: type

    @classmethod
    def apply(cls, hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs):
        """(log-probabilities, entropies, None, None, whether the label is the likeliest), each [tokens], for
        hidden states [tokens, hidden size] and labels [tokens]."""
        asked = set(outputs) <= {"log_probs", "entropy", "is_top1"}
        if hidden.device.type != "cpu" or softcap is not None or not asked:
            rest = (temperature, chunk_size, softcap, scale, outputs)
            return cls.chunked.apply(hidden, weight, bias, targets, *rest)
        import torch

        logits = torch.nn.functional.linear(hidden, weight, bias).float() * (scale / temperature)
        log_probs = logits.log_softmax(-1)
        with torch.no_grad():  # the metrics that TRL logs
            entropies = -(log_probs.exp() * log_probs).sum(-1)
            likeliest = log_probs.argmax(-1) == targets
        return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropies, None, None, likeliest


def quiet_known_noise() -> None:
    """Silence messages about this stack that a learner can do nothing about, and nothing else."""
    quiet_messages()
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def quiet_messages() -> None:
    """The part of it that imports nothing: all that the memory planner needs."""
    # bitsandbytes on a CPU asks for an optional kernel package and works without it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # PEFT 0.21 reads a model attribute that transformers 5.23 renamed.
    warnings.filterwarnings(
        "ignore", message=".*is_gradient_checkpointing.*is deprecated", category=FutureWarning
    )


def quick_bitsandbytes():
    """The package bitsandbytes, imported in a third of a second instead of three.

    Four of its functions are decorated with torch.compile, and the decorator alone imports torch's whole
    compiler. Here it is asked for when one of them is first called; what they do is the same.
    """
    import torch

    real = torch.compile
    torch.compile = _compiled_when_called(real)
    try:
        import bitsandbytes
    finally:
        torch.compile = real
    return bitsandbytes


def _compiled_when_called(real):
    """torch.compile that waits."""
    import functools

    def decorate(function, **options):
        compiled = functools.cache(lambda: real(function, **options))
        return functools.wraps(function)(lambda *args, **kwargs: compiled()(*args, **kwargs))

    return decorate


def quick_jsonschema():
    """The package jsonschema, imported in a fifth of a second instead of two.

    JupyterLab brings rfc3987_syntax, with which jsonschema can check the format "iri". Importing that builds
    a grammar of the language; no schema of this course has the format.
    """
    import sys

    optional = "rfc3987_syntax"
    hidden = sys.modules.setdefault(optional, None) is None  # makes its import fail, which jsonschema expects
    import jsonschema

    if hidden:
        del sys.modules[optional]
    return jsonschema
