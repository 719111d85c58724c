"""DESIGN section 3: layers import downward only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom up: a part may import the layers below its own, and of its own layer itself alone.
LAYERS = (
    ("dialog_envs",),  # its __init__: registrations alone
    ("reward_models", "dialog_envs.actions", "dialog_envs.dialogue", "dialog_envs.names", "dialog_envs.retry"),
    ("dialog_envs.corpora", "dialog_envs.lm"),
    ("dialog_envs.scenarios",),
    ("dialog_envs.speakers", "dialog_envs.parts"),
    ("dialog_envs.partners",),
    ("dialog_envs.core", "dialog_envs.judges", "dialog_envs.observations"),
    ("dialog_envs.adapters",),
    ("dialog_envs.envs",),
    ("agents",),
    ("experiments",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# Parts that take plain data or dialogues and nothing else of the project.
ONLY = {
    "dialog_envs": set(),
    "dialog_envs.corpora": {"dialog_envs.dialogue", "reward_models"},  # the labels of emotions
    "dialog_envs.lm": {"dialog_envs.dialogue", "dialog_envs.retry", "reward_models"},  # chat clients serve engines too
    "dialog_envs.speakers": {
        "dialog_envs.dialogue",
        "dialog_envs.lm",
        "dialog_envs.names",
        "dialog_envs.retry",
        "reward_models",
    },
}
OWN = ("reward_models", "dialog_envs", "agents", "experiments", "tests")


def part_of(module: str) -> str:
    """Return the part that a dotted module name belongs to: a folder or file below `dialog_envs`, else a package."""
    names = module.split(".")
    return ".".join(names[:2] if names[0] == "dialog_envs" else names[:1])


def imported(tree: ast.AST, module: str) -> set[str]:
    """Return the project's modules that a source imports anywhere in it; `from x import y` may mean the module x.y."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if exists(name) else node.module for name in deeper}
    return {name for name in found if name.split(".")[0] in OWN}


def exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def sources() -> list[str]:
    files = (file for name in OWN[:-1] for file in (ROOT / name).rglob("*.py"))
    return sorted(str(file.relative_to(ROOT)) for file in files)


def wrong_imports(source: str, module: str) -> list[str]:
    part = part_of(module)
    wrong = []
    for other in sorted(imported(ast.parse(source), module)):
        target = part_of(other)
        if target == part:
            continue
        below = target in RANK and RANK[target] < RANK[part]
        if not below or (part in ONLY and target not in ONLY[part]):
            wrong.append(f"{module} imports {other}")
    return wrong


@pytest.mark.parametrize("file", sources())
def test_a_module_imports_only_what_lies_below_it(file):
    module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    assert part_of(module) in RANK, f"{part_of(module)} has no place in LAYERS"
    assert wrong_imports((ROOT / file).read_text(), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("reward_models.social_score", "from dialog_envs.dialogue import Dialogue"),
        ("dialog_envs.core", "def f():\n    import agents.td3_bc"),
        ("dialog_envs.lm.prompt", "from dialog_envs import scenarios"),
        ("dialog_envs.speakers.lm", "from dialog_envs.partners.lm import LMPartner"),
        ("dialog_envs.partners.lm", "from dialog_envs.core import DialogueCore"),
        ("dialog_envs.corpora.msc", "from dialog_envs.lm.decoding import Sampling"),
        ("agents.sb3", "from experiments import run_folder"),
        ("dialog_envs", "from dialog_envs.core import DialogueCore"),
        ("experiments.bench", "from tests.conftest import tiny_config"),
    ],
)
def test_an_upward_import_is_found(module, source):
    assert len(wrong_imports(source, module)) == 1


def test_registration_loads_nothing_heavy():
    heavy = ("torch", "transformers", "stable_baselines3")
    code = f"import sys, dialog_envs; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
