"""The documentation says what the code does: arguments and defaults, ranges, counts; its code blocks run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dialog_envs import scenarios
from dialog_envs.envs.dat import make_social_vector, social_core
from dialog_envs.envs.empathy_intent import empathy_intent_core, make_empathy_intent_vector
from dialog_envs.envs.initiative import initiative_core, make_initiative_vector
from dialog_envs.envs.ppg import make_ppg_vector, ppg_core
from dialog_envs.envs.ppg_select import make_ppg_select_vector, ppg_select_core
from dialog_envs.lm.frozen_lm import POCKET
from dialog_envs.scenarios import personas
from dialog_envs.speakers.idpt import POCKET as IDPT
from dialog_envs.speakers.meed2 import POCKET as MEED2
from experiments.__main__ import VERBS
from reward_models.dmi.encoder import POCKET as ENCODER
from reward_models.emotion import POCKET as EMOTION
from reward_models.persona_critic import POCKET as CRITIC
from reward_models.social_score import DIMENSIONS
from reward_models.utterance_judge import POCKET as HARM

ROOT = Path(__file__).parents[1]
SOCIAL = ROOT / "docs" / "environments" / "dat_social.md"
PPG, PPG_SELECT = (ROOT / "docs" / "environments" / f"{name}.md" for name in ("ppg", "ppg_select"))
EMPATHY = ROOT / "docs" / "environments" / "empathy_intent.md"
INITIATIVE = ROOT / "docs" / "environments" / "initiative.md"
ENVIRONMENTS = {  # page -> what takes the arguments that it explains
    SOCIAL: (social_core, make_social_vector),
    PPG: (ppg_core, make_ppg_vector),
    PPG_SELECT: (ppg_select_core, make_ppg_select_vector),
    EMPATHY: (empathy_intent_core, make_empathy_intent_vector),
    INITIATIVE: (initiative_core, make_initiative_vector),
}
README = ROOT / "README.md"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *([README] if README.exists() else [])]
RUNNABLE = [page for page in PAGES if "```python\n" in page.read_text()]
SHIPPED = [POCKET / "model.safetensors", POCKET / "up_maps" / "latent.safetensors", ENCODER]
OF_PPG = [CRITIC]
OF_EMPATHY = [MEED2, EMOTION, HARM]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECTIONS = ("Description", "Action space", "Observation space", "Rewards", "Starting state", "Episode end", "Arguments")
SECTIONS += ("Info entries", "Vectorised form", "Failures", "Version history")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def section(name: str, page: Path = SOCIAL) -> str:
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE).group(1)


def table(text: str) -> dict[str, list[str]]:
    """Return the tables' rows: first cell without backticks -> other cells."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in rows}


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", ENVIRONMENTS, ids=named)
def test_page_has_gymnasiums_sections(page):
    assert tuple(re.findall(r"^## (.*)", page.read_text(), re.MULTILINE)) == SECTIONS


@pytest.mark.parametrize("page", ENVIRONMENTS, ids=named)
def test_every_argument_is_explained_with_its_default(page):
    rows = table(section("Arguments", page))
    core, vector = ENVIRONMENTS[page]
    parameters = {**inspect.signature(core).parameters, **inspect.signature(vector).parameters}
    own = {name: value.default for name, value in parameters.items() if value.kind is not value.VAR_KEYWORD}
    assert set(rows) - {"argument", "---"} == set(own)
    for name, default in own.items():
        default = getattr(default, "name", default)  # an enumeration's member by its name
        said = rows[name][0].strip("`").strip('"')
        expected = str(default).lower() if name == "autoreset_mode" else str(default)
        assert said == expected, f"{name} has the default {default!r}, the page says {said!r}"


def test_every_dimension_is_explained_with_its_range():
    rows = table(section("Rewards"))
    assert set(rows) - {"dimension", "---"} == set(DIMENSIONS)
    for name, (low, high) in DIMENSIONS.items():
        assert rows[name][0] == f"{low:g} to {high:g}"
    low, high = (sum(bounds) / len(DIMENSIONS) for bounds in zip(*DIMENSIONS.values(), strict=True))
    assert f"[{low:.2f}, {high:.2f}]" in section("Rewards")


def test_scenarios_are_counted():
    text = section("Starting state")
    for split in scenarios.SPLITS:
        assert f"`{split}` " in text and str(len(scenarios.load(split))) in text
        for kind in scenarios.SOCIAL_KINDS:
            assert str(len(scenarios.load(f"{kind}/{split}"))) in text
        for page in (PPG, PPG_SELECT):
            assert f"{len(personas.scenarios(split))} " in section("Starting state", page)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_compiles(page):
    for number, block in enumerate(blocks(page)):
        compile(block, f"{named(page)}, block {number + 1}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_files_and_verbs_exist(page):
    text = page.read_text()
    for verb in re.findall(r"python -m experiments ([a-z\d]+)", text):
        assert verb in VERBS
    for path in re.findall(r"`((?:dialog_envs|agents|reward_models|experiments|docs)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), f"{named(page)} names {path}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=named)
def test_code_runs(page, tmp_path, monkeypatch):
    needed = SHIPPED + (OF_PPG if page in (PPG, PPG_SELECT) else []) + ([IDPT] if page == INITIATIVE else [])
    needed += OF_EMPATHY if page == EMPATHY else []
    missing = [str(path.relative_to(ROOT)) for path in needed if not path.exists()]
    if missing:
        pytest.skip(f"the shipped model is not here: {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{named(page)}, block {number + 1}", "exec"), scope)
