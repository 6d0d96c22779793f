"""Two exercises that notebook 04 had before; copies of it in a learner's folder still ask for them."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import nf4

SOLUTION = "an earlier edition of notebook 04, which no longer has it"


def _pack_cases():
    random = torch.Generator().manual_seed(0)
    fixed = torch.tensor([1, 2, 15, 0, 0, 15], dtype=torch.uint8)
    return [(fixed,), (torch.randint(16, (64,), generator=random).to(torch.uint8),)]


pack = Exercise(
    name="nf4_quantization.pack",
    reference=nf4.pack,
    cases=_pack_cases,
    mistakes=told(
        lambda c: c[1::2] << 4 | c[0::2],
        "The other way round: bitsandbytes puts the first code in the high half of the byte.",
        lambda c: c[0::2] + c[1::2],
        "Added without a shift, the two codes cannot be told apart again.",
    ),
    hints=["codes[0::2] are the first of each pair; x << 4 moves a code into the high half; | joins two."],
    minutes=5,
    difficulty=1,
    returns="tensor",
    solution=SOLUTION,
)

scale_bits = Exercise(
    name="nf4_quantization.scale_bits",
    reference=nf4.scale_bits,
    cases=[(64, False), (64, True), (128, True), (4096, True), (32, False)],
    mistakes=told(
        lambda blocksize, double: 8 / blocksize if double else 32 / blocksize,
        "The 8-bit scales need scales of their own: one float32 for each 256 of them.",
        lambda blocksize, double: 32 / blocksize + (8 / blocksize if double else 0),
        "The 8-bit codes replace the float32 scales, they do not come on top.",
    ),
    hints=["A float32 for each block; with double quantisation 8 bits, and a float32 for every 256 blocks."],
    tolerance=1e-9,
    minutes=10,
    difficulty=2,
    solution=SOLUTION,
)
