"""Published figures: read safely, kept once, refused with every reason at once."""

from __future__ import annotations

import json
import shutil

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from harness.cli.commands import app
from harness.core.errors import UserError
from harness.store.tables import ReferenceRow
from harness.store.tend.published import import_published, published
from harness.store.write.store import Store

ROW = {
    "dataset": "digits",
    "norm": "Linf",
    "eps": "8/255",
    "method": "A purifier",
    "architecture": "a net",
    "attack": "AutoAttack",
    "clean": 0.9,
    "robust": 0.5,
    "source": "A paper, 2030",
    "link": "https://example.org/paper",
    "note": "over 512 images",
}

CARD = {
    "link": "https://example.org/paper",
    "name": "A title",
    "authors": "Somebody",
    "additional_data": False,
    "number_forward_passes": 1,
    "dataset": "cifar10",
    "venue": "CONF 2030",
    "architecture": "WideResNet-28-10",
    "eps": "8/255",
    "clean_acc": "93.68",
    "reported": "73.71",
    "autoattack_acc": "73.71",
    "external": "71.01",
    "footnote": "It uses\n more images.",
    "unreliable": False,
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "runs.db"
    Store.open(str(path), create=True).engine.dispose()
    return path


@pytest.fixture
def url(tmp_path, empty):
    return str(shutil.copy(empty, tmp_path / "runs.db"))


@pytest.fixture
def write(tmp_path):
    def put(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))  # JSON is YAML too
        return path

    return put


def count(url):
    with Store.open(url).engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ReferenceRow)).scalar_one()


def test_a_list_is_kept_once(url, write):
    more = {**ROW, "method": "Another", "robust": None, "link": ""}
    path = write("rows.yaml", [ROW, more, ROW])
    assert import_published(url, [path]) == (2, 1)
    assert import_published(url, [path, path]) == (0, 6)
    best, other = published(url)
    assert best.model_dump(mode="json") == {**ROW, "eps": 8 / 255}
    assert (other.method, other.clean, other.robust, other.web) == ("Another", 0.9, None, False)


def test_a_table_says_the_same_as_a_list(url, write):
    names = ["dataset", "norm", "eps", "method", "attack", "robust", "clean", "source"]
    lines = [",".join(names), 'digits,Linf,8/255,"A purifier, mild",pgd,,0.25,2030']
    assert import_published(url, [write("rows.csv", "\n".join(lines))]) == (1, 0)
    (row,) = published(url)
    assert (row.method, row.clean, row.robust, row.source, row.architecture) == (
        *("A purifier, mild", 0.25, None),
        *("2030", ""),
    )


def test_a_card_of_robustbench_is_read(url, write):
    path = write("model_info/cifar10/Linf/Somebody2030Title.json", CARD)
    assert import_published(url, [path]) == (2, 0)
    assert import_published(url, [path]) == (0, 2)
    first, second = published(url)
    assert (first.attack, first.robust, second.attack, second.robust) == ("AutoAttack", 0.7371, "best known", 0.7101)
    assert (first.method, first.clean, first.eps) == ("Somebody2030Title", 0.9368, 8 / 255)
    assert (first.source, first.note) == ("RobustBench, CONF 2030", "It uses more images.")


def test_the_folder_says_of_which_dataset_a_card_is(url, write):
    paths = [write(f"{dataset}/L2/Somebody2030Title.json", CARD) for dataset in ("cifar100", "imagenet", "cifar10")]
    assert import_published(url, paths) == (6, 0)
    assert {row.dataset for row in published(url)} == {"cifar10", "cifar100", "imagenet"}
    import_published(url, [write("mine/L1/Somebody2030Title.json", CARD | {"dataset": "digits"})])
    assert {row.dataset for row in published(url) if row.norm == "L1"} == {"digits"}


#: cards of corruptions as they are: without a budget, or with one that means nothing; shares among the per cents
CORRUPTED = {
    "old": ({"eps": None, "corruptions_acc": "66.45"}, {"common corruptions": 0.6645}),
    "new": (
        {"eps": 8 / 255, "corruptions_acc_2d": "21.12", "corruptions_acc_3d": "28.41", "corruptions_mce_2d": "100.00"},
        {"common corruptions": 0.2112, "common corruptions in 3D": 0.2841},
    ),
    "both": (
        {"eps": "", "corruptions_acc": "38.12", "corruptions_acc_2d": "38.12", "corruptions_acc_3d": ""},
        {"common corruptions": 0.3812},
    ),
}


