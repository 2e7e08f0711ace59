"""Rows that were attacked less than their suite's minimum asks: where they stand, what they lack, what to add."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml
from rich.console import Console

from harness.core.errors import UserError
from harness.core.threat import Norm
from reports.compare.comparison import compare
from reports.model.leaderboard import read_leaderboard
from reports.model.row import Group
from reports.model.shortfall import _word
from reports.render import comparison as render
from reports.render.csv_file import csv_text
from reports.render.html import html
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.robustbench import model_info
from reports.render.terminal import leaderboard_tables
from reports.tables.board import board_table

GRADIENT = {"steps": 10, "eot": 4, "queries": 0}
SEARCH = {"steps": 0, "eot": 1, "queries": 100}
NOTHING = {"steps": 0, "eot": 1, "queries": 0}

TEXT = """
name: toy
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: digits-cnn}}]
defenses: [{name: pure, use: pure}]
attacks: [{name: pgd, use: pgd, params: {steps: 20, eot: 4}}, {name: pgd-10-eot-4, use: pgd}]
threat_models: [{name: full, use: Linf, params: {eps: 0.2, knowledge: full}}]
matrix: [{}]
evaluation: {n_examples: 32}
"""


def boards_of(made, suite="toy"):
    (section,) = read_leaderboard(str(made.path), suite).sections
    return section.boards


def board_of(made, suite="toy"):
    (board,) = boards_of(made, suite)
    return board


def rows_of(made, suite="toy"):
    return {row.defense: row for row in board_of(made, suite).rows}


def met(made, defense="pure", right=20):
    """Let a row meet what is asked."""
    made.clean(defense)
    made.attack(defense, right=right, effort=GRADIENT)
    made.attack(defense, right=right, attack="square", threat="bpda", backwards=0, notes={}, effort=SEARCH)


@pytest.fixture
def unequal(trial):
    """One row attacked as is asked, which leaves little; one that nobody differentiated, which leaves more."""
    made = trial(text=TEXT)
    met(made, "pure", right=10)
    made.clean("easy")
    made.attack("easy", right=30, threat="bpda")
    made.clean("none", random=False)
    made.attack("none", right=5, random=False)
    made.write()
    return made


# ---------------------------------------------------------------------- who is ranked


def test_a_row_that_met_less_stands_apart_whatever_it_leaves(unequal):
    board = board_of(unequal)
    assert [(row.group, row.defense) for row in board.rows] == [
        (Group.RANKED, "pure"),
        (Group.BELOW, "easy"),
        (Group.REFERENCE, "none"),
    ]
    assert [(block.title, block.foot) for block, _ in board_table(board).blocks] == [
        ("", False),
        ("not ranked: attacked less than purifier-1 asks", False),
        ("no defense: the reference", True),
    ]
    pure, easy, _ = board.rows
    assert (pure.rank, pure.missing) == (1, "")
    assert (easy.rank, easy.place, easy.unranked) == (None, "", "attacked less than purifier-1 asks")
    assert easy.missing == "a gradient attack with knowledge full of 10 steps with 4 draws each or more"
    assert easy.worst.accuracy.share > pure.worst.accuracy.share


@pytest.mark.parametrize(
    "more",
    [
        {"attack": "replay", "threat": "bpda", "effort": NOTHING, "backwards": 0},
        {"attack": "replay", "threat": "full", "effort": NOTHING, "backwards": 0},
        {"attack": "fgsm", "threat": "full", "effort": {"steps": 1, "eot": 1, "queries": 0}},
        {"attack": "longer", "threat": "full", "effort": {"steps": 500, "eot": 40, "queries": 0}},
        {"attack": "pgd-b", "threat": "surrogate", "effort": GRADIENT},
        {"attack": "pgd-c", "threat": "oblivious", "effort": GRADIENT},
    ],
)
def test_a_further_attack_lowers_the_row_that_it_meets_and_unranks_nobody(trial, more):
    made = trial()
    for defense in ("pure", "other"):
        met(made, defense)
    made.write()
    assert {name: row.worst.accuracy.share for name, row in rows_of(made).items()} == {
        "pure": 20 / 32,
        "other": 20 / 32,
    }
    outsider = trial(name="outsider")
    outsider.attack("pure", right=3, **more)
    outsider.write()
    after = rows_of(made)
    assert after["pure"].worst.accuracy.share == 3 / 32
    assert after["other"].worst.accuracy.share == 20 / 32
    assert {row.group for row in after.values()} == {Group.RANKED}


def test_the_gradient_attack_of_another_suite_counts_if_it_met_every_example(trial):
    made = trial()
    made.clean()
    made.attack(right=20, attack="square", threat="bpda", backwards=0, notes={}, effort=SEARCH)
    made.write()
    assert rows_of(made)["pure"].group is Group.BELOW
    part = trial(name="part", n_examples=8)
    part.attack(right=8, attack="deep", effort=GRADIENT)
    part.write()
    assert rows_of(made)["pure"].group is Group.BELOW
    whole = trial(name="whole")
    whole.attack(right=30, attack="deeper", effort=GRADIENT)
    whole.write()
    assert rows_of(made)["pure"].group is Group.RANKED


@pytest.mark.parametrize(
    "instead", [{"fixed": True}, {"source": "other"}, {"eps": 0.5}, {"eps": 0.3}, {"norm": Norm.L2, "eps": 1.0}]
)
def test_a_check_a_transfer_or_another_budget_does_not_stand_for_an_attack(trial, instead):
    made = trial()
    made.clean()
    made.attack(right=20, attack="square", threat="bpda", backwards=0, notes={}, effort=SEARCH)
    made.attack(right=20, attack="deep", effort=GRADIENT, **instead)
    made.write()
    row = boards_of(made)[0].rows[0]
    assert [lack.kind for lack in row.lacks] == ["gradient"]


def test_what_no_gradient_came_by_followed_none_whatever_it_says(trial):
    made = trial()
    met(made)
    made.clean("claims")
    made.attack("claims", right=20, backwards=0, notes={})
    made.write()
    assert [lack.kind for lack in rows_of(made)["claims"].lacks] == ["gradient"]


def test_a_deterministic_row_is_asked_for_no_draws(trial):
    made = trial()
    still = {"random": False}
    made.clean(**still)
    made.attack(right=20, effort={"steps": 20, "eot": 1, "queries": 100}, **still)
    made.write()
    assert rows_of(made)["pure"].group is Group.RANKED


def test_the_strongest_knowledge_follows_from_the_traits_of_the_row(trial):
    made = trial()
    for name, knowledge in (("open", ["full"]), ("signs", ["smooth"]), ("closed", [])):
        traits = made.follows(*knowledge)
        made.clean(name, traits=traits)
        made.attack(name, right=20, threat="bpda", traits=traits)
    made.write()
    rows = rows_of(made)
    assert {name: row.group for name, row in rows.items()} == {
        "open": Group.BELOW,
        "signs": Group.BELOW,
        "closed": Group.RANKED,
    }
    assert "knowledge smooth" in rows["signs"].missing


def test_where_the_traits_were_not_recorded_the_row_says_so_and_nothing_can_be_added(trial):
    made = trial(text=TEXT)
    made.clean(traits=None)
    made.attack(right=20, threat="bpda", traits=None, params={"steps": 20, "eot": 4, "n_queries": 200})
    made.write()
    board = board_of(made)
    assert board.rows[0].missing.endswith("which was not recorded: run the suite again")
    assert board.additions.text == ""
    made.attack(right=20, traits=None, params={"steps": 20, "eot": 4})
    made.write()
    assert rows_of(made)["pure"].group is Group.RANKED


def test_a_cell_from_before_effort_was_recorded_is_read_by_its_options(trial):
    made = trial()
    made.clean()
    made.attack(right=20, effort=None, params={"steps": 20, "eot": 4})
    made.attack(right=20, attack="square", threat="bpda", effort=None, params={"n_queries": 100}, backwards=0, notes={})
    made.write()
    assert rows_of(made)["pure"].group is Group.RANKED


def test_while_attacks_of_the_suite_are_under_way_they_are_not_missed(trial):
    made = trial()
    made.clean()
    made.attack(right=None)
    made.clean("other")
    made.attack("other", right=None, threat="bpda")
    made.write()
    rows = rows_of(made)
    assert (rows["pure"].group, rows["pure"].unranked) == (Group.OTHER, "1 of 2 cells unfinished")
    assert (rows["other"].group, rows["other"].unranked) == (Group.BELOW, "1 of 2 cells unfinished")


# ---------------------------------------------------------------------- what the suite asks for


def test_a_suite_may_name_a_stricter_minimum(trial):
    made = trial(text=TEXT.replace("n_examples: 32", "n_examples: 32, minimum: field-1"))
    met(made)
    made.write()
    board = board_of(made)
    assert board.minimum.name == "field-1"
    assert board.rows[0].missing == (
        "a gradient attack with knowledge full of 200 steps with 20 draws each or more (pgd full has 10 steps with 4 "
        "draws each); an attack without gradients that asks the defense itself 5000 times or more (square bpda asks "
        "100 times)"
    )
    assert yaml.safe_load(board.additions.text) == {
        "attacks": [
            {"name": "pgd-200-eot-20", "use": "pgd", "params": {"steps": 200, "eot": 20}},
            {"name": "square-5000", "use": "square", "params": {"n_queries": 5000}},
        ],
        "matrix": [
            {"defenses": ["pure"], "attacks": ["pgd-200-eot-20"], "threat_models": ["full"]},
            {"defenses": ["pure"], "attacks": ["square-5000"], "threat_models": ["bpda"]},
        ],
    }


def test_each_suite_of_a_database_is_held_to_its_own(trial):
    made = trial()
    met(made)
    made.write()
    strict = trial(name="strict", text=TEXT.replace("n_examples: 32", "n_examples: 32, minimum: field-1"))
    strict.clean(right=None)
    strict.attack(right=None, effort=GRADIENT)
    strict.write()
    assert rows_of(made)["pure"].group is Group.RANKED
    assert rows_of(made, "strict")["pure"].group is Group.BELOW


def test_a_minimum_of_a_later_version_is_not_taken_for_another(trial):
    made = trial(text=TEXT.replace("n_examples: 32", "n_examples: 32, minimum: purifier-9"))
    met(made)
    made.write()
    with pytest.raises(UserError, match=r"expected a minimum of purifier-1, field-1 .* got 'purifier-9'"):
        rows_of(made)


# ---------------------------------------------------------------------- what to add


def added(made):
    return yaml.safe_load(board_of(made).additions.text)


def test_lines_name_what_the_suite_has_and_add_what_it_has_not(unequal):
    assert added(unequal) == {"matrix": [{"defenses": ["easy"], "attacks": ["pgd"], "threat_models": ["full"]}]}


def test_rows_that_lack_the_same_share_a_line_and_new_names_are_free(trial):
    made = trial(text=TEXT)
    for name in ("one", "two"):
        made.clean(name)
        made.attack(name, right=20, threat="bpda", effort=NOTHING, params={"steps": 2})
    signs = made.follows("smooth")
    made.clean("signs", traits=signs)
    made.attack("signs", right=20, threat="bpda", effort=SEARCH, traits=signs, params={"steps": 2})
    made.write()
    assert added(made) == {
        "attacks": [
            # pgd-10-eot-4 is taken in the suite by something else
            {"name": "pgd-10-eot-4-2", "use": "pgd", "params": {"steps": 10, "eot": 4}},
            {"name": "square-100", "use": "square", "params": {"n_queries": 100}},
        ],
        "threat_models": [
            {"name": "full-2", "use": "Linf", "params": {"eps": 0.2, "knowledge": "full"}},
            {"name": "smooth", "use": "Linf", "params": {"eps": 0.2, "knowledge": "smooth"}},
        ],
        "matrix": [
            {"defenses": ["one", "two"], "attacks": ["pgd-10-eot-4-2"], "threat_models": ["full-2"]},
            {"defenses": ["one", "two"], "attacks": ["square-100"], "threat_models": ["bpda"]},
            {"defenses": ["signs"], "attacks": ["pgd-10-eot-4-2"], "threat_models": ["smooth"]},
        ],
    }


def test_where_everything_is_crossed_it_stays_so_without_what_is_added(trial):
    made = trial(text=TEXT.replace("matrix: [{}]\n", "").replace("name: cnn,", "name: cnn,").replace("full", "bpda"))
    made.clean()
    made.attack(right=20, threat="bpda", effort=GRADIENT)
    made.write()
    first, *_ = added(made)["matrix"]
    assert first == {"attacks": ["pgd", "pgd-10-eot-4"], "threat_models": ["bpda"]}


def test_of_several_classifiers_the_boards_own_is_named(trial):
    made = trial(text=TEXT.replace("classifiers: [", "classifiers: [{name: wide, use: recipe}, "))
    made.clean()
    made.attack(right=20, threat="bpda")
    made.write()
    (line,) = added(made)["matrix"]
    assert line["classifiers"] == ["cnn"]
    assert "datasets" not in line


@pytest.mark.parametrize(
    ("eps", "written"), [(8 / 255, "8/255"), (0.2, 0.2), (1.0, 1), (0.1 + 0.2, 0.1 + 0.2), (2.5, 2.5)]
)
def test_a_radius_is_written_so_that_it_is_read_as_the_same_number(trial, eps, written):
    made = trial(text=TEXT)
    made.clean()
    made.attack(right=20, norm=Norm.L2, eps=eps, threat="bpda")
    made.write()
    (threat,) = added(made)["threat_models"]
    assert threat["params"] == {
        "eps": pytest.approx(written, rel=0) if eps != 8 / 255 else written,
        "knowledge": "full",
    }
    assert threat["use"] == "L2"


@pytest.mark.parametrize("name", ["true", "1e5", "2030-01-01", "null", "no", "007"])
def test_names_that_yaml_takes_for_something_else_are_quoted(trial, name):
    made = trial(text=TEXT)
    made.clean(name)
    made.attack(name, right=20, threat="bpda")
    made.write()
    from harness.suite.document import parse

    (line,) = parse(board_of(made).additions.text, "lines").data["matrix"]
    assert line["defenses"] == [name]


# ---------------------------------------------------------------------- shown apart in every format


def test_the_terminal_has_a_block_of_its_own_with_what_is_missing_and_the_line(unequal):
    (table,) = leaderboard_tables(read_leaderboard(str(unequal.path)), Console(width=200))
    assert [str(cell) for cell in table.columns[0].cells] == ["1", "", "\N{EN DASH}", "ref."]
    names = [str(cell) for cell in table.columns[1].cells]
    assert names == ["pure", "not ranked: attacked less than purifier-1 asks", "easy", "none"]
    said = str(table.caption)
    assert (
        "easy is not ranked: attacked less than purifier-1 asks; it lacks a gradient attack with knowledge full" in said
    )
    assert "matrix:\n  - {defenses: [easy], attacks: [pgd], threat_models: [full]}" in said
    assert "purifier-1 asks for a gradient attack with the strongest knowledge" in said


def test_markdown_has_a_table_of_its_own(unequal):
    text = markdown(read_leaderboard(str(unequal.path)))
    ranked, _, below = text.partition("#### Not ranked: attacked less than purifier-1 asks")
    assert "| 1 | pure |" in ranked
    assert "| easy |" not in ranked
    below = below[: below.index("worst case over")]
    assert "| \N{EN DASH} | easy |" in below
    assert "| pure |" not in below
    said = text[text.index("- easy is not ranked") :].partition("\n")[0]
    assert "attacked less than purifier-1 asks; it lacks a gradient attack with knowledge full" in said
    assert "```yaml\nmatrix:\n  - {defenses: [easy], attacks: [pgd], threat_models: [full]}\n```" in below


def test_the_page_has_a_block_of_its_own(unequal):
    text = html(read_leaderboard(str(unequal.path)))
    board = text[text.index('<table class="leaders') : text.index("</table>", text.index('<table class="leaders'))]
    first, second = board.split("<tbody")[1:]
    assert ">pure<" in first
    assert ">easy<" not in first
    assert ">easy<" in second
    assert ">pure<" not in second.split("<tfoot")[0]
    assert "not ranked: attacked less than purifier-1 asks" in second
    assert "easy lacks a gradient attack with knowledge full" in text
    assert "<pre><code>matrix:\n  - {defenses: [easy], attacks: [pgd], threat_models: [full]}</code></pre>" in text
    # drawings too: an open, dashed mark, and its name below
    assert text.count('<g class="point apart">') == text.count("Dashed, not ranked and not to be compared: easy.") > 0


def test_csv_says_of_each_row_where_it_stands(unequal):
    rows = csv.DictReader(io.StringIO(csv_text(read_leaderboard(str(unequal.path)))))
    worst = {row["defense"]: row for row in rows if row["row"] == "worst case"}
    assert {name: (row["standing"], row["rank"]) for name, row in worst.items()} == {
        "pure": ("ranked", "1"),
        "easy": ("below the minimum", ""),
        "none": ("reference", ""),
    }
    assert {row["minimum"] for row in worst.values()} == {"purifier-1"}
    assert worst["easy"]["lacks"].startswith("a gradient attack with knowledge full")
    assert worst["easy"]["add"] == "matrix:\n  - {defenses: [easy], attacks: [pgd], threat_models: [full]}"
    assert (worst["pure"]["lacks"], worst["pure"]["add"]) == ("", "")


def test_latex_has_a_block_of_its_own(unequal):
    text = latex(read_leaderboard(str(unequal.path)))
    table = text[: text.index(r"\end{table}")]
    before, _, after = table.partition(r"\emph{not ranked: attacked less than purifier-1 asks}")
    assert "\n1 & pure & " in before
    assert "easy & " not in before
    assert "easy & " in after
    assert r"\multicolumn{9}{l}" in before
    assert "it lacks a gradient attack with knowledge full" in before
    assert "% matrix:\n%   - {defenses: [easy], attacks: [pgd], threat_models: [full]}" in text


def test_robustbench_cards_lie_in_a_folder_apart(unequal):
    cards = model_info(read_leaderboard(str(unequal.path)))
    assert set(cards) == {
        "digits/Linf/pure_cnn.json",
        "digits/Linf/none_cnn.json",
        "not-ranked/digits/Linf/easy_cnn.json",
    }
    easy = json.loads(cards["not-ranked/digits/Linf/easy_cnn.json"])
    assert easy["unreliable"] is True
    assert "Not ranked, attacked less than purifier-1 asks: it lacks a gradient attack" in easy["footnote"]


def test_a_comparison_sets_the_worst_cases_apart_that_rank_nowhere(unequal, trial):
    again = trial(name="again")
    for name, threat in (("pure", "full"), ("easy", "bpda")):
        again.clean(name, right=None)
        again.attack(name, right=None, threat=threat, **({"effort": GRADIENT} if name == "pure" else {}))
    again.attack("pure", right=None, attack="square", threat="bpda", effort=SEARCH)
    again.write()
    found = compare("toy", "again", db=str(unequal.path))
    text = render.markdown(found)
    ranked, _, below = text.partition("## Worst cases that rank nowhere: attacked less than their suite asks")
    assert ("cnn/pure, Linf 0.2 |" in ranked, "cnn/easy, Linf 0.2 |" in ranked) == (True, False)
    assert "cnn/easy, Linf 0.2 |" in below[: below.index("## Cells")]
    assert "cnn/easy, Linf 0.2: the second was attacked less than purifier-1 asks: it lacks a gradient attack" in text
    told = {pair["name"]: pair.get("below") for pair in json.loads(render.as_json(found))["worst_cases"]}
    assert {name.split("/")[-1]: bool(lacks) for name, lacks in told.items()} == {
        "pure, Linf 0.2": False,
        "easy, Linf 0.2": True,
    }


@pytest.mark.parametrize("name", ["linf-0.2", "@SUM", "a, b", "x]", "a: b", 'q"uote', "\x1b[2J", "\x9bz", "# c", ""])
def test_any_name_is_written_so_that_yaml_reads_it_again(name):
    assert yaml.safe_load(f"[{_word(name)}]") == [name]
