"""What the frozen model says by itself: (dialogue, reply) pairs, the data of self-cloning and of the latent code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree
from dialog_envs.core import DialogueCore
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt
from dialog_envs.scenarios.scenario import AGENT


@dataclass(frozen=True)
class Utterance:
    """One reply in its context.

    Attributes:
        prompt: the speaker's prompt.
        reply: token ids, the stop token included.
        state: `(H,)` hidden state of the prompt under the unsteered model.
    """

    prompt: Prompt
    reply: tuple[int, ...]
    state: np.ndarray


def collect_utterances(
    core: DialogueCore, lm: FrozenLM, count: int, seed: int, progress: bool = True, path: Path | None = None
) -> list[Utterance]:
    """Roll dialogues out under zero actions and return at least `count` utterances of the agent.

    Args:
        core: an environment's core; with `up_map="none"` the utterances are the unsteered model's own.
        lm: the agent's frozen model.
        count: how many.
        seed: row i begins with seed + i.
        progress: show a bar.
        path: file that keeps them; what lies there is read instead.

    Raises:
        ValueError: the file at `path` was collected with other arguments.
    """
    settings = {"count": count, "seed": seed, "rows": core.num_envs}
    if path is not None and path.exists():
        return _read(path, settings)
    found: list[Utterance] = []
    rows = list(range(core.num_envs))
    core.reset(rows, [seed + row for row in rows], [None] * len(rows))
    zero = np.zeros((core.num_envs, *core.actor.action_space.shape), dtype=np.float32)
    with tqdm(total=count, desc="collect utterances", unit="utterance", disable=not progress, leave=False) as bar:
        while len(found) < count:
            before = [state.dialogue for state in core.states]
            states = core.observations.copy()
            result = core.step(zero)
            prompts = lm.prompts.render_batch(before, [AGENT] * len(before))
            for row, info in enumerate(result.infos):
                if info.get("agent_text"):
                    found.append(Utterance(prompts[row], reply_ids(lm, info["agent_text"]), states[row]))
            ended = np.flatnonzero(result.terminated | result.truncated).tolist()
            if ended:
                core.reset(ended, [None] * len(ended), [None] * len(ended))
            bar.update(core.num_envs)
    found = found[:count]
    if path is not None:
        _write(path, settings, found)
    return found


def _write(path: Path, settings: Mapping[str, int], found: Sequence[Utterance]) -> None:
    said = [(asdict(one.prompt), one.reply) for one in found]
    save_tree(path, {"settings": settings, "said": said, "states": np.stack([one.state for one in found])})


def _read(path: Path, settings: Mapping[str, int]) -> list[Utterance]:
    tree = load_tree(path)
    if tree["settings"] != settings:
        raise ValueError(f"{path} was collected with {tree['settings']}, this call has {settings}")
    said = zip(tree["said"], tree["states"], strict=True)
    return [Utterance(Prompt(**prompt), reply, state) for (prompt, reply), state in said]


def reply_ids(lm: FrozenLM, text: str) -> tuple[int, ...]:
    """Return the token ids of a reply with its stop token."""
    end = [lm.tokenizer.eos_token_id] if lm.tokenizer.eos_token_id is not None else []
    return tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"] + end)


def fit(
    parameters: Iterable[Tensor],
    loss: Callable[[Sequence[Utterance], torch.Generator], dict[str, Tensor]],
    data: Sequence[Utterance],
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    log: Callable[[int, dict[str, float]], None] | None = None,
    description: str = "fit",
) -> None:
    """Minimise `loss(batch, generator)["loss"]` by Adam, its rate falling linearly to zero; the seed sets batches."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    rng, generator = np.random.default_rng(seed), torch.Generator(parameters[0].device).manual_seed(seed)
    bar = tqdm(range(steps), desc=description, unit="step", leave=False)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        batch = [data[i] for i in rng.integers(len(data), size=batch_size)]
        parts = loss(batch, generator)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if log is not None and (step % 10 == 0 or step + 1 == steps):
            log(step, {name: float(value.detach()) for name, value in parts.items()})
        if step % 10 == 0:
            bar.set_postfix(loss=f"{float(parts['loss'].detach()):.3f}")
