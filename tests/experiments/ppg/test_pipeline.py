"""The whole comparison runs from corpora to page on tiny models, once; what is done is not done again."""

from __future__ import annotations

import json

import pytest

from experiments import ppg
from experiments.ppg import shipping
from experiments.ppg.systems import SYSTEMS
from reward_models.persona_critic import PersonaCritic


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return ppg.run(settings(tmp_path_factory.mktemp("ppg") / "run"))


def files(out) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_everything_is_there(done):
    found = {(row["system"], row["metric"]): row for row in json.loads((done / "results.json").read_text())}
    for name in SYSTEMS:
        for metric in ("perplexity", "bleu", "rouge_l", "distinct_1", "distinct_2", "critic_reward"):
            row = found[SYSTEMS[name].label, metric]
            assert row["seeds"] == (2 if name in ("ours", "rl") else 1)
    for critic in ("critic", "second_critic", "partner_critic"):
        assert {(critic, f"accuracy_{pairing}") for pairing in ("self", "partner")} <= set(found)
    for name in ("rl", "rl_personas"):
        for metric in ("critic_reward_gain", "second_critic_reward_gain", "perplexity_change", "distinct_2_change"):
            assert found[SYSTEMS[name].label, metric]["ci95"] is not None
    assert found["batched rollout", "times_as_fast"]["value"] > 0
    run = json.loads((done / "run.json").read_text())
    assert len(run["data"]) >= 7  # corpora, language model, encoder
    assert not list(done.rglob("*checkpoint.safetensors")) and not list(done.rglob("reinforce.safetensors"))
    text = (done / "tables.md").read_text()
    assert "| E2E without partner personas |" in text and "not comparable" in text and "Table 1" in text
    page = (done / "page.html").read_text()
    assert page.count("<article") == 8 and "figure 4 perplexity of responses" in page and "figure 3 rouge l" in page


@pytest.mark.slow
def test_frozen_parts_are_the_supervised_ones_and_the_critics_are_two(done):
    folder = done / "reinforce" / "rl_personas" / "seed_0"
    assert (folder / "personas").is_dir() and not (folder / "response").exists()
    critics = [PersonaCritic.load(done / "critics" / name) for name in ("critic", "second_critic", "partner_critic")]
    assert len({critic.fingerprint() for critic in critics}) == 3
    assert list((done / "reinforce" / "rl" / "seed_1" / "tensorboard").iterdir())


@pytest.mark.slow
def test_what_is_done_is_not_done_again(done, settings):
    before = files(done)
    ppg.run(settings(done))
    after = files(done)
    written = {name for name in after if after[name] != before.get(name)}
    reports = {"run.json", "results.json", "tables.md", "page.html", "cold_start.json"}
    assert {name for name in written if not name.endswith(".png")} == reports


@pytest.mark.slow
def test_a_seed_has_the_same_bits_alone(done, settings, tmp_path):
    """Stage by stage and with fewer systems, a run gives what the whole run gave."""
    for stage in ("speed", "critics", "supervised", "reinforce"):
        out = ppg.run(settings(tmp_path / "other", systems=("rl",), seeds=1, until=stage))
    for name in ("critics/critic/critic.safetensors", "supervised/gold/seed_0/model.safetensors"):
        assert (out / name).read_bytes() == (done / name).read_bytes()
    histories = [json.loads((folder / "reinforce/rl/seed_0/history.json").read_text()) for folder in (done, out)]
    assert histories[0] == histories[1]
    assert not (out / "results.json").exists()


@pytest.mark.slow
def test_what_is_shipped_is_the_critic_that_was_trained(done, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "POCKET", tmp_path / "critic")
    monkeypatch.setattr(shipping, "check", lambda encoder: None)
    ppg.run(settings(done, ship=True, until="critics"))
    critics = [PersonaCritic.load(folder) for folder in (done / "critics" / "critic", tmp_path / "critic")]
    assert critics[0].fingerprint() == critics[1].fingerprint()
    card = (tmp_path / "critic" / "README.md").read_text()
    assert "| synthetic_persona_chat/valid | CC BY 4.0 |" in card and "| second critic |" in card


def test_only_what_starts_from_the_shipped_encoder_is_shipped(settings, tmp_path):
    with pytest.raises(ValueError, match=r"critics.critic.encoder is '.*': what is shipped starts from 'pocket'"):
        ppg.run(settings(tmp_path / "run", ship=True))


def test_other_settings_are_refused(settings, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="unknown system 'oracle'"):
        ppg.run(settings(tmp_path / "run", systems=("oracle",)))
    with pytest.raises(FileNotFoundError):
        ppg.run(settings(tmp_path / "run", data=tmp_path))
