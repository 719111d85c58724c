"""A completions server on the loopback interface that takes prompt embeddings: a model behind vLLM's form."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt
from experiments.faults.loopback import Act, ChatServer, body, serving

Fault = Callable[[dict[str, Any], dict[str, Any]], Act | None]  # (request, good answer) -> another answer, or None
NOTHING = Prompt((), 0, 0, 0)  # a prompt that is its prefix alone


def complete(lm: FrozenLM, request: dict[str, Any]) -> dict[str, Any]:
    """Answer as vLLM does: the stop token is counted to the reply, and nothing but the request says what it is."""
    assert "prompt" not in request, "mixed prompts are not to be sent"
    embeddings = torch.load(io.BytesIO(base64.b64decode(request["prompt_embeds"])), weights_only=True)
    assert embeddings.dim() == 2 and embeddings.shape[1] == lm.hidden_size
    lm.suppressed = torch.tensor([int(i) for i, bias in request["logit_bias"].items() if bias <= -100])
    lm.stop_ids = np.array([], dtype=np.int64)
    count = request["max_tokens"]
    sampling = Sampling(count, request["temperature"], request["min_p"])
    draws = np.random.default_rng(request["seed"]).random((1, count))
    ids = lm.generate([NOTHING], draws, sampling, embeddings[None])[0]
    stops = [i for i, token in enumerate(ids) if token in request["stop_token_ids"]]
    ids = ids[: stops[0] + 1] if stops else ids
    choice = {"index": 0, "text": lm.tokenizer.decode(ids), "finish_reason": "stop" if stops else "length"}
    choice |= {"token_ids": ids} if request.get("return_token_ids") else {}
    usage = {"prompt_tokens": len(embeddings), "completion_tokens": len(ids)}
    return {"object": "text_completion", "choices": [choice], "usage": usage}


@contextmanager
def embeds_server(lm: FrozenLM, fault: Fault = lambda request, answer: None) -> Iterator[ChatServer]:
    """Serve a model (this server's alone); `fault` may answer otherwise."""
    lock = threading.Lock()

    def act(request: dict[str, Any], number: int) -> Act:
        with lock:
            answer = complete(lm, request)
        return fault(request, answer) or body(json.dumps(answer).encode())

    with serving(act) as server:
        yield server
