"""The report says what the rows say."""

from __future__ import annotations

import pytest

from experiments.ppg import report
from experiments.ppg.systems import SYSTEMS
from experiments.run_folder import ResultRow

LABEL = SYSTEMS["rl"].label


def rows(reward: float, other: float, perplexity: float, distinct: float, half: float = 0.05) -> list[ResultRow]:
    values = (reward, other, perplexity, distinct)
    return [ResultRow(LABEL, name, value, half, 400, 3) for name, value in zip(report.GAINS, values, strict=True)]


def test_what_rises_within_limits_is_said_so():
    said = " ".join(report.verdicts(rows(0.2, 0.1, 0.015, -0.01)))
    assert "The critic's mean label rises, +0.200 ± 0.050." in said
    assert "Both critics agree" in said
    small = " ".join(report.verdicts(rows(0.2, 0.1, 0.015, 0.1, half=0.004)))
    assert "+1.5 ± 0.4%, within" in small and "+10.0 ± 0.4%, within" in small


def test_what_fails_is_said_so_too():
    said = " ".join(report.verdicts(rows(0.04, -0.1, 0.03, -0.3)))
    assert "rises, but zero is not excluded: +0.040 ± 0.050" in said
    assert "Whether both critics agree is not told" in said
    assert "The second critic's mean label falls, -0.100" in said
    assert "do not agree" in " ".join(report.verdicts(rows(0.2, -0.1, 0, 0)))
    assert "Perplexity changes by +3.0 ± 5.0%, not told apart from the limit of 2%" in said
    assert "Distinct-2 changes by -30.0 ± 5.0%, beyond" in said


def test_nothing_is_said_of_what_was_not_run():
    assert report.verdicts([]) == []


def test_the_papers_values_stand_beside_ours_where_they_are_given():
    found = [ResultRow(SYSTEMS["none"].label, "perplexity", 30.5, 1.25, 400, 1)]
    (line,) = table("Responses", found, {}).lines
    assert line[0] == "E2E without partner personas" and line[1][0] == "30.50 ± 1.25"
    assert "PPL, paper" not in table("Responses", found, {}).columns
    beside = table("Responses", found, {"none": {"perplexity": 12.25}, "rl_personas": {"bleu": 1}})
    assert beside.columns[:3] == ["PPL", "PPL, paper", "BLEU"] and beside.lines[0][1][1] == "12.25"
    assert "BLEU, paper" not in beside.columns  # of a system in another table


def test_every_paper_table_can_have_the_papers_values():
    given = {"rl_personas": {"bleu": 1.5}, "rl": {"persona_rouge_l": 0.25}, "partner_critic": {"accuracy_partner": 0.6}}
    label = {name: SYSTEMS[name].label if name in SYSTEMS else name for name in given}
    found = [ResultRow(label[name], next(iter(metrics)), 0.5, None, 4, 1) for name, metrics in given.items()]
    for title, metric in (("Ablation", "BLEU"), ("Partner personas", "ROUGE-L F"), ("Critics", "partner's persona")):
        one = table(title, found, given)
        assert [cell for _, cells in one.lines for cell in cells if cell][-1] in ("1.5", "0.25", "0.6")
        assert f"{metric}, paper" in one.columns and len(one.columns) == len(one.lines[0][1])


def test_the_shipped_values_of_the_paper_are_its_critics():
    values = report.read_paper(None)
    assert values["critic"]["accuracy_self"] == 0.75 and values["partner_critic"]["accuracy_partner"] == 0.6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"oracle": {"bleu": 1}}', "values of 'oracle', expected some of"),
        ('{"rl": {"bleu": "1"}}', "numbers by metric"),
    ],
)
def test_other_values_of_the_paper_are_refused(text, message, tmp_path):
    (tmp_path / "paper.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        report.read_paper(tmp_path / "paper.json")


def table(title: str, found, paper) -> report.Table:
    return next(t for t in report.make_tables(found, paper) if t.title.startswith(title))
