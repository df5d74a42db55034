"""Records from what other tools leave behind: tables, Trainer folders, results of evaluation harnesses.

Nothing here guesses: what a file does not say is asked for, and what cannot be mapped is an error that names it.
"""
