"""The whole comparison: speed, critics, supervised start, REINFORCE, evaluation; each resumed where it was left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from agents.exchanges import Draws
from agents.reinforce import ReinforceConfig
from dialog_envs import corpora
from dialog_envs.lm.decoding import Sampling
from experiments.ppg import critics, data, evaluation, reinforced, report, shipping, speed, supervised
from experiments.ppg.critics import Critics
from experiments.ppg.speed import Speed
from experiments.ppg.supervised import Supervision
from experiments.ppg.systems import COLD_START, GENERATED, OURS, RL, SYSTEMS
from experiments.run_folder import ResultRow, model_files, open_run, write_json
from reward_models.dmi.encoder import encoder_source
from reward_models.persona_critic import PersonaCritic

COLD_TURNS = (1, 2, 3)


@dataclass(frozen=True)
class Config:
    """Partner Personas Generation, from the corpora to the paper's tables; what is done already is not done again."""

    out: Path = Path("runs/ppg")
    """Run folder."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    until: Literal["speed", "critics", "supervised", "reinforce", "report"] = "report"
    """The last stage to run."""
    ship: bool = False
    """Behind the last stage, put the critic where the package loads it from."""
    lm: str = "pocket"
    """What both generators start from: `pocket`, a folder, or a Hugging Face name (`microsoft/DialoGPT-medium`)."""
    systems: tuple[str, ...] = tuple(SYSTEMS)
    """Systems to compare; `ours` is always among them."""
    seeds: int = 3
    """Seeds of ours without and with RL."""
    other_seeds: int = 1
    """Seeds of the other systems, RL's ablations and options among them."""
    held_out: float = 0.4
    """Share of the people of PersonaChat's validation file that no training dialogue of these systems shows; evaluated
    is between them alone. With 0 all validation dialogues are evaluated, and their people trained on."""
    context_turns: int = 4
    """Most turns before a response that are shown."""
    evaluated: int = 1000
    """Exchanges that are evaluated."""
    cold: int = 150
    """Exchanges of each length of Figure 3 (1, 2 and 3 turns before the response)."""
    critics: Critics = field(default_factory=Critics)
    """The critics."""
    speed: Speed = field(default_factory=Speed)
    """How the speed of a rollout is measured; run nothing else meanwhile."""
    supervision: Supervision = field(default_factory=Supervision)
    """The supervised start."""
    updates: int = 100
    """Updates of REINFORCE."""
    reinforce: ReinforceConfig = field(
        default_factory=lambda: ReinforceConfig(learning_rate=4e-5, batch_size=64, validate_every=20, bf16=True)
    )
    """REINFORCE; the paper: rate 5e-6, batches of 20, on a model sixty times as large and for many more updates."""
    tuned: int = 100
    """Exchanges, of a part of the training files that is kept aside, that its validations measure."""
    evaluation: Draws = field(default_factory=lambda: Draws(Sampling(64), Sampling(24)))
    """How evaluated personas and responses are drawn."""
    paper: Path | None = None
    """JSON file `{system: {metric: value}}` of the paper's values, by the names of `systems` or critics and the metrics
    of `results.json`; they stand in columns beside ours. None: the accuracies of its critics."""
    device: str = "cpu"
    """Where generators and critics run, as torch names it."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Run the stages up to `until`; return the run folder.

    Raises:
        ValueError: a system is unknown, the folder holds a run with other settings, or what is to be shipped was made
            from something else than the shipped models.
        FileNotFoundError: there is no data folder, or an official file or the file of the paper's values is missing.
    """
    unknown = [name for name in config.systems if name not in SYSTEMS]
    if unknown:
        raise ValueError(f"unknown system {unknown[0]!r}, expected some of {', '.join(SYSTEMS)}")
    if config.ship:
        shipping.check(config.critics.critic.encoder)
    report.read_paper(config.paper)
    root = corpora.root(config.data)
    torch.set_num_threads(config.threads)
    sources = data.files(root)
    for name in (config.lm, str(encoder_source(config.critics.critic.encoder))):
        sources += model_files(name) if name == "pocket" or Path(name).is_dir() else []
    free = ("until", "ship", "systems", "seeds", "other_seeds", "paper", "device", "threads", "data")
    out = open_run(config.out, "ppg", config, sources, changeable=free)
    return Pipeline(config, out, data.read_parts(root, config.held_out)).run()


