"""Pages, cards and tables from the templates of `experiments/templates`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from experiments.run_folder import ResultRow

Table = list[list[Any]]  # the first row is the header


def render(template: str, /, filters: Mapping[str, Callable[..., str]] = {}, **values: Any) -> str:
    """Return a template with its values; what goes into HTML is escaped, and a value that is not given is an error.

    Args:
        template: its file's name.
        filters: of this template alone; all have the functions `table`, `number`, `percent` and `millions`.
        values: by name.
    """
    environment = Environment(
        loader=PackageLoader("experiments"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.globals |= {"table": markdown, "number": number, "percent": percent, "millions": millions}
    return environment.get_template(template).render(values)


def markdown(table: Table) -> str:
    """Return a Markdown table."""
    header, *rows = table
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (header, ["---"] * len(header), *rows))


def number(row: dict[str, Any]) -> str:
    """Return a result with its interval."""
    return f"{row['value']:.3g}" + ("" if row["ci95"] is None else f" +- {row['ci95']:.2g}")


def cell(row: ResultRow | None, digits: int = 2) -> str:
    """Return a result with its interval, with so many digits behind the point; nothing where there is none."""
    if row is None:
        return ""
    return f"{row.value:.{digits}f}" + ("" if row.ci95 is None else f" ± {row.ci95:.{digits}f}")


def percent(share: float) -> str:
    """Return a share as whole percents."""
    return f"{100 * share:.0f}%"


def millions(count: float) -> str:
    """Return a count in millions."""
    return f"{count / 1e6:.2f}"
