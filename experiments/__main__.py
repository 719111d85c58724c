"""`python -m experiments VERB`: the command line is made from each verb's configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

# verb -> what it does; each is a module of this package with a `Config` and a `run(config)`, with `VERBS` of its own,
# or with both: the next argument is one of those verbs then, or an option
VERBS = {
    "demo": "train and compare planners on the shipped model, in ten minutes",
    "pretrain": "train the pocket language model",
    "train": "train one planner",
    "evaluate": "compare policies on held-out scenarios",
    "compare": "compare planners with baselines and online learners at equal budgets, with ablations and transfer",
    "sweep": "one setting at a time: action size, prefix, up-mapping, algorithm, self-cloning; reward against language",
    "report": "lay runs side by side: curves, aggregates, tables and transcripts on one page",
    "datasets": "record the random, unsteered and expert Minari data sets of an environment",
    "bench": "measure turns per second (and `bench table`, `big`, `workers`, `learner`)",
    "resume": "kill a training run at random moments and go on: are the weights those of the unbroken run",
    "steering": "measure, or train, what an up-mapping can say",
    "obedience": "measure whether the partner does as its grammar states, and controls are followed",
    "fluency": "measure a model's own language: perplexity on real dialogues, variety beside them",
    "card": "write the pocket model's card from the runs that measured it",
    "dmi": "discourse mutual information: pretrain, probe, ... (verbs of its own)",
    "redteam": "attack success rates of planners and baselines, against defenders of two strengths and unseen ones",
    "faults": "ten thousand turns against a faulty server: is anything lost, scored or leaked",
    "judge": "train the embedded utterance judge, or measure any harm judge: precision, recall, calibration",
    "curate": "subtitle files to dialogues, and the most emotional of them",
    "meed2": "empathetic dialogue: classifier, MEED2, its tables, who chooses the intent (verbs of its own)",
    "rate": "rate replies of several systems as good, okay or bad, on a page in the browser",
    "idpt": "initiatives by dynamic prefixes: the paper's comparison (and `idpt train`, `policies`, `ship`, ...)",
    "ppg": "partner personas generation: critics, supervised start, REINFORCE, and the paper's comparison",
    "play": "be the partner, or the agent, in the terminal",
}


def main(arguments: list[str], package: str = "experiments", verbs: Mapping[str, str] = VERBS) -> int:
    """Run one verb of a package; return the exit status."""
    command = " ".join(["python -m experiments", *package.split(".")[1:]])
    if not arguments or arguments[0] not in verbs:
        lines = [f"  {verb:<11}{what}" for verb, what in verbs.items()]
        print(f"usage: {command} VERB [--help] [--out DIR] ...\n\n" + "\n".join(lines))
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    module = import_module(f"{package}.{arguments[0]}")
    if hasattr(module, "VERBS") and (not hasattr(module, "Config") or set(arguments[1:2]) & set(module.VERBS)):
        return main(arguments[1:], module.__name__, module.VERBS)
    import tyro
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading the pocket model is no long work
    config = tyro.cli(module.Config, prog=f"{command} {arguments[0]}", args=arguments[1:])
    try:
        module.run(config)
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
