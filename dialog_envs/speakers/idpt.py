"""IDPT: a frozen language model that speaks with a chosen, or a recognised, initiative (Nie et al., NAACL 2024).

    idpt = IDPT.from_pretrained()  # the shipped set; or a folder of `save_pretrained`
    idpt.speak(dialogues, "agent", generators)                # with the initiative that the recogniser sees fit
    idpt.speak(dialogues, "agent", generators, initiative=3)  # leading

Only prefixes and recogniser are trained and saved. Any Hugging Face causal model and encoder will do:

    IDPT.from_scratch(IDPTConfig(attention="soft"), lm="gpt2", encoder="bert-base-uncased")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.speakers.idpt_model import IDPTConfig, Prefixes, Recogniser, as_key_values, attention_weights, mixed
from dialog_envs.speakers.ppg import ResponseGenerator
from reward_models.dmi.encoder import DialogueEncoder, replaced_folder

POCKET = Path(__file__).parent / "idpt_pocket"
"""Where the set that is shipped lies: float16, at most 4 MiB."""
SETTINGS, WEIGHTS = "idpt.json", "idpt.safetensors"
PROBED = 4  # numbers of each tensor of a frozen model that are kept to know it again


class IDPT(nn.Module):
    """Initiative-aware prefixes of a frozen language model, and the recogniser that chooses among them.

    Its parameters are those of prefixes and recogniser alone: language model and encoder stay as they are.

    Args:
        lm: the frozen decoder.
        encoder: reads knowledge and history.
        config: what the set is made of.
        names: what decoder and encoder are loaded by, for `from_pretrained`.

    Attributes:
        prefixes: H = MLP(E).
        recogniser: says which initiative fits; None with `uniform` attention.
        trained_on: names of the corpora that it learned from.
    """

    def __init__(
        self,
        lm: FrozenLM,
        encoder: DialogueEncoder,
        config: IDPTConfig = IDPTConfig(),
        names: tuple[str, str] = ("pocket", "pocket"),
    ) -> None:
        super().__init__()
        self.lm, self.config, self.names = lm, config, names
        self.trained_on: tuple[str, ...] = ()
        self._encoder = (encoder.requires_grad_(False).eval(),)  # in a tuple: no part of this module
        self.layers, self.heads, head_size = _key_value_shape(lm)
        size = self.layers * 2 * self.heads * head_size
        self.prefixes = Prefixes(config, size)
        self.recogniser = Recogniser(config, size, encoder.hidden_size) if config.attention != "uniform" else None
        self.to(lm.device)

    @property
    def encoder(self) -> DialogueEncoder:
        """The frozen encoder."""
        return self._encoder[0]

    @classmethod
    def from_scratch(
        cls,
        config: IDPTConfig = IDPTConfig(),
        lm: str = "pocket",
        encoder: str = "pocket",
        seed: int = 0,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> IDPT:
        """Return an untrained set over a language model and an encoder, each by name or folder."""
        models = FrozenLM.from_pretrained(lm, device, dtype), _load_encoder(encoder, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(*models, config, (lm, encoder))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path = "pocket",
        lm: FrozenLM | None = None,
        encoder: DialogueEncoder | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> IDPT:
        """Load what `save_pretrained` wrote; `"pocket"` is the shipped set.

        Args:
            folder: where it lies.
            lm: its language model, where that is loaded already.
            encoder: its encoder, likewise.
            device: where the models run.
            dtype: of the language model's weights.

        Raises:
            FileNotFoundError: there is none, or its language model or encoder is not there.
            ValueError: the language model or the encoder has other weights than those it was trained with.
        """
        folder = POCKET if folder == "pocket" else Path(folder)
        for name in (SETTINGS, WEIGHTS):
            if not (folder / name).is_file():
                made = "`python -m experiments idpt train`, then `idpt ship`, make the shipped one"
                raise FileNotFoundError(f"no IDPT prefixes in {folder}: {name} is missing ({made})")
        saved = json.loads((folder / SETTINGS).read_text())
        lm = lm or FrozenLM.from_pretrained(saved["lm"], device, dtype)
        encoder = encoder or _load_encoder(saved["encoder"], device)
        for kind, model in (("lm", lm.model), ("encoder", encoder.model)):
            if not _is_known(model, saved["probes"][kind]):
                raise ValueError(f"{folder} was trained on other weights of the {kind} {saved[kind]!r}")
        idpt = cls(lm, encoder, IDPTConfig(**saved["config"]), (saved["lm"], saved["encoder"]))
        idpt.trained_on = tuple(saved["trained_on"])
        idpt.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        return idpt.eval()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `idpt.json` and `idpt.safetensors` (float16) to a folder that replaces an older one as a whole."""
        probes = {"lm": _probe(self.lm.model), "encoder": _probe(self.encoder.model)}
        settings = {"config": asdict(self.config), "lm": self.names[0], "encoder": self.names[1]}
        settings |= {"trained_on": self.trained_on, "probes": probes}
        with replaced_folder(folder) as temporary:
            weights = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
            save_file(weights, temporary / WEIGHTS)
            (temporary / SETTINGS).write_text(json.dumps(settings) + "\n")
        return Path(folder)

    @torch.no_grad()
    def encode_history(self, dialogues: Sequence[Dialogue], speakers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the encoded knowledge and history `(N, T, S)` of each speaker, and their mask `(N, T)`."""
        tokens = self.encoder.tokens
        texts = [
            [text for text in (d.situations.get(s, ""), *(turn.text for turn in d.turns)) if text] or [""]
            for d, s in zip(dialogues, speakers, strict=True)
        ]
        ids, mask = tokens.pad([tokens.context(tokens.utterances(said)) for said in texts])
        ids, mask = ids.to(self.encoder.device), mask.to(self.encoder.device)
        return self.encoder.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float(), mask

    def logits(self, dialogues: Sequence[Dialogue], speakers: Sequence[str]) -> Tensor:
        """Return the recogniser's logits `(N, K)`, with gradient; zeros where there is no recogniser."""
        if self.recogniser is None:
            return self.prefixes.embedding.new_zeros(len(dialogues), self.config.initiatives)
        return self.recogniser(self.prefixes(), *self.encode_history(dialogues, speakers))

    @torch.no_grad()
    def recognise(self, dialogues: Sequence[Dialogue], speakers: Sequence[str]) -> np.ndarray:
        """Return the probability `(N, K)` that a turn of `speakers` here has each initiative."""
        return self.logits(dialogues, speakers).softmax(1).cpu().numpy()

    def key_values(self, weights: Tensor) -> Tensor:
        """Return the decoder's prefix `(N, layers, 2, heads, L, head size)` for weights `(N, K)`, with gradient."""
        return as_key_values(mixed(self.prefixes(), weights), self.layers, self.heads)

    def log_prob(
        self, dialogues: Sequence[Dialogue], speakers: Sequence[str], responses: Sequence[str], weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probability `(N, T)` of each token of given responses, with gradient, and a mask `(N, T)`.

        Args:
            dialogues: what was said before.
            speakers: who responds.
            responses: what is said.
            weights: `(N, K)` how much of each prefix a turn takes.
        """
        prompts = self.lm.prompts.render_batch(dialogues, speakers)
        ids = ResponseGenerator(self.lm).encode(responses)
        logits, targets, mask = self.lm.reply_logits(prompts, ids, key_values=self.key_values(weights))
        logits = logits.float().index_fill(-1, self.lm.suppressed, -torch.inf)
        chosen = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return chosen.masked_fill(~mask, 0.0), mask

    def losses(
        self,
        dialogues: Sequence[Dialogue],
        speakers: Sequence[str],
        responses: Sequence[str],
        labels: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the recogniser's cross-entropy (0 without labels) and the responses' mean loss a token, in nats.

        With `hard` attention and labels, the response is that of its labelled initiative's prefix; the recogniser's own
        choice would, while it is still wrong, train one initiative's prefix on another's responses.
        """
        logits = self.logits(dialogues, speakers)
        weights = attention_weights(logits, self.config.attention)
        cross_entropy = logits.new_zeros(())
        if labels is not None and self.recogniser is not None:
            target = torch.tensor(list(labels), device=logits.device)
            cross_entropy = F.cross_entropy(logits, target)
            if self.config.attention == "hard":
                weights = F.one_hot(target, logits.shape[1]).to(logits.dtype)
        log_probs, mask = self.log_prob(dialogues, speakers, responses, weights)
        return cross_entropy, -log_probs.sum() / mask.sum()

    @torch.no_grad()
    def speak(
        self,
        dialogues: Sequence[Dialogue],
        speaker: str | Sequence[str],
        generators: Sequence[np.random.Generator],
        initiative: int | Sequence[int] | None = None,
        sampling: Sampling = Sampling(),
        attention: str | None = None,
    ) -> list[str]:
        """Return one utterance a dialogue.

        Args:
            dialogues: N dialogues.
            speaker: whose turn it is, for all or one a row.
            generators: one a row; each draws one uniform number a token.
            initiative: which initiative leads, for all or one a row; None for what the recogniser sees fit.
            sampling: temperature, cut and longest reply.
            attention: how the recognised initiatives are mixed, if not as the set was trained.

        Raises:
            ValueError: there is no such initiative.
        """
        speakers = [speaker] * len(dialogues) if isinstance(speaker, str) else list(speaker)
        if initiative is None:
            weights = attention_weights(self.logits(dialogues, speakers), attention or self.config.attention)
        else:
            weights = self.chosen(initiative, len(dialogues))
        prompts = self.lm.prompts.render_batch(dialogues, speakers)
        uniforms = np.stack([generator.random(sampling.max_new_tokens) for generator in generators])
        return self.lm.decode(self.lm.generate(prompts, uniforms, sampling, key_values=self.key_values(weights)))

    def chosen(self, initiative: int | Sequence[int], rows: int) -> Tensor:
        """Return the weights `(N, K)` of chosen initiatives; raise ValueError for one that there is not."""
        count, wanted = self.config.initiatives, np.broadcast_to(np.asarray(initiative), rows)
        if not np.issubdtype(wanted.dtype, np.integer) or not ((wanted >= 0) & (wanted < count)).all():
            raise ValueError(f"initiative is {initiative}, expected 0 to {count - 1}")
        target = torch.from_numpy(wanted.astype(np.int64)).to(self.lm.device)
        return F.one_hot(target, count).float()


@torch.no_grad()
def _key_value_shape(lm: FrozenLM) -> tuple[int, int, int]:
    """Return layers, heads and head size of a model's keys, as it computes them."""
    cache = lm.model(torch.zeros(1, 1, dtype=torch.long, device=lm.device), use_cache=True).past_key_values
    return len(cache.layers), *(cache.layers[0].keys.shape[i] for i in (1, 3))


def _load_encoder(name: str, device: str) -> DialogueEncoder:
    with torch.random.fork_rng(devices=[]):  # a separator that an encoder lacks is drawn at random, always alike
        torch.manual_seed(0)
        return DialogueEncoder.from_pretrained(name).to(device)


def _probe(model: nn.Module) -> dict[str, list[float]]:
    """Return the first numbers of each tensor: other weights have others, in any precision."""
    return {name: value.detach().flatten()[:PROBED].float().tolist() for name, value in model.named_parameters()}


def _is_known(model: nn.Module, saved: Mapping[str, Any]) -> bool:
    own = _probe(model)
    return set(own) == set(saved) and all(np.allclose(own[name], saved[name], 0.01, 1e-4) for name in own)
