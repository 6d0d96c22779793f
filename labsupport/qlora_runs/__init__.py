"""Notebook 08's runs: the same fine-tune on a base in full precision, in NF4 and with noise of NF4's size."""
