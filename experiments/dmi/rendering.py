"""Pages and tables from the templates of `experiments/templates`."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from experiments.card import markdown, number


def render(template: str, **values: Any) -> str:
    """Return a template with its values; what goes into HTML is escaped, and a value that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("experiments"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"table": markdown, "number": number}
    return environment.get_template(template).render(values)
