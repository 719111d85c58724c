"""Discourse mutual information (Santra et al., NAACL 2022): pretraining, the paper's nine tasks, checks and a page."""

VERBS = {  # verb -> what it does; each is a module of this package with a `Config` and a `run(config)`
    "pretrain": "train the dual encoder on a bound of I(context; response)",
    "ablate": "pretrain with each bound, symmetric or not, initialised or not, at equal steps",
    "probe": "the nine tasks with a small classifier on the frozen encoder",
    "finetune": "the nine tasks with encoder and classifier trained",
    "gaussian": "the bounds against mutual information that is known, and each one's bias",
    "ship": "make a pretrained encoder the shipped one, with its card",
    "page": "confusion matrix of E-Intent and retrieved responses, as one HTML file",
}
