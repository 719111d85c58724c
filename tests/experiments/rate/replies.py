"""A file of replies to rate, in own words."""

from __future__ import annotations

import json
from pathlib import Path

EVIL = "<script>document.title = 'run'</script> & <b onclick=\"alert(1)\">I see.</b>"
CONTEXTS = (
    ["My cat did not come home last night.", "Oh no. Has she done that before?", "Never. I looked for her everywhere."],
    ["I passed the exam!", "Which one?", "The one in chemistry, at the third try."],
    ["I start the new job tomorrow."],
)
REPLIES = {
    "system-alpha": ("You must be so worried. Shall we look?", "Well done, that took patience!", "How do you feel?"),
    "system-beta": ("I like cats.", "Chemistry is a science.", "How do you feel?"),
    "system-gamma": (EVIL, "I have to go.", "It is raining."),
}  # fmt: skip
TRUE = ("I am sorry. I hope she comes back soon.", "Congratulations!", "I am sure that you will do well.")


def write_replies(path: Path, dialogues: int = 3) -> Path:
    lines = []
    for i in range(dialogues):
        candidates = {system: said[i % 3] for system, said in REPLIES.items()}
        lines.append({"id": f"d{i}", "context": CONTEXTS[i % 3], "candidates": candidates, "true_reply": TRUE[i % 3]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
