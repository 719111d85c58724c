"""The language of a model by itself: perplexity on real dialogues, and how varied its own ones are beside real ones.

**Perplexity** is that of every turn of a validation dialogue (plain training sequences: a random speaker's situation,
no control place), all dialogues of a corpus taken as one text; its interval is a bootstrap over dialogues.

**Distinct-2** (different pairs of neighbouring words over all pairs; no pair goes over the end of a turn) falls as a
text grows, so the model's dialogues are compared with as much real text, cut alike:

- The model speaks for both sides, unsteered, once on each held-out scenario and seed. The partner's opening is the
  scenario's and is not counted; nor is the first turn of a real dialogue.
- Each model dialogue gets a real dialogue of the validation corpora of its own (over all seeds), with at least as
  many turns, cut to the same number of turns, and with at least as many words in them. Of all such pairings it is the
  one with the fewest words too many; these are then cut off the ends of the longest turns, one by one. So both texts
  have the same number of dialogues, of turns in each dialogue, and of words in each.
- Real text is spelt as the model would write it: through its tokenizer and back (lower case, its normalisation).
- Distinct-2 is taken for each seed's text and averaged. The interval of the ratio, half of it reported, is a bootstrap
  over scenarios: those drawn are drawn for all seeds, together with the real dialogues paired with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import bootstrap
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dialog_envs import corpora
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import load_lm
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.pocket_tokenizer import ASSISTANT, USER
from experiments.language import ngrams, repeated, sequence_nats, unsteered_dialogues
from experiments.pocket_trainer import PretrainConfig
from experiments.pretrain import VALIDATION_CORPORA, sequence_batches
from experiments.pretraining_data import SequenceMaker, tokenize
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results
from experiments.statistics import clustered_ci95, mean_ci95

Turns = list[tuple[str, str]]  # (speaker, text)


@dataclass(frozen=True)
class Config:
    """Measure the language of pocket models: perplexity on real dialogues, Distinct-2 beside that of real dialogues."""

    models: tuple[str, ...] = ("pocket",)
    """`pocket`, or folders of models that `python -m experiments pretrain` made, with one tokenizer."""
    out: Path = Path("runs/fluency")
    """Run folder; `dialogues.json` holds the models' dialogues."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    validation_dialogues: int = 1000
    """Dialogues of each validation corpus, at most."""
    episodes: int = 102
    """Own dialogues a seed: one on each held-out scenario."""
    seeds: int = 3
    """Seeds of the own dialogues."""
    resamples: int = 2000
    """Bootstrap samples."""


def run(config: Config) -> Path:
    """Measure, print and write the table; return the run folder.

    Raises:
        FileNotFoundError: there is no data folder, or an official file is missing in it.
        ValueError: a model has another chat format than the pocket model's, or another vocabulary than the first.
    """
    models = {name: load_lm(name, "cpu", "float32") for name in config.models}
    check_comparable(models)
    root = corpora.root(config.data)
    files = [file for name, split in VALIDATION_CORPORA.items() for file in corpora.files(name, root, split)]
    files += [file for name in config.models for file in model_files(name)]
    out = open_run(config.out, "fluency", config, files)
    real = {name: list(corpora.read(name, root, split)) for name, split in VALIDATION_CORPORA.items()}
    rows, said = [], {}
    for name, lm in models.items():
        rows += perplexities(name, lm, real, config)
        said[name] = own_dialogues(name, config)
        rows += variety(name, lm.tokenizer, said[name], real, config)
    write_json(out / "dialogues.json", said)
    write_results(out, rows)
    for row in rows:
        interval = "" if row.ci95 is None else f"+- {row.ci95:.3f}"
        print(f"{row.system:<24} {row.metric:<34} {row.value:10.3f} {interval:<10} ({row.n})")
    return out


def check_comparable(models: dict[str, FrozenLM]) -> None:
    """Raise ValueError unless all models write the pocket model's format in the first one's vocabulary."""
    first = next(iter(models))
    for name, lm in models.items():
        vocabulary = lm.tokenizer.get_vocab()
        if not {USER, ASSISTANT} <= set(vocabulary):
            raise ValueError(f"{name} has no tokens {USER} and {ASSISTANT}: expected a model that `pretrain` made")
        if vocabulary != models[first].tokenizer.get_vocab():
            raise ValueError(f"{name} has another vocabulary than {first}: their perplexities cannot be compared")


def perplexities(name: str, lm: FrozenLM, real: dict[str, list[Dialogue]], config: Config) -> list[ResultRow]:
    """Return the perplexity on each corpus."""
    defaults, rows = PretrainConfig(), []
    maker = SequenceMaker(lm.tokenizer, defaults.prefix_length, defaults.max_length, defaults.max_coded_length)
    for corpus, dialogues in real.items():
        tokenized = tokenize(dialogues[: config.validation_dialogues], lm.tokenizer)
        batches = sequence_batches(tokenized, False, maker, np.random.default_rng(0))
        bar = tqdm(batches, desc=f"{name}, {corpus}", unit="batch", leave=False)
        nats = np.concatenate([sequence_nats(lm.model, batch).numpy() for batch in bar])
        tokens = np.concatenate([batch.trained[:, 1:].sum(1).numpy() for batch in batches])
        value = float(np.exp(nats.sum() / tokens.sum()))
        half = half_width(lambda i, n=nats, t=tokens: np.exp(n[i].sum() / t[i].sum()), len(nats), config.resamples)
        rows.append(ResultRow(name, f"perplexity/{corpus}", value, half, int(tokens.sum()), 1))
    return rows


