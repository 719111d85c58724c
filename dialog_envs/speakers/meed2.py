"""MEED2 (Xie and Pu, "Empathetic Dialog Generation with Fine-Grained Intents", CoNLL 2021) as a speaker.

It reads the emotions of what was said, predicts the emotion or intent of a good reply, and writes a reply that has it,
or another one that you choose:

    speaker = MEED2Speaker.from_pretrained()
    dialogue = Dialogue().said("partner", "i lost my job today.")
    speaker.predict([dialogue], "agent")  # probabilities (1, 41) of `reward_models.emotion_labels.LABELS`
    speaker.speak([dialogue], "agent", emotion="consoling", decoding=Beams())
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.names import look_up
from dialog_envs.speakers.beam import Beams, beam_search, sample_replies
from dialog_envs.speakers.meed2_model import Context, EmotionPredictor, MEED2Config, Responder, Writer
from reward_models.dmi.encoder import replaced_folder
from reward_models.emotion import EmotionClassifier
from reward_models.emotion_labels import LABELS

POCKET = Path(__file__).parent / "meed2_pocket"
"""Where the model that is shipped lies: float16, at most 12 MiB."""
SETTINGS, WEIGHTS = "meed2.json", "model.safetensors"
SEARCHED = 16  # dialogues of one beam search
IDS = {label: number for number, label in enumerate(LABELS)}
NEUTRAL = IDS["neutral"]
Classifier = Callable[[Sequence[str]], np.ndarray]
Emotion = str | int


def context_row(
    turns: Sequence[Sequence[int]], emotions: Sequence[int], own: Sequence[bool], end: int, longest: int
) -> list[tuple[int, int, int]]:
    """Return a dialogue as MEED2 reads it: (token id, emotion id, segment), an end token behind each turn.

    Args:
        turns: token ids of each turn.
        emotions: id of each turn's emotion or intent.
        own: whether the one who is to reply said it: segment 1, else 0.
        end: the end token.
        longest: most tokens; the oldest go.
    """
    row = [
        (token, emotion, int(mine))
        for ids, emotion, mine in zip(turns, emotions, own, strict=True)
        for token in (*ids, end)
    ]
    return row[-longest:]


class MEED2Speaker(nn.Module):
    """Predictor, encoder-decoder, tokenizer, and a classifier of what was said.

    Args:
        responder: writes replies.
        predictor: foretells their emotion or intent.
        tokenizer: has a beginning- and an end-of-sequence token.
        classifier: utterances -> probabilities `(n, 41)`; not saved with the rest.
    """

    def __init__(
        self,
        responder: Responder,
        predictor: EmotionPredictor,
        tokenizer: PreTrainedTokenizerBase,
        classifier: Classifier,
    ) -> None:
        super().__init__()
        self.responder, self.predictor = responder, predictor
        self.tokenizer, self.begin, self.end = tokenizer, tokenizer.bos_token_id, tokenizer.eos_token_id
        self.never = torch.tensor([token for token in tokenizer.all_special_ids if token != self.end])
        self.__dict__["classifier"] = classifier  # no part of this module's weights

    @classmethod
    def from_pretrained(
        cls, folder: str | Path = "pocket", classifier: str | Path | Classifier = "pocket", device: str = "cpu"
    ) -> MEED2Speaker:
        """Load what `save_pretrained` wrote, frozen; by default what is shipped.

        Args:
            folder: `"pocket"` or a folder.
            classifier: the same, of `reward_models.emotion`, or any function utterances -> probabilities.
            device: where the model runs.

        Raises:
            FileNotFoundError: there is no such model, or classifier; the message says what makes one.
            ValueError: the files do not fit each other.
        """
        folder = POCKET if folder == "pocket" else Path(folder)
        for name in (SETTINGS, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"no MEED2 in {folder}: {name} is missing (`python -m experiments meed2 finetune` trains one)"
                )
        settings = json.loads((folder / SETTINGS).read_text())
        if settings["labels"] != list(LABELS):
            raise ValueError(f"{folder / SETTINGS} has other labels than this version, or in another order")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        parts = (
            kind(MEED2Config(**settings[name]), len(tokenizer))
            for name, kind in (("responder", Responder), ("predictor", EmotionPredictor))
        )
        if not callable(classifier):
            classifier = EmotionClassifier.from_pretrained(classifier)
        speaker = cls(*parts, tokenizer, classifier)
        try:
            speaker.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except RuntimeError as error:
            raise ValueError(f"{folder / WEIGHTS} holds other weights than {SETTINGS} describes: {error}") from error
        return speaker.to(device).eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (float16), sizes and tokenizer to a folder that is replaced whole."""
        settings = {"responder": asdict(self.responder.config), "predictor": asdict(self.predictor.config)}
        with replaced_folder(folder) as temporary:
            weights = {name: value.half().contiguous() for name, value in self.state_dict().items()}
            save_file(weights, temporary / WEIGHTS)
            self.tokenizer.save_pretrained(temporary)
            (temporary / SETTINGS).write_text(json.dumps(settings | {"labels": LABELS}, indent=1) + "\n")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.responder.bias.device

    def emotions(self, dialogues: Sequence[Dialogue]) -> list[list[int]]:
        """Return the id of each turn's emotion or intent: its act where that is one, else the most probable one."""
        unknown = [t.text for d in dialogues for t in d.turns if t.act not in IDS and t.text.strip()]
        found = iter(self.classifier(unknown).argmax(1).tolist() if unknown else [])
        return [
            [IDS[t.act] if t.act in IDS else next(found) if t.text.strip() else NEUTRAL for t in d.turns]
            for d in dialogues
        ]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids

    def context(self, dialogues: Sequence[Dialogue], speaker: str, longest: int) -> Context:
        """Return what the networks read before a speaker's reply.

        Raises:
            ValueError: nobody has said anything in a dialogue.
        """
        for number, dialogue in enumerate(dialogues):
            if not dialogue.turns:
                raise ValueError(f"dialogue {number} has no turns: MEED2 replies to something")
        ids = iter(self.encode([turn.text for dialogue in dialogues for turn in dialogue.turns]))
        rows = [
            context_row(
                [next(ids) for _ in dialogue.turns],
                emotions,
                [turn.speaker == speaker for turn in dialogue.turns],
                self.end,
                longest,
            )
            for dialogue, emotions in zip(dialogues, self.emotions(dialogues), strict=True)
        ]
        return Context.pad(rows).to(self.device)

    @torch.no_grad()
    def predict(self, dialogues: Sequence[Dialogue], speaker: str) -> np.ndarray:
        """Return the probabilities `(N, 41)`, float64, of the emotion or intent that the speaker's reply will have."""
        context = self.context(dialogues, speaker, self.predictor.config.max_tokens)
        return self.predictor(context).double().softmax(-1).cpu().numpy()

    @torch.no_grad()
    def speak(
        self,
        dialogues: Sequence[Dialogue],
        speaker: str,
        emotion: Emotion | Sequence[Emotion] | None = None,
        decoding: Sampling | Beams = Sampling(),
        generators: Sequence[np.random.Generator] | None = None,
    ) -> list[str]:
        """Return one reply a dialogue.

        Args:
            dialogues: N dialogues.
            speaker: who replies.
            emotion: a label or id for all, or one each; None takes the most probable of `predict`.
            decoding: draw the reply, or search it.
            generators: one a row, which draws one uniform number a token; a search needs none.

        Raises:
            ValueError: an emotion is unknown (the message names the nearest), generators are missing, or replies would
                be longer than the model writes.
        """
        if decoding.max_new_tokens > self.responder.config.max_tokens:
            limit = self.responder.config.max_tokens
            raise ValueError(f"max_new_tokens is {decoding.max_new_tokens}, this model writes {limit} at most")
        if not dialogues:
            return []
        chosen = self.predict(dialogues, speaker).argmax(1) if emotion is None else label_ids(emotion, len(dialogues))
        context = self.context(dialogues, speaker, self.responder.config.max_tokens)
        emotions = torch.as_tensor(np.asarray(chosen), device=self.device)
        if isinstance(decoding, Beams):
            replies = [reply for part in _parts(context, emotions) for reply in self._search(*part, decoding)]
        elif generators is None:
            raise ValueError("no generators: drawing a reply needs one a row")
        else:
            uniforms = torch.from_numpy(np.stack([g.random(decoding.max_new_tokens) for g in generators]))
            writer = Writer(self.responder, context, emotions)
            replies = sample_replies(writer, uniforms, self.begin, self.end, decoding, never=self.never)
        return [text.strip() for text in self.tokenizer.batch_decode(replies, skip_special_tokens=True)]

    def _search(self, context: Context, emotions: Tensor, beams: Beams) -> list[list[int]]:
        writer = Writer(self.responder, context, emotions)
        found = beam_search(writer, len(emotions), self.begin, self.end, beams, self.never)
        return [hypotheses[0][0] for hypotheses in found]


def label_ids(emotion: Emotion | Sequence[Emotion], count: int) -> list[int]:
    """Return the ids of one label or id for all, or of one each.

    Raises:
        ValueError: one is unknown, or there are not `count` of them.
    """
    given = [emotion] * count if isinstance(emotion, (str, int, np.integer)) else list(emotion)
    if len(given) != count:
        raise ValueError(f"{len(given)} emotions for {count} dialogues")
    ids = [look_up("emotion", each, IDS) if isinstance(each, str) else int(each) for each in given]
    for each in ids:
        if not 0 <= each < len(LABELS):
            raise ValueError(f"emotion is {each}, expected a label or an id from 0 to {len(LABELS) - 1}")
    return ids


def _parts(context: Context, emotions: Tensor) -> list[tuple[Context, Tensor]]:
    """Return the rows of a few dialogues at a time."""
    pieces = zip(*(part.split(SEARCHED) for part in (*context, emotions)), strict=True)
    return [(Context(*piece[:-1]), piece[-1]) for piece in pieces]
