"""Parameter counts of tuned models, those of GPTBigCode by their closed forms. Importable without torch.

`training.models.tuning.count_parameters` counts any architecture, on the meta device; a test holds the two together.
The closed forms serve where a plan is made before anything is loaded: `training.grid.estimates`.
"""

from dataclasses import dataclass

from training.spec.run import ModelSize, Tuning


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters of a tuned model; a tensor that is used twice (a tied head) is counted once."""

    n_params: int
    n_params_base: int
    # Token and position embeddings, and an untied output head (as for Pythia, Biderman et al. 2023, arXiv 2304.01373).
    n_params_embedding: int
    n_params_updated: int

    @property
    def n_params_base_nonembedding(self) -> int:
        """Return the base model's parameters without embeddings."""
        return self.n_params_base - self.n_params_embedding

    @property
    def percent_updated(self) -> float:
        """Return updated parameters as a percentage of ``n_params``: added parameters count in the whole."""
        return 100 * self.n_params_updated / self.n_params


def qkv_width(size: ModelSize) -> int:
    """Return the width of the fused query, key and value projection: d + 2 d / h, with one key and value head."""
    return size.d_model + 2 * (size.d_model // size.n_heads)


def block_parameters(size: ModelSize) -> int:
    """Return the parameters of one block: d q + q + d^2 + d + 2 d f + f + d + 4 d, with q = d + 2 d / h."""
    d, f, q = size.d_model, size.d_ff, qkv_width(size)
    return d * q + q + d * d + d + 2 * d * f + f + d + 4 * d


def added_parameters(size: ModelSize, tuning: Tuning) -> int:
    """Return the parameters that a tuning method adds to a base model: those it updates, unless it updates all.

    Width d, feed-forward width f, and q = d + 2 d / h of the fused query, key and value projection.
    """
    d, f, q, depth = size.d_model, size.d_ff, qkv_width(size), size.n_layers
    match tuning.method:
        case "fft":
            return 0
        case "lora":
            return depth * tuning.rank * ((d + q) + 2 * d + (f + d))
        case "ptuning":
            return tuning.virtual_tokens * d + 3 * (d * d + d)
        case "ia3":
            return depth * (q + f)
        case "adapterh":
            return 4 * depth * tuning.bottleneck * d
        case "adapterp":
            return 2 * depth * tuning.bottleneck * d
        case "parallel":
            return depth * tuning.bottleneck * (d + q)
    raise ValueError(f"no closed form for tuning method {tuning.method!r}; add it, or count on the meta device")


def closed_form_counts(size: ModelSize, tuning: Tuning) -> ParameterCounts:
    """Return the parameter counts of a tuned GPTBigCode model without building it."""
    n_embedding = (size.vocab_size + size.n_positions) * size.d_model
    n_base = n_embedding + size.n_layers * block_parameters(size) + 2 * size.d_model
    n_added = added_parameters(size, tuning)
    return ParameterCounts(
        n_params=n_base + n_added,
        n_params_base=n_base,
        n_params_embedding=n_embedding,
        n_params_updated=n_base if tuning.method == "fft" else n_added,
    )
