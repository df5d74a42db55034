"""How new tokens are chosen, and how many at once. Importable without torch."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

TokenId = Annotated[int, Field(ge=0)]

DEFAULT_TOKENS_PER_BATCH = 16_384
"""Budget of one batch that small models on a CPU are served well by.

Measured on one thread with 200 prompts of 60 tokens and 60 new ones each: from 13 thousand to 2.7 million parameters,
4,096 takes up to twice and 8,192 up to 1.2 times as long, and 32,768 saves little more.
"""


class Decoding(BaseModel):
    """How a model continues its prompts.

    Attributes
    ----------
    max_new_tokens : int
        Most new tokens of a sample.
    tokens_per_batch : int
        Budget of one batch: rows x (virtual tokens + longest prompt + new tokens). Memory grows with it and with
        nothing else; no text depends on it.
    temperature : float
        Logits are divided by it before the softmax; 0 takes the most probable token every time.
    top_p : float
        Draw among the fewest most probable tokens whose probabilities sum to this, in (0, 1]; 1 draws among all.
    n_samples : int
        Samples of every prompt.
    seed : int
        Seed of the draws. A sample depends on the seed, the place of its prompt and its own number alone.
    max_length : int, optional
        Most tokens of a prompt and its new tokens together, virtual tokens not counted. Prompts near it get fewer
        new tokens.
    stop_token_ids : tuple of int
        Tokens that end a sample like the end of text does; they are left out of it.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of range.

    References
    ----------
    Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, arXiv 1904.09751 (top_p).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_new_tokens: PositiveInt
    tokens_per_batch: PositiveInt = DEFAULT_TOKENS_PER_BATCH
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n_samples: PositiveInt = 1
    seed: Annotated[int, Field(ge=0)] = 0
    max_length: PositiveInt | None = None
    stop_token_ids: tuple[TokenId, ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken every time."""
        return self.temperature == 0