@pytest.mark.parametrize("kind", CORRUPTED)
@pytest.mark.parametrize(("clean", "share"), [("78.41", 0.7841), (0.5538, 0.5538), (76.52, 0.7652), (None, None)])
def test_cards_of_corruptions_are_means_over_all_severities(url, write, kind, clean, share):
    told, figures = CORRUPTED[kind]
    like = {name: value for name, value in CARD.items() if not name.endswith("acc") and name != "external"}
    card = like | {"dataset": "cifar10", "architecture": None, "footnote": None, "clean_acc": clean} | told
    import_published(url, [write("model_info/cifar100/corruptions/Somebody2030Title.json", card)])
    rows = published(url)
    assert {row.attack: row.robust for row in rows} == pytest.approx(figures)
    for row in rows:
        assert (row.dataset, row.norm, row.eps) == ("cifar100", "corruption", 0)
        assert row.clean == pytest.approx(share)
        assert "corruption of all severities" in str(row)
        assert row.beside("corruption", 3.0)
        assert not row.beside("Linf", 8 / 255)


@pytest.mark.parametrize("severity", [6, -1, 2.5])
def test_a_severity_is_one_of_five_or_all(url, write, severity):
    with pytest.raises(UserError, match="eps: expected a severity, 1 to 5, or 0 for the mean over all, got"):
        import_published(url, [write("rows.yaml", [{**ROW, "norm": "corruption", "eps": severity}])])


def test_a_row_that_is_there_with_other_figures_is_refused(url, write):
    import_published(url, [write("rows.yaml", [ROW])])
    path = write("other.yaml", [{**ROW, "method": "New"}, {**ROW, "robust": 0.6}])
    with pytest.raises(UserError, match=r"row 2: expected figures that agree, but A purifier .*robust 0.6, was 0.5"):
        import_published(url, [path])
    assert count(url) == 1


MISTAKES = {
    "a percentage": ({"clean": 89.0}, "clean: expected a share in [0, 1], got 89; divide percentages by 100"),
    "a negative share": ({"robust": -0.1}, "robust: expected a share in [0, 1], got -0.1"),
    "no number": ({"robust": "high"}, "robust: expected a valid number"),
    "not a number": ({"robust": ".nan"}, "robust: "),
    "no figure": ({"clean": None, "robust": None}, "expected a figure under clean or robust, got neither"),
    "another norm": ({"norm": "L7"}, "norm: expected 'Linf', 'L2', 'L1', 'flow' or 'corruption', got 'L7'"),
    "a budget in levels": ({"eps": 8}, "expected an eps of pixels in [0, 1], got 8; 8 of 255 levels is 8/255"),
    "no budget": ({"eps": 0}, "eps: expected greater than 0, got '0'"),
    "a fraction that is none": ({"eps": "8/0"}, "eps: expected a number or a fraction such as 8/255, got '8/0'"),
    "an unknown key": ({"rank": 1}, "rank: unknown key; known: dataset, norm"),
    "no method": ({"method": ""}, "method: "),
    "a link that runs": ({"link": "javascript:alert(1)"}, "link: expected a link that begins with http"),
    "a link that breaks out": ({"link": 'https://x/" onclick="y'}, "link: expected a link that begins with http"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_a_sentence_with_its_row(url, write, kind):
    changed, sentence = MISTAKES[kind]
    path = write("rows.yaml", [ROW, {**ROW, "source": "other", **changed}])
    with pytest.raises(UserError) as caught:
        import_published(url, [path])
    assert f"{path}, row 2: {sentence}" in str(caught.value)
    assert count(url) == 0


def test_all_mistakes_are_told_at_once(url, write):
    files = [write("a.yaml", [{**ROW, "clean": 2}, 3]), write("b.csv", "dataset,odd\ndigits,1\n"), write("c.txt", "")]
    with pytest.raises(UserError) as caught:
        import_published(url, files)
    told = str(caught.value)
    for part in ("a.yaml, row 1: clean", "a.yaml, row 2", "b.csv, row 1: odd", "b.csv, row 1: norm", "c.txt: expected"):
        assert part in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.yaml", "!!python/object/apply:os.system ['true']"),
        ("rows.yaml", "dataset: digits"),
        ("rows.yaml", "[" * 5000),
        ("rows.yaml", "a: [b"),
        ("rows.csv", "dataset,norm\ndigits,Linf,more\n"),
        ("Linf/card.json", "[1]"),
        ("Linf/card.json", "{"),
        ("Linf/card.json", json.dumps({**CARD, "clean_acc": "high"})),
        ("elsewhere/card.json", json.dumps(CARD)),
        ("absent/../nothing.yaml", None),
    ],
)
def test_a_file_that_is_none_is_a_sentence(url, write, tmp_path, name, content):
    path = write(name, content) if content is not None else tmp_path / name
    with pytest.raises(UserError, match="expected a file that can be read, got: "):
        import_published(url, [path])


def test_the_command_tells_how_many(url, write):
    done = CliRunner().invoke(app, ["db", "import", url, str(write("rows.yaml", [ROW]))])
    assert (done.exit_code, done.stdout.strip()) == (0, "1 figures new, 0 were there")
