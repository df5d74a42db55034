"""What PEFT's P-Tuning does that loss and generation must allow for."""

import torch

from training.models.tuning import apply_tuning
from training.spec.run import Tuning


def test_ptuning_returns_logits_of_its_virtual_tokens_too(base_of, tokens):
    """PEFT 0.21 returns them before those of the tokens, and its own loss scores the first token from the last one."""
    model = apply_tuning(base_of("gpt_bigcode"), Tuning(method="ptuning"), seed=3)
    with torch.no_grad():
        output = model(input_ids=tokens, labels=tokens)
    assert output.logits.shape[1] == 30 + tokens.shape[1]
    with_first = torch.nn.functional.cross_entropy(output.logits[:, 29:-1].flatten(0, 1), tokens.flatten())
    torch.testing.assert_close(output.loss, with_first)


def test_ptuning_puts_virtual_tokens_before_left_padding(base_of, tokens):
    """PEFT 0.21 orders [virtual][padding][prompt], at shifted positions: left-padded P-Tuning batches are wrong.

    Right padding is exact. Whoever pads on the left must build the embeddings as [padding][virtual][prompt].
    """
    model = apply_tuning(base_of("gpt_bigcode"), Tuning(method="ptuning", virtual_tokens=5), seed=3).eval()
    mask = torch.ones_like(tokens)
    padding = torch.zeros(tokens.shape[0], 4, dtype=torch.long)
    with torch.no_grad():
        alone = model(input_ids=tokens, attention_mask=mask).logits[:, -1]
        on_the_right = model(
            input_ids=torch.cat([tokens, padding], 1), attention_mask=torch.cat([mask, padding], 1)
        ).logits[:, -5]
        on_the_left = model(
            input_ids=torch.cat([padding, tokens], 1), attention_mask=torch.cat([padding, mask], 1)
        ).logits[:, -1]
    torch.testing.assert_close(on_the_right, alone, atol=1e-5, rtol=1e-5)
    assert (on_the_left - alone).abs().max() > 0.01