def own_dialogues(name: str, config: Config) -> list[list[Turns]]:
    """Return what the unsteered model said on held-out scenarios, by seed; the opening is left out."""
    said = []
    for seed in range(config.seeds):
        episodes = unsteered_dialogues(name, config.episodes, seed, f"{name}, seed {seed}")
        failed = [episode.error for episode in episodes if episode.error]
        if failed:
            raise ValueError(f"{len(failed)} dialogues of {name} failed, the first by: {failed[0]}")
        said.append([[turn for turn in episode.turns[1:] if turn[1]] for episode in episodes])
    return said


def variety(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    said: list[list[Turns]],
    real: dict[str, list[Dialogue]],
    config: Config,
) -> list[ResultRow]:
    """Return Distinct-2, repetition and length of a model's dialogues and of the real ones matched with them."""
    pool = [(corpus, as_written(dialogue, tokenizer)) for corpus in real for dialogue in real[corpus]]
    flat = [turns for group in said for turns in group]
    chosen = [pool[j] for j in match(flat, [turns for _, turns in pool])]
    uncut = [turns[: len(own)] for own, (_, turns) in zip(flat, chosen, strict=True)]
    cut = [cut_to(turns, words(own)) for own, turns in zip(flat, uncut, strict=True)]
    seeds, count = len(said), len(said[0])
    own_pairs, real_pairs = (np.array([*map(_Pairs, ds)], dtype=object).reshape(seeds, count) for ds in (flat, cut))
    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "distinct_2": lambda i: mean_distinct(own_pairs[:, i]),
        "distinct_2/real": lambda i: mean_distinct(real_pairs[:, i]),
        "distinct_2/ratio": lambda i: mean_distinct(own_pairs[:, i]) / mean_distinct(real_pairs[:, i]),
    }
    rows = []
    for metric, statistic in statistics.items():
        half = half_width(statistic, count, config.resamples)
        rows.append(ResultRow(name, metric, statistic(np.arange(count)), half, len(flat), seeds))
    for metric, measure in (("repeated_turns", lambda turns: repeated([turns])), ("words_a_turn", mean_words)):
        own_values = np.array([*map(measure, flat)]).reshape(seeds, count)
        rows.append(ResultRow(name, metric, *clustered_ci95(own_values), len(flat), seeds))
        rows.append(ResultRow(name, f"{metric}/real", *mean_ci95([*map(measure, uncut)]), len(flat), 1))
    share = 1 - sum(map(words, cut)) / sum(map(words, uncut))
    rows.append(ResultRow(name, "words_cut_off/real", share, None, len(flat), 1))
    origins = Counter(corpus for corpus, _ in chosen)
    return rows + [ResultRow(name, f"matched/{corpus}", origins[corpus], None, len(flat), 1) for corpus in real]


def as_written(dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Return the turns of a real dialogue but its first, spelt as the model would write them."""
    turns = dialogue.turns[1:]
    if not turns:
        return []
    ids = tokenizer([turn.text for turn in turns], add_special_tokens=False)["input_ids"]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [(turn.speaker, text.strip()) for turn, text in zip(turns, texts, strict=True)]


def match(own: Sequence[Turns], pool: Sequence[Turns]) -> list[int]:
    """Return for each own dialogue the index of its real one: none twice, in all the fewest words too many.

    Raises:
        ValueError: there are not enough real dialogues that are long enough.
    """
    longest = max(map(len, own))
    counts = np.full((len(pool), longest + 1), -1)  # words in the first n turns, -1 where there are fewer turns
    for row, turns in enumerate(pool):
        lengths = [len(text.split()) for _, text in turns[:longest]]
        counts[row, : len(lengths) + 1] = np.cumsum([0, *lengths])
    excess = counts[:, list(map(len, own))].T - np.array([*map(words, own)])[:, None]  # (own, pool)
    try:
        return linear_sum_assignment(np.where(excess < 0, np.inf, excess))[1].tolist()
    except ValueError as error:
        raise ValueError(f"{len(pool)} real dialogues hold no match for each of {len(own)} own ones") from error


def cut_to(turns: Turns, count: int) -> Turns:
    """Return the turns without the last words of the longest ones, so that `count` words remain."""
    lengths = [len(text.split()) for _, text in turns]
    for _ in range(sum(lengths) - count):
        lengths[int(np.argmax(lengths))] -= 1
    return [(speaker, " ".join(text.split()[:n])) for (speaker, text), n in zip(turns, lengths, strict=True)]


def words(turns: Turns) -> int:
    """Return the number of words."""
    return sum(len(text.split()) for _, text in turns)


def mean_words(turns: Turns) -> float:
    """Return the number of words a turn; NaN without turns."""
    return words(turns) / len(turns) if turns else float("nan")


class _Pairs:
    """The word pairs of one dialogue: how many, and which."""

    def __init__(self, turns: Turns) -> None:
        pairs = ngrams([text for _, text in turns])
        self.count, self.different = len(pairs), frozenset(pairs)


def mean_distinct(pairs: np.ndarray) -> float:
    """Return Distinct-2 of each row of dialogues, `(seeds, dialogues)` of `_Pairs`, averaged."""
    values = [len(frozenset().union(*(p.different for p in row))) / max(1, sum(p.count for p in row)) for row in pairs]
    return float(np.mean(values))


def half_width(statistic: Callable[[np.ndarray], float], count: int, resamples: int) -> float:
    """Return half the 95% interval of a statistic of indices, which are drawn with replacement from `range(count)`.

    A dialogue that is drawn twice lowers Distinct-2, of both texts alike, so that the interval's middle says less than
    the statistic itself; its width is what counts.
    """
    found = bootstrap(
        (np.arange(count),), statistic, n_resamples=resamples, vectorized=False, method="percentile", rng=0
    )
    return float(found.confidence_interval.high - found.confidence_interval.low) / 2
