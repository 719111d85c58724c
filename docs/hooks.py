"""For mkdocs: a page that holds `<!-- README results -->` shows there what the README says between its own markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MARK, BEGIN, END = "<!-- README results -->", "<!-- results -->", "<!-- end of results -->"


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Return a page's text with the README's results in it; its links are made to fit this folder.

    Raises:
        ValueError: the README has no such part.
    """
    if MARK not in markdown:
        return markdown
    readme = Path(config["config_file_path"]).with_name("README.md").read_text(encoding="utf-8")
    results, end, _ = readme.partition(BEGIN)[2].partition(END)
    if not end:
        raise ValueError(f"README.md has no part between {BEGIN} and {END}")
    return markdown.replace(MARK, results.replace("](docs/", "]("))
