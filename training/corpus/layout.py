"""The study's layout of a prompt and its completion, and documents: text that is read, and text that is learned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt and its completion, from whatever source."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Document:
    """One text in two parts, encoded each for itself: what is given, and what follows it.

    Attributes
    ----------
    context : str
        The part a model is given when it generates; it ends where a token ends.
    target : str
        The part that follows. Loss "on completions only" is loss on this part and the end of text.
    """

    context: str
    target: str

    @property
    def text(self) -> str:
        """The whole text."""
        return self.context + self.target


def lay_out(example: Example) -> Document:
    r"""Return an example in the layout of Astraios: ``Question: {prompt}\n\nAnswer: {completion}``.

    The context ends with the colon and the target starts with the space: pre-tokenisers keep a space with the word
    after it, so a model that is given the context continues exactly as the training text does. A context that ended
    with the space, or with a line end, would be cut into other tokens than the training text.

    Parameters
    ----------
    example : Example
        Prompt and completion.

    Returns
    -------
    Document
        The text in two parts.

    References
    ----------
    Zhuo et al. 2024, arXiv 2401.00788.
    """
    return Document(f"Question: {example.prompt}\n\nAnswer:", f" {example.completion}")
