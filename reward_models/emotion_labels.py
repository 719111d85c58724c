"""The 41 emotions and intents of MEED2, with their ids: the one place that knows them.

32 emotions (Rashkin et al., ACL 2019), 8 intents of a listener and neutral (Welivita and Pu, COLING 2020). An id is a
place in `LABELS`. The release's `labels.txt` gives neutral the id 38, which is questioning's; its data use 40.
"""

from __future__ import annotations

EMOTIONS = (
    "afraid", "angry", "annoyed", "anticipating", "anxious", "apprehensive", "ashamed", "caring", "confident",
    "content", "devastated", "disappointed", "disgusted", "embarrassed", "excited", "faithful", "furious", "grateful",
    "guilty", "hopeful", "impressed", "jealous", "joyful", "lonely", "nostalgic", "prepared", "proud", "sad",
    "sentimental", "surprised", "terrified", "trusting",
)  # fmt: skip
INTENTS = (
    "agreeing", "acknowledging", "encouraging", "consoling", "sympathizing", "suggesting", "questioning", "wishing",
    "neutral",
)  # fmt: skip
LABELS = EMOTIONS + INTENTS
