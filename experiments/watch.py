"""Held-out judges: they look at what a run's dialogues became, are logged, and are never optimised.

A planner that gets better by its own judge and not by another one has found a hole in its judge (reward hacking).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.judges import RoundJudge, make_judge
from dialog_envs.parts import Judge, Judgement, Rows
from dialog_envs.retry import Retry
from dialog_envs.scenarios.scenario import AGENT, Scenario
from experiments.episodes import Episode


class Watch:
    """Judges that are only watched.

    Args:
        names: of rewards (`dialog_envs.judges`), e.g. `("social_score", "utterance:runs/judge/judge")`.
        reward: what the run optimises; no judge can be watched and optimised.

    Raises:
        ValueError: a name is unknown, or is the reward's, or two would have one tag.
    """

    def __init__(self, names: Sequence[str], reward: str) -> None:
        if reward in names:
            raise ValueError(f"{reward!r} is the reward: a held-out judge must be another one")
        self.judges: dict[str, Judge] = {}
        for i, name in enumerate(names):
            if _tag(name) in self.judges:
                other = next(known for known in names[:i] if _tag(known) == _tag(name))
                raise ValueError(f"the judges {other!r} and {name!r} would both be {_tag(name)}: rename a folder")
            self.judges[_tag(name)] = make_judge(name)

    def __call__(self, episodes: Sequence[Episode], known: Sequence[Scenario]) -> dict[str, np.ndarray]:
        """Return what each judge says of N dialogues, by tag: `(N,)`, NaN where a dialogue or the judge failed.

        A judge of rounds (red teaming) judges every round, and the best one counts; another one judges the whole
        dialogue and its parts have tags of their own.
        """
        by_id = {scenario.id: scenario for scenario in known}
        found: dict[str, np.ndarray] = {}
        for tag, judge in self.judges.items():
            rounds = isinstance(judge, RoundJudge)
            where, rows = _rows(episodes, by_id, rounds)
            given = Retry().call(lambda chosen, judge=judge, rows=rows: judge.judge(rows.at(chosen)), len(where))
            found[tag] = np.full(len(episodes), np.nan)
            for i, judgement in zip(where, given, strict=True):
                if not isinstance(judgement, Judgement):
                    continue
                found[tag][i] = np.fmax(found[tag][i], judgement.value)
                for name, value in {} if rounds else judgement.details.items():
                    found.setdefault(f"{tag}/{name}", np.full(len(episodes), np.nan))[i] = value
        return found

    def check(self, known: Sequence[Scenario]) -> None:
        """Raise ValueError for a scenario that one of the judges cannot judge."""
        for judge in self.judges.values():
            if hasattr(judge, "check"):
                judge.check(known)

    def scalars(self, episodes: Sequence[Episode], known: Sequence[Scenario]) -> dict[str, float]:
        """Return the means under TensorBoard tags; a judge that judged nothing has none."""
        values = self(episodes, known).items() if self.judges else ()
        return {tag: float(np.nanmean(value)) for tag, value in values if np.isfinite(value).any()}


def _tag(name: str) -> str:
    kind, _, model = name.partition(":")
    return f"watch/{kind}" + (f":{Path(model).name}" if model else "")


def _rows(episodes: Sequence[Episode], by_id: Mapping[str, Scenario], rounds: bool) -> tuple[list[int], Rows]:
    """Return the dialogues to be judged, as a core shows them, and the episode that each is of."""
    where: list[int] = []
    dialogues: list[Dialogue] = []
    for i, episode in enumerate(episodes):
        ends = [k + 2 for k, (speaker, _) in enumerate(episode.turns) if speaker == AGENT]
        if episode.error is None:
            for end in ends if rounds else ends[-1:]:
                turns = tuple(Turn(*turn) for turn in episode.turns[:end])
                where.append(i)
                dialogues.append(replace(by_id[episode.scenario].begin(), turns=turns))
    count = len(where)
    scenarios = [by_id[episodes[i].scenario] for i in where]
    generators = [np.random.default_rng([episodes[i].seed, k]) for k, i in enumerate(where)]
    nothing = [None] * count, [()] * count, [()] * count
    return where, Rows(np.arange(count), dialogues, scenarios, np.zeros((count, 0)), generators, *nothing)
