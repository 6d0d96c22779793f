"""The verbs of `lab.py`, one file each: argparse and printing; what computes lives in the other rooms.

A file VERB.py has HELP (one line), `arguments(parser)`, which adds the verb's own, and `run(asked)`, which
returns the exit status. MAINTAINERS = True leaves it out of the default help. Files are found by their names;
one that starts with an underscore is no verb. Imports that take time stand inside the functions.
"""
