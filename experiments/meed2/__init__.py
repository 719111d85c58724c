"""MEED2 (Xie and Pu, CoNLL 2021): its classifier, its stages of training, the paper's tables, and its environment."""

VERBS = {  # verb -> what it does; each is a module of this package with a `Config` and a `run(config)`
    "classify": "train the classifier of 41 emotions and intents, calibrate it and measure it",
    "pretrain": "train predictor, MEED2 and the plain Transformer on general dialogue, a plain one on ED alone",
    "finetune": "fine-tune them on emotional dialogue or on EmpatheticDialogues",
    "evaluate": "the paper's tables and figures, and whether a chosen intent is obeyed",
    "compare": "who chooses the intent best in EmpathyIntent: predictor, fixed rules, chance, PPO",
    "speed": "beam search in batches against one dialogue at a time",
    "ship": "put the first seed's MEED2 where the package loads it from, with its card",
}
