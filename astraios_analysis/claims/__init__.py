"""The study's claims: rules, tests and verdicts."""
