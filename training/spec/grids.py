"""Grids by name, and their corpora. Importable without torch."""

import os
from collections.abc import Callable

from training.corpus.settings import CorpusSettings
from training.corpus.sources import TEXTS_VARIABLE
from training.corpus.texts import check_text, fetch_text, find_text
from training.spec.grid_specification import Grid
from training.spec.loop_settings import LoopSettings
from training.spec.run import STARCODERBASE_SIZES, ModelSize, Schedule


def starcoderbase() -> Grid:
    """Return the published grid: four StarCoderBase models x seven methods on CommitPackFT + OASST.

    References
    ----------
    Zhuo et al. 2024, arXiv 2401.00788.
    """
    return Grid(name="starcoderbase", sizes=STARCODERBASE_SIZES, data="commitpackft+oasst")


EMBEDDED_VOCABULARY = 899
"""Tokens of the embedded corpus' tokenizer at its default settings (docs/corpus.md), which a test holds to it."""

EMBEDDED_POSITIONS = 320
"""Positions of models for the embedded corpus: its longest rows (271 tokens in 20,000) and 30 virtual tokens."""

_EMBEDDED_LENGTH = EMBEDDED_POSITIONS - 30


def embedded_size(d_model: int, n_layers: int, n_heads: int) -> ModelSize:
    """Return a base model for the embedded corpus, trained from scratch and named by its shape: ``32x2``.

    Parameters
    ----------
    d_model, n_layers, n_heads : int
        Width, blocks, and attention heads in each.

    Returns
    -------
    ModelSize
        With the vocabulary and the positions of that corpus.
    """
    return ModelSize(
        name=f"{d_model}x{n_layers}",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        vocab_size=EMBEDDED_VOCABULARY,
        n_positions=EMBEDDED_POSITIONS,
    )


def smoke() -> Grid:
    """Return the smallest whole grid: two tiny models x seven methods on the embedded corpus, in a minute or two.

    It shows that the chain works and that methods learn, not how they compare: the models are far too small and too
    briefly trained, and the learning rates are set by hand, not searched. They follow a first grid on this corpus
    (fft 2e-3, lora 5e-3, ptuning 1e-2, ia3 2e-2, adapters 3e-3).
    """
    return Grid(
        name="smoke",
        sizes=(embedded_size(16, 2, 2), embedded_size(32, 2, 4)),
        schedule=Schedule(
            steps=60,
            global_batch=32,
            sequence_length=_EMBEDDED_LENGTH,
            learning_rate=3e-3,
            warmup_steps=6,
            validate_every=20,
        ),
        learning_rates={"fft": 2e-3, "lora": 5e-3, "ptuning": 1e-2, "ia3": 2e-2},
        data=CorpusSettings().label,
        pretraining=Schedule(
            steps=300,
            global_batch=32,
            sequence_length=_EMBEDDED_LENGTH,
            learning_rate=5e-3,
            warmup_steps=20,
            validate_every=100,
        ),
        loop=LoopSettings(layout="documents", micro_batch=8),
        n_validation=256,
    )


def mini() -> Grid:
    """Return the project's own grid: the study's seven methods at four sizes, a fifth one held out, three seeds.

    Non-embedding parameters span a factor of 101. What was tried, and why the grid is what it is, is in docs/grid.md;
    the learning rates are those that `grid search` found.
    """
    sizes = (
        embedded_size(16, 2, 2),
        embedded_size(32, 2, 4),
        embedded_size(56, 3, 4),
        embedded_size(88, 4, 4),
        embedded_size(120, 4, 4),
    )
    return Grid(
        name="mini",
        sizes=sizes,
        held_out_sizes=(sizes[-1].name,),
        seeds=(0, 1, 2),
        schedule=Schedule(
            steps=200,
            global_batch=32,
            sequence_length=_EMBEDDED_LENGTH,
            learning_rate=4e-2,
            warmup_steps=12,
            validate_every=25,
        ),
        learning_rates={
            "fft": 3.2e-2,
            "lora": 4e-2,
            "ptuning": 2e-2,
            "ia3": 4e-2,
            "adapterh": 1.6e-1,
            "adapterp": 3.2e-1,
            "parallel": 1.6e-1,
        },
        reference_width=sizes[0].d_model,
        width_exponents={"fft": 1.0, "adapterh": 1.0, "adapterp": 1.0, "parallel": 1.0},
        data=CorpusSettings().label,
        pretraining=Schedule(
            steps=1200,
            global_batch=32,
            sequence_length=_EMBEDDED_LENGTH,
            learning_rate=1.35e-2,
            warmup_steps=40,
            validate_every=300,
        ),
        pretraining_instructions=0.02,
        loop=LoopSettings(layout="documents", micro_batch=8),
        n_validation=256,
    )


