import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console
from sqlalchemy import event
from sqlalchemy.engine import Engine

from harness.core.errors import UserError
from harness.topics import topics
from reports.flags.checks import FLAGS
from reports.flags.glossary import MEANINGS
from reports.model.leaderboard import read_leaderboard
from reports.render.csv_file import csv_text
from reports.render.help_pages import help_page
from reports.render.html import html
from reports.render.latex import escaped as latex_escaped
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.robustbench import model_info
from reports.render.terminal import leaderboard_tables
from reports.write import write_report

HOSTILE = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """Collects ids, links, tags and the text within links."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.link_texts = [], [], [], []
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
            self.inside = attributes["href"]

    def handle_endtag(self, tag):
        if tag == "a":
            self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.link_texts.append((self.inside, data.strip()))


def test_every_link_of_the_page_leads_to_an_anchor_on_it(toy):
    page = Page(html(read_leaderboard(toy.write())))
    assert len(set(page.ids)) == len(page.ids)
    beside = {link for link in page.links if link.partition("#")[0] == "help.html"}
    assert beside >= {"help.html", "help.html#trust"}
    assert all(link.startswith("#") for link in page.links if link not in beside)
    assert {link[1:] for link in page.links if link not in beside} <= set(page.ids)
    assert {link.partition("#")[2] for link in beside} - {""} <= set(Page(help_page()).ids)


def test_help_lies_beside_the_report_and_its_topics_are_no_markup(toy, tmp_path, monkeypatch):
    (path,) = [path for path in write_report(toy.write(), tmp_path / "out") if path.name == "help.html"]
    page = Page(path.read_text())
    assert set(page.ids) == set(topics())
    assert not [tag for tag, attributes in page.tags if tag in ("script", "link", "img") or "src" in attributes]
    told = {"hostile": "# T\n\n<script>alert(1)</script> [a](javascript:alert(1))\n\n| a |\n|---|\n| b |\n"}
    monkeypatch.setattr("reports.render.help_pages.topics", lambda: told)
    text = help_page.__wrapped__()
    assert "<script>" not in text
    assert 'href="javascript' not in text
    assert "<td>b</td>" in text


def test_every_accuracy_of_the_board_links_to_its_cell(toy):
    leaderboard = read_leaderboard(toy.write())
    page = Page(html(leaderboard))
    for row in leaderboard.sections[0].boards[0].rows:
        for entry in row.entries:
            if entry.accuracy:
                assert (f"#c-{entry.id}", f"{100 * entry.accuracy.share:.1f}") in page.link_texts
        if row.worst:
            assert (f"#{row.worst.anchor}", f"{row.bound}{100 * row.worst.accuracy.share:.1f}") in page.link_texts
    assert all(f"c-{member.cell.digest[:12]}" in page.ids for member in toy.members if member.cell)


def test_what_comes_from_the_database_is_escaped_on_the_page(bench):
    one = bench(title=HOSTILE, text=HOSTILE, name=HOSTILE)
    one.add(HOSTILE, None, "111", dataset=HOSTILE)
    one.refuse(HOSTILE, "full-0.2", HOSTILE)
    text = html(read_leaderboard(one.write()))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1  # the page's own
    assert "<b>a machine" not in text
    assert "alert(&#39;x&#39;)" in text


def test_the_page_asks_nothing_of_the_network(toy):
    page = Page(html(read_leaderboard(toy.write())))
    assert not [tag for tag, attributes in page.tags if tag in ("link", "img", "iframe") or "src" in attributes]


def test_the_page_tells_the_states_and_their_reasons(toy):
    text = html(read_leaderboard(toy.write()))
    assert "sign step has the identity for a Jacobian." in text
    assert "Unfinished: 2 of 12 cells" in text  # of the suite
    assert "Unfinished: 2 of 11 cells" in text  # of the board
    assert "partial, 2 of 4" in text
    assert "not ranked: 2 of 4 cells unfinished" in text


def test_weights_environment_and_parameters_stand_on_the_page(toy):
    text = html(read_leaderboard(toy.write()))
    assert "cnn: sha256 <code>aaaaaaaaaaaa</code>" in text
    assert "3.11.0" in text
    assert "pgd v1 (steps=20)" in text
    assert "draws 0, subset 0" in text


def test_a_second_report_has_the_same_bytes(toy, tmp_path):
    url = toy.write()
    first = write_report(url, tmp_path / "a")
    second = write_report(url, tmp_path / "b")
    assert [path.name for path in first] == [
        *("index.html", "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "help.html"),
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_a_folder_that_cannot_be_written_is_a_sentence(toy, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="expected to write a report into"):
        write_report(toy.write(), tmp_path / "taken")


def test_csv_gives_back_the_numbers(toy):
    leaderboard = read_leaderboard(toy.write())
    lines = list(csv.DictReader(io.StringIO(csv_text(leaderboard))))
    cells = [line for line in lines if line["row"] == "cell"]
    (section,) = leaderboard.sections
    assert [line["id"] for line in cells] == [entry.id or "" for entry in section.entries]
    for line, entry in zip(cells, section.entries, strict=True):
        assert line["status"] == entry.status
        if entry.accuracy:
            assert float(line["accuracy"]) == entry.accuracy.share
            assert float(line["defense_seconds"]) == entry.defense_cost.seconds
        else:
            assert line["accuracy"] == ""
    worst = {line["defense"]: line for line in lines if line["row"] == "worst case"}
    assert float(worst["mae-pure"]["accuracy"]) == pytest.approx(0.5)
    assert worst["mae-pure"]["rank"] == "1"
    assert (worst["mae-pure"]["tied"], worst["mae-pure"]["p"]) == ("", "")
    assert len(worst["mae-pure"]["id"].split()) == 3
    assert worst["dmae"]["reason"] == "2 of 4 cells unfinished"


def test_peak_memory_and_its_batch_size_stand_in_every_table_of_cells(toy):
    leaderboard = read_leaderboard(toy.write())
    cells = [line for line in csv.DictReader(io.StringIO(csv_text(leaderboard))) if line["row"] == "cell"]
    clean = next(line for line in cells if line["defense"] == "mae-pure" and line["attack"] == "clean")
    assert (float(clean["defense_peak_memory"]), float(clean["defense_batch_size"])) == (12_300_000, 4)
    assert all(line["attack_peak_memory"] == line["attack_batch_size"] == "" for line in cells)
    measured = sum(bool(line["accuracy"]) for line in cells)
    for text, between in ((markdown(leaderboard), " | "), (latex(leaderboard), " & ")):
        assert text.count(between.join(["12.3 MB", "4", ""])) == measured
        assert "defense, per batch" in text
    page = html(leaderboard)
    assert page.count(">12.3 MB</td>") == measured
    for group in ("defense, per batch", "attack, per batch"):
        assert f'colspan="2" scope="colgroup">{group}</th>' in page
    assert "<dt>peak memory, batch size</dt>" in page
    assert "**peak memory, batch size**: The most memory" in markdown(leaderboard)


def test_markdown_tables_have_equal_rows_and_name_the_cells(toy):
    text = markdown(read_leaderboard(toy.write()))
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert all(f"`{member.cell.digest[:12]}`" in text for member in toy.members if member.cell)
    assert "\\<script\\>" in text
    assert "<script>" not in text
    assert "| 1\\* | mae-pure | 91.7 \\[" in text
    assert "\\* mae-pure: not attacked in full: refused" in text


def test_latex_escapes_what_it_would_otherwise_obey():
    assert latex_escaped("50% of_a & #1 {x} $y$ ~^\\") == (
        r"50\% of\_a \& \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_latex_rows_match_their_columns(bench):
    one = bench()
    one.add("a_b & 100%", None, "111", "111", "111", "111")
    one.add("a_b & 100%", "bpda-0.2", "111", "111", "111", "000")
    text = latex(read_leaderboard(one.write()))
    assert r"a\_b \& 100\%" in text
    for shape, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.S):
        for line in body.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(shape) - 1
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


def test_the_terminal_shows_labels_as_they_are(bench):
    one = bench()
    one.add("[red]odd[/red]", None, "111", "111", "111", "111")
    one.add("[red]odd[/red]", "bpda-0.2", "111", "111", "111", "000")
    console = Console(file=io.StringIO(), width=160)
    for table in leaderboard_tables(read_leaderboard(one.write()), console):
        console.print(table)
    text = console.file.getvalue()
    assert "[red]odd[/red]" in text
    assert "75.0" in text


def test_attacks_that_do_not_fit_side_by_side_stand_below_each_other(bench):
    one = bench()
    one.add("mae-pure", None, "111", "111", "111", "111")
    for threat, last in (("oblivious-0.2", "111"), ("bpda-0.2", "011"), ("full-0.2", "001")):
        one.add("mae-pure", threat, "111", "111", "111", last)
    found = read_leaderboard(one.write())

    def shown(width):
        console = Console(file=io.StringIO(), width=width)
        tables = leaderboard_tables(found, console)
        heads = [[str(column.header).split("\n")[-1] for column in table.columns] for table in tables]
        console.print(*tables, sep="\n")
        return heads, console.file.getvalue()

    sums, attacks = ["#", "defense", "clean", "case", "NFE"], ["oblivious-0.2", "bpda-0.2", "full-0.2"]
    assert shown(160)[0] == [[*sums, *attacks]]
    heads, text = shown(64)
    assert heads[0][:5] == sums
    assert heads[0][5:] + [name for head in heads[1:] for name in head[2:]] == attacks
    assert len(heads) > 1
    for said in (*attacks, "100.0", "91.7", "83.3"):
        assert said in text
    assert max(map(len, text.splitlines())) <= 64


def test_a_database_without_a_suite_has_a_page(tmp_path):
    from harness.store.write.store import Store

    Store.open(str(tmp_path / "empty.db"), create=True)
    paths = write_report(str(tmp_path / "empty.db"), tmp_path / "out")
    assert "holds no suite yet" in paths[0].read_text()


def test_a_declared_suite_without_results_has_a_page(bench, tmp_path):
    one = bench()
    one.add("mae-pure", None)
    one.add("mae-pure", "bpda-0.2")
    paths = write_report(one.write(), tmp_path / "out")
    assert "Unfinished: 2 of 2 cells" in paths[0].read_text()


def test_a_report_needs_no_torch():
    code = (
        "import reports.write, reports.render.terminal, sys; "
        "sys.exit(bool({'torch', 'harness.execution'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def flagged(trial):
    """A row with a flag that warns, one of its traits, and one that nobody looked at; an attack that claims more."""
    made = trial()
    made.clean(own=7)
    notes = {"zero_gradient": (0.5, 640), "claimed_robust": (0.125, 32)}
    made.attack(right=20, notes=notes)
    return made


def test_every_report_shows_flags_beside_the_worst_case(flagged):
    found = read_leaderboard(flagged.write())
    page, text, paper = html(found), markdown(found), latex(found)
    # the page: under the row, in full below it, and what it means
    assert re.search(r'<a class="flag" href="#b1-1-t1" title="[^"]*">zero-gradient <b>50.0 %</b></a>', page)
    assert "untested: black-box-beats-white-box, transfer-beats-direct, unbounded-not-zero" in page
    assert '<dl id="b1-1-t1">' in page
    assert '<div id="flag-zero-gradient"><dt>zero-gradient</dt>' in page
    assert {link[1:] for link in Page(page).links if link.startswith("#")} <= set(Page(page).ids)
    row = next(line for line in text.splitlines() if line.startswith("| 1 | pure"))
    assert row.endswith("| zero-gradient 50.0 %, random |")
    assert "- **pure, zero-gradient**: the gradient was zero in every pixel in 50.0 %" in text
    assert r"62.5 {\scriptsize [45.3, 77.1]}\textsuperscript{a,b} &" in paper
    assert r"a: zero-gradient (pure 50.0 \%). b: random (pure)." in paper
    (table,) = leaderboard_tables(found, Console(width=160))
    assert "\npure: zero-gradient 50.0 %, random\n" in str(table.caption)
    assert "\npure, untested: black-box-beats-white-box, transfer-beats-direct," in str(table.caption)


@pytest.mark.parametrize(
    ("besides", "named"),
    [(None, ["every defense"]), ("square", ["pure, third", "other"]), ("unattacked", ["pure, other, third"])],
)
def test_what_nobody_could_look_at_is_said_once_for_the_rows_that_lack_the_same(trial, besides, named):
    made = trial()
    for defense in ("pure", "other", "third"):
        made.clean(defense)
        made.attack(defense, right=20)
    if besides == "square":
        made.attack("other", right=10, attack="square", notes=None, backwards=0)
    if besides == "unattacked":
        made.clean("fourth")
    found = read_leaderboard(made.write())
    assert [who for who, _ in found.sections[0].boards[0].untested] == named
    (table,) = leaderboard_tables(found, Console(width=160))
    for who in named:
        assert f"\n{who}, untested: " in str(table.caption)
        assert markdown(found).count(f"- {who}, untested: ") == 1


def test_the_csv_has_flags_in_columns_and_a_line_for_each(flagged):
    lines = list(csv.DictReader(io.StringIO(csv_text(read_leaderboard(flagged.write())))))
    worst = next(line for line in lines if line["row"] == "worst case")
    assert worst["fired"] == "zero-gradient 50.0 %; random"
    assert worst["untested"].split("; ")[:2] == ["black-box-beats-white-box", "transfer-beats-direct"]
    told = {line["flag"]: line for line in lines if line["row"] == "flag"}
    assert len(told) == len(FLAGS)
    zero = told["zero-gradient"]
    assert (zero["status"], float(zero["figure"]), zero["eps"]) == ("fired", 0.5, "0.2")
    assert zero["id"] == flagged.members[1].cell.digest[:12]
    assert told["unbounded-not-zero"]["status"] == "untested"
    assert "add a threat model with Linf and eps 1" in told["unbounded-not-zero"]["reason"]


def test_what_an_attack_claims_stands_beside_what_was_judged(flagged):
    found = read_leaderboard(flagged.write())
    beside = r'62\.5<span class="under">[^<]*</span><span class="under" title=[^>]*>claimed 12\.5</span>'
    assert re.search(beside, html(found))
    assert "62.5 \\[45.3, 77.1\\] (claimed 12.5)" in markdown(found)
    lines = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [line["claimed"] for line in lines if line["row"] == "cell"] == ["", "0.125"]
    assert found.sections[0].boards[0].rows[0].worst.accuracy.share == 20 / 32


def test_a_flag_with_a_warning_makes_a_card_unreliable_and_a_trait_does_not(flagged, trial):
    (card,) = (json.loads(text) for text in model_info(read_leaderboard(flagged.write())).values())
    assert card["unreliable"]
    assert card["footnote"].endswith("Flags: zero-gradient 50.0 %, random.")
    sound = trial(name="sound")
    sound.clean("sound")
    sound.attack("sound", right=20)
    sound.write()
    (card,) = (json.loads(text) for text in model_info(read_leaderboard(str(sound.path), "sound")).values())
    assert not card["unreliable"]
    assert card["footnote"].endswith("Flags: random.")


def test_the_page_says_which_rule_is_applied(flagged):
    found = read_leaderboard(flagged.write(), decision="majority")
    assert "<em>majority, in place of the suite&#39;s own mean</em>" in html(found)
    assert "decision majority, in place of the suite's own mean: an example counts as correct if more" in markdown(
        found
    )


def test_the_meanings_are_of_the_flags_there_are():
    names = [flag.__name__.replace("_", "-") for flag in FLAGS]
    assert [meaning.name for meaning in MEANINGS] == names
    text = " ".join(meaning.source for meaning in MEANINGS)
    for paper in ("Athalye", "Carlini", "Tramèr", "Croce", "Kassis", "Lee and Kim", "Pintor"):
        assert paper in text


def test_a_report_reads_what_was_measured_once(toy, tmp_path):
    path, asked = toy.write(), []

    def listen(connection, cursor, statement, parameters, context, many):
        asked.append((" ".join(statement.split()), str(parameters)))

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        write_report(path, tmp_path / "out")
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert sum("alembic_version.version_num" in statement for statement, _ in asked) == 1  # it is opened once
    large = [
        one for one in asked if re.search(r"FROM (results|outcomes|cells|members|jobs|components|published)\b", one[0])
    ]
    assert large
    assert len(set(large)) == len(large)
    assert len(asked) <= 35
