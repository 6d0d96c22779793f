"""The verbs of lab.py: argparse and printing."""
