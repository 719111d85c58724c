"""IDPT (Nie et al., NAACL 2024): the paper's comparison, and by verbs of its own what belongs to the environment."""

from experiments.idpt.tables import Config, run

__all__ = ["VERBS", "Config", "run"]

VERBS = {  # verb -> what it does; each is a module of this package with a `Config` and a `run(config)`
    "agreement": "measure the weak labels against a hundred turns labelled by hand",
    "train": "train the set of prefixes for the environment",
    "manipulate": "measure what a chosen initiative changes in the replies",
    "policies": "who is to choose the initiative: PPO, DQN, the recogniser, a constant, chance",
    "ship": "make a trained set the shipped one, with its card",
}
