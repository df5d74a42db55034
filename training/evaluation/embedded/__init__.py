"""The embedded suite: downstream tasks on the embedded corpus, labelled ``embedded``, apart from all published sets.

`problems` says what is asked, `perturbations` how prompts are changed, `answers` who answers, `execution` and
`security` judge, `scores` turns outcomes into numbers with errors, `measures` puts these together, and `renewal` adds
what is missing to a record. `docs/embedded_suite.md` is the data card.
"""
