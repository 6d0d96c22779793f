"""Shared helpers of LoRA Lab. Importing this package loads no library: import the module you need."""

from labsupport import old_names

old_names.install()
