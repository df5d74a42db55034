"""The one error of the project: what cannot be answered, and what to do about it."""


class Refusal(ValueError):
    """A question that these data or arguments cannot answer; the message names the thing, the value and the remedy."""
