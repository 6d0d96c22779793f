"""Shared helpers of LoRA Lab. Importing this package loads no library: import the module you need."""

import os

from labsupport import old_names

# The course trains on one card, and the trainer spreads over all that torch sees. This stands where every
# command and every notebook passes before torch. Whoever starts a process a card has set LOCAL_RANK.
if "LOCAL_RANK" not in os.environ:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

old_names.install()