HARDER_CORPUS = CorpusSettings(
    kinds=("list", "number", "string"),
    ops_weights=(0.05, 0.2, 0.35, 0.4),
    constant_share=0.25,
    phrasings=3,
    vocab_size=2048,
)
"""The embedded corpus with three kinds of values, longer programs and more ways to say things: for larger models."""

HARDER_VOCABULARY = 1312
"""Tokens of its tokenizer, which a test holds to it."""


def gpu() -> Grid:
    """Return the grid for a GPU: the seven methods at five sizes, non-embedding parameters from 1.1 M to 213 M, bf16.

    Not trained yet, and its learning rates are not searched: those of `mini`, found at width 16, carried over by the
    widths' rules far beyond where they were looked at. `grid search --preset gpu` comes first. The base of the largest
    size takes 9e16 operations, four minutes of an H100 at 40 % of its peak in bfloat16 (`python -m training estimate`).
    """
    shapes = ((160, 4, 4), (256, 6, 4), (512, 8, 8), (768, 12, 12), (1024, 20, 16))
    sizes = tuple(embedded_size(*shape).model_copy(update={"vocab_size": HARDER_VOCABULARY}) for shape in shapes)
    small = mini()
    return Grid(
        name="gpu",
        sizes=sizes,
        held_out_sizes=(sizes[-1].name,),
        schedule=small.schedule.model_copy(update={"steps": 400, "global_batch": 64, "validate_every": 50}),
        learning_rates=small.learning_rates,
        reference_width=small.reference_width,
        width_exponents=small.width_exponents,
        data=HARDER_CORPUS.label,
        pretraining=small.pretraining.model_copy(
            update={"steps": 4000, "global_batch": 256, "warmup_steps": 200, "validate_every": 1000}
        ),
        pretraining_instructions=small.pretraining_instructions,
        loop=LoopSettings(layout="documents", precision="bf16"),
        n_validation=512,
    )


CORPORA: dict[str, CorpusSettings] = {settings.label: settings for settings in (CorpusSettings(), HARDER_CORPUS)}
"""Corpora that a run can be trained on, by label."""


def corpus_settings(label: str) -> CorpusSettings:
    """Return the settings of an embedded corpus by its label.

    Raises
    ------
    ValueError
        If no corpus of this version has that label; the message names the choices.
    """
    if label not in CORPORA:
        raise ValueError(
            f"unknown corpus {label!r}; runs are trained here on {', '.join(CORPORA)}: choose a preset that names it, "
            f"or put the text itself, objects with 'prompt' and 'completion', into DIR/{label}.jsonl and set "
            f"{TEXTS_VARIABLE}=DIR"
        )
    return CORPORA[label]


def check_corpus(label: str, *, is_scored: bool) -> None:
    """Raise ValueError if there is no such corpus, or it has no suite by which runs on it could be scored."""
    if label not in CORPORA and find_text(label, os.environ) is not None:
        if is_scored:
            raise ValueError(
                f"corpus {label!r} is text, which has no suite to score runs by; give --no-scores, and score "
                "generations on published data sets with `python -m training score`"
            )
        check_text(label, os.environ)
        return
    corpus_settings(label)


def fetch_corpus(label: str) -> None:
    """Read a corpus from the hub, where it comes from there, so that worker processes find it in the cache.

    Raises
    ------
    ValueError
        If it cannot be had; the message says what to download and where to put it.
    """
    if label not in CORPORA:
        fetch_text(label, os.environ)


PRESETS: dict[str, Callable[[], Grid]] = {
    "smoke": smoke,
    "mini": mini,
    "gpu": gpu,
    "starcoderbase": starcoderbase,
}
"""Grids by name."""


def preset(name: str) -> Grid:
    """Return a preset grid by name.

    Parameters
    ----------
    name : str
        A key of `PRESETS`.

    Returns
    -------
    Grid
        The grid.

    Raises
    ------
    ValueError
        If there is no such preset; the message names the choices.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose from {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
