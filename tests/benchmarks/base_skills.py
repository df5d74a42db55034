"""What a base of the grid `ladder` can do while it is trained: which words of a description it makes something of.

`python tests/benchmarks/base_skills.py --size 56x3 --seed 1001` trains one base from scratch and prints, every 250
steps, how often it is right, given the right text before, on the constants of a documented function, on even or odd,
and on all other words of a function at once; `pass` is a whole function.
"""

import argparse
import tempfile
from collections import defaultdict

import numpy as np
import torch

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Item
from training.grid import bases
from training.grid.pilot import pilot_grid
from training.loop import train as loop
from training.loop.validation import Validator
from training.spec import grids

N_FUNCTIONS = 200


def parts_of(pieces: list[str]) -> list[str]:
    """Return of each word of a function's body whether it is a constant of an operation, even or odd, or else."""
    parts = []
    for place, piece in enumerate(pieces):
        before = "".join(pieces[max(0, place - 3) : place]).rstrip()
        is_constant = piece.strip().isdigit() and before.endswith(("x +", "x *", "x >", "xs[:"))
        parts.append("parity" if piece.strip() in ("==", "!=") else "constant" if is_constant else "other")
    return parts


class Skills:
    """Documented functions of two and more operations, as rows of tokens, and how much of them a model gets right."""

    def __init__(self, corpus: EmbeddedCorpus) -> None:
        tokenizer = corpus.tokenizer
        items = [item for item in corpus.problems("completion", "validation", N_FUNCTIONS) if not item.seen]
        self.rows = [self._row(tokenizer, item) for item in items]

    @staticmethod
    def _row(tokenizer, item: Item) -> tuple[list[int], list[int], list[str]]:
        context = tokenizer.encode(item.document.context).ids
        target = tokenizer.encode(item.document.target, add_special_tokens=False).ids
        return context, target, parts_of([tokenizer.decode([token]) for token in target])

    @torch.no_grad()
    def of(self, model: torch.nn.Module) -> dict[str, float]:
        """Return the shares of constants and of even or odd that are right, and of functions, else and as a whole."""
        found: dict[str, list[bool]] = defaultdict(list)
        for context, target, parts in self.rows:
            guesses = model(input_ids=torch.tensor([context + target])).logits[0].argmax(-1)
            right = (guesses[len(context) - 1 : -1] == torch.tensor(target)).tolist()
            judged = list(zip(parts, right, strict=True))
            for name in ("constant", "parity"):
                found[name] += [is_right for part, is_right in judged if part == name]
            found["other"].append(all(is_right for part, is_right in judged if part == "other"))
            found["pass"].append(all(right))
        return {part: float(np.mean(found[part])) for part in ("constant", "parity", "other", "pass")}


def main() -> None:
    """Train one base and print what it can do on the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="56x3")
    parser.add_argument("--seed", type=int, default=1004)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus = EmbeddedCorpus()
    skills = Skills(corpus)
    grid = pilot_grid(grids.preset("ladder"), [given.seed])
    pretraining = grid.pretraining.model_copy(update={"steps": given.steps, "validate_every": 250})
    (spec,) = grids.Grid(**{**dict(grid), "pretraining": pretraining}).runs([given.size], ["lora"])
    rows = []

    class Probed(Validator):
        def score(self, model):
            found = super().score(model)
            rows.append({"step": 250 * len(rows), "loss": found.loss, **skills.of(model)})
            print({name: round(v, 3) if isinstance(v, float) else v for name, v in rows[-1].items()}, flush=True)
            return found

    loop.Validator = Probed
    with tempfile.TemporaryDirectory() as cache:
        bases.pretrain(spec, cache, checkpoint_every=given.steps)


if __name__ == "__main__":
    main()
