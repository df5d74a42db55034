"""Runs programs that a model wrote, and that nobody has read: hostile until proven otherwise.

`training.sandbox.pool.Sandbox` takes `training.sandbox.programs.Program` values and gives a `Verdict` for each. Nothing
else in the project executes such programs. docs/sandbox.md says what they must not be able to do, what keeps them from
it, what `passed` means, and what is outside the guarantee.
"""