class Pipeline:
    """The stages of one run.

    Attributes:
        parts: dialogues by what they are for.
        training: exchanges of the training part, of all corpora.
        evaluated: by set (`evaluation`, `cold_1`, ...), the exchanges that are evaluated.
        ranker: ranks the partners' traits.
        judges: the critics, once they are made.
    """

    def __init__(self, config: Config, out: Path, parts: data.Parts) -> None:
        self.config, self.out, self.parts = config, out, parts
        turns = config.context_turns
        self.training = [e for dialogues in parts.training.values() for e in data.exchanges(dialogues, turns)]
        everything = data.exchanges(parts.evaluation, turns)
        self.evaluated = {"evaluation": data.sample(everything, config.evaluated, 0)}
        for count in COLD_TURNS:
            cold = data.exchanges(parts.evaluation, turns, count)
            self.evaluated[f"cold_{count}"] = data.sample(cold, config.cold, 0)
        self.all_evaluated = everything
        self.ranker = data.TraitRanker(exchange.partner_persona for exchange in (*self.training, *everything))
        self.judges: dict[str, PersonaCritic] = {}

    @property
    def names(self) -> list[str]:
        """The systems that are compared, in the order of the table."""
        return [name for name in SYSTEMS if name in self.config.systems or name == OURS]

    def seeds(self, name: str) -> range:
        """Return the seeds of a system."""
        return range(self.config.seeds if name in (OURS, RL) else self.config.other_seeds)

    def run(self) -> Path:
        """Run the stages; return the run folder."""
        stages = {
            "speed": self.measure_speed,
            "critics": self.make_critics,
            "supervised": self.train_supervised,
            "reinforce": self.train_reinforce,
            "report": self.report,
        }
        for name, stage in stages.items():
            stage()
            if name == self.config.until:
                break
        if self.config.ship:
            shipping.ship(self.out / "critics" / "critic", self.config, self.accuracies())
        return self.out

    def measure_speed(self) -> None:
        """Measure how fast exchanges are generated, where that is not done."""
        path = self.out / "speed.json"
        if not path.exists():
            rows = speed.measure(
                self.config.lm, data.sample(self.all_evaluated, 1000, 0), self.config.speed, self.config.device
            )
            write_json(path, [asdict(row) for row in rows])

    def make_critics(self) -> None:
        """Train the critics, or load them."""
        for name in critics.LEARNS:
            self.judges[name] = critics.make(
                self.parts, name, self.config.critics, self.out / "critics" / name, self.config.device
            )

    def train_supervised(self) -> None:
        """Train every generator that the systems start from."""
        for name in self.names:
            for seed in self.seeds(name):
                for kind in self._kinds(name):
                    self._supervised(kind, seed)

    def train_reinforce(self) -> None:
        """Train the systems that REINFORCE makes."""
        for name in self.names:
            if SYSTEMS[name].reinforce is not None:
                for seed in self.seeds(name):
                    self.folders(name, seed)

    def folders(self, name: str, seed: int) -> Mapping[str, Path]:
        """Train a system where that is not done; return the folders of its `response` and `personas` generators."""
        system = SYSTEMS[name]
        start = {"response": self._supervised(system.response, seed)}
        if system.told == GENERATED:
            start["personas"] = self._supervised("personas", seed)
        if system.reinforce is None:
            return start
        tuning = data.exchanges(self.parts.tuning, self.config.context_turns)
        tuning = data.sample([e for e in tuning if e.partner_persona], self.config.tuned, 0)
        both = [e for e in self.training if e.partner_persona]
        folder = self.out / "reinforce" / name / f"seed_{seed}"
        return reinforced.train(
            name, seed, start, both, tuning, self.judges, self.config.reinforce, self.config.updates, folder,
            self.config.device,
        )  # fmt: skip

    def answers(self, name: str, seed: int, which: str) -> evaluation.Answers:
        """Return what a system answers in a set of exchanges, from the file where it has answered already."""
        path = self.out / "answers" / which / f"{name}_{seed}.json"
        if not path.exists():
            folders = self.folders(name, seed)
            parts = {part: supervised.load(folder, self.config.device) for part, folder in folders.items()}
            evaluation.answer(
                parts["response"],
                parts.get("personas"),
                SYSTEMS[name].told,
                self.evaluated[which],
                self.ranker,
                self.judges,
                self.config.evaluation,
                seed,
            ).save(path)
        return evaluation.Answers.load(path)

    def report(self) -> None:
        """Evaluate every system and write results, tables, figures and the page."""
        rows = self._facts() + [ResultRow(**row) for row in json.loads((self.out / "speed.json").read_text())]
        rows += self.accuracies()
        found = {n: [self.answers(n, seed, "evaluation") for seed in self.seeds(n)] for n in self.names}
        exchanges = self.evaluated["evaluation"]
        groups = data.groups(exchanges, self.parts.people)
        for name, answers in found.items():
            rows += evaluation.measure(SYSTEMS[name].label, answers, exchanges, groups)
        rows += evaluation.gains(found, groups)
        report.write(self.out, self.config, rows, self._cold(), self._histories(), self._examples(found))

    def accuracies(self) -> list[ResultRow]:
        """Return how often each critic is right."""
        people = self.parts.people
        return [
            row
            for name, critic in self.judges.items()
            for row in critics.accuracies(name, critic, self.all_evaluated, people)
        ]

    def _kinds(self, name: str) -> Sequence[str]:
        system = SYSTEMS[name]
        return (system.response, "personas") if system.told == GENERATED else (system.response,)

    def _supervised(self, kind: str, seed: int) -> Path:
        config = self.config.supervision
        chosen = data.sample(self.training, config.exchanges, seed)
        if kind == "personas":
            chosen = data.sample([e for e in self.training if e.partner_persona], config.exchanges, seed)
        folder = self.out / "supervised" / kind / f"seed_{seed}"
        return supervised.train(kind, self.config.lm, chosen, self.ranker, config, seed, folder, self.config.device)

    def _facts(self) -> list[ResultRow]:
        counts = {f"dialogues/{name}": len(dialogues) for name, dialogues in self.parts.training.items()}
        counts |= {"dialogues/tuning": len(self.parts.tuning), "dialogues/evaluation": len(self.parts.evaluation)}
        counts |= {f"left_out/{name}": count for name, count in self.parts.left_out.items()}
        counts |= {"exchanges/training": len(self.training), "exchanges/evaluation": len(self.all_evaluated)}
        return [ResultRow("data", name, count, None, count, 1) for name, count in counts.items()]

    def _cold(self) -> report.ColdStart:
        """Return metric -> system -> `(seeds, turns)`."""
        found: report.ColdStart = {}
        for name in (name for name in COLD_START if name in self.names):
            by_turns = []
            for count in COLD_TURNS:
                answers = [self.answers(name, seed, f"cold_{count}") for seed in self.seeds(name)]
                by_turns.append(evaluation.by_seed(answers, self.evaluated[f"cold_{count}"]))
            for metric in by_turns[0]:
                values = np.array([values[metric] for values in by_turns]).T
                found.setdefault(metric, {})[SYSTEMS[name].label] = values
        return found

    def _histories(self) -> report.Histories:
        """Return system -> one curve a seed."""
        folders = {n: [self.out / "reinforce" / n / f"seed_{s}" for s in self.seeds(n)] for n in self.names}
        return {
            SYSTEMS[name].label: [json.loads((folder / reinforced.HISTORY).read_text()) for folder in found]
            for name, found in folders.items()
            if SYSTEMS[name].reinforce is not None
        }

    def _examples(self, found: Mapping[str, Sequence[evaluation.Answers]]) -> list[report.Example]:
        """Return some exchanges with what each system's first seed answered."""
        exchanges = self.evaluated["evaluation"]
        places = np.linspace(0, len(exchanges) - 1, min(report.EXAMPLES, len(exchanges))).astype(int)
        return [
            report.Example(
                exchanges[place],
                [
                    (SYSTEMS[name].label, answers[0].told[place], answers[0].responses[place], answers[0].critic[place])
                    for name, answers in found.items()
                ],
            )
            for place in places
        ]
