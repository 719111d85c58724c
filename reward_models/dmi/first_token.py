"""The first token's vector of an encoder, and no more than it takes to compute it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from transformers import BertModel, PreTrainedModel


def first_token(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the last layer's vectors `(N, H)` of the first tokens, with gradient.

    Nobody looks at the last layer's other vectors. Of a BERT they are left out: the same vector and gradient for a
    sixth of that layer's work.

    Args:
        model: any Hugging Face encoder.
        ids: `(N, T)`.
        mask: `(N, T)`, bool, true where there is a token; the first is one.
    """
    if not isinstance(model, BertModel) or model.config.is_decoder or model.config._attn_implementation != "sdpa":
        return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0]
    *lower, last = model.encoder.layer
    seen = mask[:, None, None]  # (N, 1, 1, T)
    hidden = model.embeddings(ids)
    for layer in lower:
        hidden = layer(hidden, seen)
    first, attention = hidden[:, :1], last.attention.self
    query, key, value = (
        part(of).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)  # (N, heads, 1 or T, H / heads)
        for part, of in ((attention.query, first), (attention.key, hidden), (attention.value, hidden))
    )
    dropout = attention.dropout.p if attention.training else 0.0
    heard = F.scaled_dot_product_attention(query, key, value, seen, dropout).transpose(1, 2).flatten(2)
    return last.feed_forward_chunk(last.attention.output(heard, first))[:, 0]
