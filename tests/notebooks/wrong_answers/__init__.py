"""Wrong answers as learners write them, a module for each notebook: none may pass.

Of each: the function, and words of the diagnosis that it should get; None where none is expected that says
more than what was returned and what was expected.
"""
