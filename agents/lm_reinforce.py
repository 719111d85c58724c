"""REINFORCE on a language model's own weights: the control of DAT's claim that a frozen model keeps its language.

The agent is a copy of the frozen model, unsteered, whose every weight learns; the partner stays the frozen one. The
gradient is that of Williams (1992): an utterance's log-probability times its reward-to-go, less the mean of the others
in the same turn. With `kl_weight` 0 nothing holds the language, as in the paper's argument.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree
from agents.utterances import reply_ids
from dialog_envs.core import DialogueCore
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import SteeredActor
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.scenarios.scenario import AGENT
from reward_models.dmi.encoder import replaced_folder

CHECKPOINT = "lm_reinforce.safetensors"
KL_EVERY = 10  # updates, where the divergence is only looked at


@dataclass(frozen=True)
class LMReinforceConfig:
    """Hyper-parameters."""

    learning_rate: float = 1e-4
    """Of Adam."""
    kl_weight: float = 0.0
    """Weight of KL(learned || frozen), in nats a token; 0: nothing holds it, and it is logged every tenth update."""
    clip: float = 1.0
    """Longest gradient."""
    seed: int = 0
    """Of the dialogues."""

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.clip > 0 and self.kl_weight >= 0):
            raise ValueError(f"learning_rate and clip must be positive, kl_weight at least 0: {self}")


@dataclass
class Said:
    """One utterance: the dialogue before it, its text, its row and turn, and the reward of the turn."""

    before: Dialogue
    text: str
    row: int
    turn: int
    reward: float


class LMReinforce:
    """The learner. Stopped and resumed however often, it has the bits of one that was not, on a CPU.

    Args:
        core: dialogues of an unsteered agent (`up_map="none"`); its speaker speaks on with the learner's own model.
        config: hyper-parameters.

    Attributes:
        lm: the copy that learns.
        steps: updates taken; each plays a dialogue in every row.
        environment_steps: turns taken, those of failed dialogues too.
        history: one entry an update.
    """

    def __init__(self, core: DialogueCore, config: LMReinforceConfig = LMReinforceConfig()) -> None:
        speaker = core.actor.speaker
        self.core, self.config, self.frozen = core, config, speaker.lm
        self.lm = FrozenLM(copy.deepcopy(self.frozen.model), self.frozen.tokenizer)
        self.lm.model.requires_grad_(True)
        self.temperature = speaker.sampling.temperature or 1.0
        own = copy.copy(speaker)
        own.lm = own.engine = self.lm
        core.actor = SteeredActor(own, None, core.actor.action_space.shape[0])
        self.optimizer = torch.optim.Adam(self.lm.model.parameters(), lr=config.learning_rate)
        self.steps = self.environment_steps = 0
        self.history: list[dict[str, float]] = []

    def train(self, transitions: int, checkpoint_dir: Path, checkpoint_every: int = 10, progress: bool = True) -> None:
        """Update until so many turns have been taken in all, or a few more; go on from a checkpoint that lies there."""
        path = Path(checkpoint_dir) / CHECKPOINT
        if self.steps == 0 and path.exists():
            self.restore(path)
        begun = self.environment_steps
        with tqdm(total=transitions, initial=begun, desc="REINFORCE", unit="turn", disable=not progress) as bar:
            while self.environment_steps < transitions:
                self.update()
                bar.update(self.environment_steps - bar.n)
                if self.steps % checkpoint_every == 0 or self.environment_steps >= transitions:
                    self.save(path)

    def update(self) -> dict[str, float]:
        """Play a dialogue in every row and take one step; where all failed nothing is learned."""
        said, failed = self.play()
        self.environment_steps += len(said) + failed
        self.steps += 1
        numbers = {"rollout/failed": failed / max(1, len(said) + failed)}
        said = [one for one in said if reply_ids(self.frozen, one.text)]
        if said:
            numbers |= self._step(said, torch.from_numpy(advantages(said)).float())
        self.history.append({"step": self.environment_steps, **numbers})
        return numbers

    def play(self) -> tuple[list[Said], int]:
        """Return what was said in one dialogue a row, failed dialogues left out, and how many turns those had."""
        rows = list(range(self.core.num_envs))
        seeds = np.random.SeedSequence([self.config.seed, self.steps]).generate_state(len(rows), np.uint64) >> 1
        self.core.reset(rows, [int(seed) for seed in seeds], [None] * len(rows))
        said: list[Said] = []
        failed: set[int] = set()
        zero = np.zeros((len(rows), *self.core.actor.action_space.shape), dtype=np.float32)
        going, turn = np.array(rows), 0
        while len(going):
            before = [self.core.states[row].dialogue for row in going]
            result = self.core.step(zero[going], going)
            for i, row in enumerate(going.tolist()):
                info = result.infos[i]
                failed |= {row} if "error" in info else set()
                said.append(Said(before[i], info.get("agent_text", ""), row, turn, float(result.rewards[i])))
            going, turn = going[~(result.terminated | result.truncated)], turn + 1
        kept = [one for one in said if one.row not in failed]
        return kept, len(said) - len(kept)

    def _step(self, said: list[Said], advantage: Tensor) -> dict[str, float]:
        prompts = self.lm.prompts.render_batch([one.before for one in said], [AGENT] * len(said))
        replies = [reply_ids(self.lm, one.text) for one in said]
        logits, targets, mask = self.lm.reply_logits(prompts, replies)
        own = (logits.float() / self.temperature).log_softmax(-1)  # (N, T, V)
        log_prob = (own.gather(-1, targets.unsqueeze(-1)).squeeze(-1) * mask).sum(1)  # (N,)
        loss = -(advantage.to(log_prob.device) * log_prob).mean()
        numbers = {"train/loss": loss.item()}
        if self.config.kl_weight > 0 or self.steps % KL_EVERY == 0:
            with torch.no_grad():
                start = (self.frozen.reply_logits(prompts, replies)[0].float() / self.temperature).log_softmax(-1)
            with torch.set_grad_enabled(self.config.kl_weight > 0):
                divergence = (own.exp() * (own - start)).sum(-1)[mask].mean()
            loss = loss + self.config.kl_weight * divergence
            numbers["train/kl"] = divergence.item()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.lm.model.parameters(), self.config.clip)
        self.optimizer.step()
        episodes = len({one.row for one in said})
        reward = sum(one.reward for one in said) / episodes
        return numbers | {"rollout/ep_rew_mean": reward, "train/gradient_norm": norm.item()}

    def save(self, path: str | Path) -> None:
        """Save the whole state atomically as one safetensors file."""
        tree = {"model": self.lm.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        names = ("steps", "environment_steps", "history")
        source = {"config": asdict(self.config), "start": self.frozen.fingerprint()}
        save_tree(path, tree | source | {name: getattr(self, name) for name in names})

    def restore(self, path: str | Path) -> None:
        """Take the whole state from a file written by `save`.

        Raises:
            ValueError: it is of another configuration, or began with another model.
        """
        tree = load_tree(path)
        for name, own in (("config", asdict(self.config)), ("start", self.frozen.fingerprint())):
            if tree.get(name) != own:
                raise ValueError(f"{path} has {name} {tree.get(name)}, this learner has {own}")
        self.lm.model.load_state_dict(tree["model"])
        self.optimizer.load_state_dict(tree["optimizer"])
        self.steps, self.environment_steps, self.history = (
            tree[name] for name in ("steps", "environment_steps", "history")
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the learned model and its tokenizer as a Hugging Face folder, whole or not at all."""
        with replaced_folder(folder) as temporary:
            self.lm.model.save_pretrained(temporary)
            self.lm.tokenizer.save_pretrained(temporary)


def advantages(said: list[Said]) -> np.ndarray:
    """Return each utterance's reward-to-go less the mean of the other rows' in the same turn, `(N,)`."""
    to_go = np.array([sum(o.reward for o in said if o.row == one.row and o.turn >= one.turn) for one in said])
    turns = np.array([one.turn for one in said])
    same = turns[:, None] == turns[None, :]
    others = same.sum(1) - 1
    baseline = np.divide(same @ to_go - to_go, others, out=np.zeros_like(to_go), where=others > 0)
    return to_go - baseline
