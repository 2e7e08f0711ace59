import subprocess
import sys

import pytest

from harness.core.errors import UserError
from harness.core.threat import Norm
from harness.suite import shipped
from harness.suite.document import parse
from harness.suite.load import load_suite, read_suite


def test_a_good_file_becomes_a_suite(read, suite_text):
    suite = read()
    assert (suite.name, suite.title, suite.text, suite.source) == ("demo", "A demonstration", suite_text, "suite.yaml")
    assert suite.evaluation.n_examples == 40
    assert [metric.spec.use for metric in suite.metrics] == ["distances"]


def test_a_suite_is_found_by_path(folder, suite_text):
    path = folder / "mine.yaml"
    path.write_text(suite_text, encoding="utf-8")
    assert load_suite(str(path)).name == "demo"


def test_a_suite_is_found_by_its_shipped_name(folder, suite_text, monkeypatch):
    (folder / "demo.yaml").write_text(suite_text, encoding="utf-8")
    monkeypatch.setattr(shipped, "suites", lambda: {"demo": folder / "demo.yaml"})
    assert load_suite("demo").source == str(folder / "demo.yaml")
    with pytest.raises(UserError, match=r"a shipped suite or a path, got 'dmo'; did you mean 'demo'\?"):
        load_suite("dmo")


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"expected a readable file at .*bytes\.yaml, but it is not UTF-8 text"):
        load_suite(str(folder / "bytes.yaml"))


def test_a_dataset_whose_card_says_nothing_is_refused_before_anything_is_planned(read, complaints, monkeypatch):
    monkeypatch.setattr(sys.modules["purebench_stand_ins"].Dots, "sha256", "today's")
    found = complaints()
    assert any(
        "Dots: expected a card with the hash of the content, 64 digits of hexadecimal, got" in one for one in found
    )


def test_eps_may_be_a_fraction(read):
    cell = next(cell for cell in read().cells if cell.threat)
    assert cell.threat.eps == 8 / 255


# ---------------------------------------------------------------------- YAML


@pytest.mark.parametrize("tag", ["!!python/object:os.system", "!!python/object/apply:os.system", "!mine", "!!set"])
def test_a_tag_is_refused_with_one_sentence(complaints, suite_text, tag):
    text = suite_text.replace("title: A demonstration", f"title: {tag} {{}}")
    assert complaints(text) == [
        f"suite.yaml:3: title: expected plain YAML without tags, got the tag {tag!r}; write the value itself"
    ]


def test_a_tagged_scalar_is_refused_too(complaints, suite_text):
    text = suite_text.replace("n_examples: 40", "n_examples: !!python/name:os.getcwd x")
    (sentence,) = complaints(text)
    assert "expected plain YAML without tags, got the tag '!!python/name:os.getcwd'" in sentence


def test_a_syntax_error_names_line_and_column(complaints):
    (sentence,) = complaints("name: demo\ndatasets: [1, 2\nattacks: 3\n")
    assert sentence.startswith("suite.yaml:3: expected YAML, got a syntax error at column ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "suite.yaml:1: expected a mapping of keys, got an empty file"),
        ("- a\n", 'suite.yaml:1: expected a mapping, got ["a"]'),
        ("a: \x00", "expected YAML text, got something unreadable"),
        ("a: 1\n---\nb: 2\n", "suite.yaml:2: expected YAML, got a syntax error"),
        ("a: &x [*x]\n", "suite.yaml:1: a[0]: expected a finite value, got an alias of itself"),
        ("1: a\n", "suite.yaml:1: expected a text as key, got '1'"),
        ("a: !!int ten\n", "suite.yaml:1: a: expected a value of type !!int, got 'ten'"),
        ("[" * 5000, "expected YAML of ordinary depth"),
    ],
)
def test_what_is_no_suite_at_all_is_refused(complaints, text, sentence):
    assert sentence in complaints(text)[0]


def test_aliases_cannot_multiply_without_bound(complaints):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "expected at most 100000 values, got more" in complaints("\n".join(lines))[0]


def test_a_repeated_key_is_an_error_and_hides_no_other(complaints, suite_text):
    text = suite_text + "titel: x\nname: again\n"
    lines = len(text.splitlines())
    assert complaints(text) == [
        f"suite.yaml:{lines - 1}: titel: unknown key 'titel'; did you mean 'title'?",
        f"suite.yaml:{lines}: name: the key 'name' is repeated, first on line 2; keep one",
    ]


def test_scalars_are_what_people_mean():
    document = parse("a: 1e-3\nb: 2020-01-01\nc: 8/255\nd: 1.5e3\ne: none\nf: -.5E+2\ng: =\n", "x")
    assert document.data == {
        "a": 0.001,
        "b": "2020-01-01",
        "c": "8/255",
        "d": 1500.0,
        "e": "none",
        "f": -50.0,
        "g": "=",
    }


#: what YAML 1.1 takes for something else than what is written, or 1.2 for something else than 1.1
SURPRISES = ["010", "+010", "007.5", "2:30", "1:30:00.5", "1_000", "0b11", "0o10", "0x1F", "2020-01-01", "="]
WORDS = ["yes", "Yes", "no", "NO", "on", "Off"]


@pytest.mark.parametrize("text", [*SURPRISES, *WORDS])
def test_what_versions_of_yaml_read_differently_is_the_text_that_is_written(text):
    assert parse(f"a: {text}\n{text}: b\n", "x").data == {"a": text, text: "b"}


@pytest.mark.parametrize("text", SURPRISES)
@pytest.mark.parametrize(("key", "kind"), [("repeats: 3", "an integer"), ("eps: 8/255", "a number")])
def test_and_never_passes_for_a_number(complaints, suite_text, text, key, kind):
    told = complaints(suite_text.replace(key, f"{key.partition(':')[0]}: {text}", 1))[0]
    assert f"expected {kind}, got {text!r}" in told
    if text[-1].isdigit() and text.count("-") < 2:
        assert "; write the number in decimal, without zeros in front and without quotes" in told


@pytest.mark.parametrize("text", WORDS)
def test_nor_for_true_or_false(complaints, suite_text, text):
    (told,) = complaints(suite_text.replace("steps: 5", f"random_start: {text}"))
    assert told.endswith(f"attacks[0].params.random_start: expected true or false, got {text!r}")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E3", 1e3), ("+12", 12), ("-0.5", -0.5), (".5", 0.5), ("1.", 1.0), ("True", True), ("~", None)],
)
def test_what_everybody_reads_alike_is_what_it_says(text, value):
    found = parse(f"a: {text}\n", "x").data["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("key", ["seed", "subset_seed", "n_examples", "repeats", "shard_size"])
@pytest.mark.parametrize("value", [str(2**63), "1" + 30 * "0", f"-{2**70}", 5000 * "7"], ids=len)
def test_an_integer_beyond_63_bits_is_a_sentence(complaints, suite_text, key, value):
    lines = [line for line in suite_text.splitlines() if not line.startswith(f"  {key}:")]
    (told,) = complaints("\n".join([*lines, f"  {key}: {value}"]) + "\n")
    assert f"evaluation.{key}: expected an integer between -2^63 and 2^63, got " in told
    assert len(told) < 300


@pytest.mark.parametrize("value", ["1e19", "1e300"])
def test_a_real_number_of_that_size_is_no_integer_either(complaints, suite_text, value):
    (told,) = complaints(f"{suite_text}  seed: {value}\n")
    assert "evaluation.seed: expected an integer of ordinary size, got 1e+" in told


def test_the_largest_seed_is_one(read, suite_text):
    assert read(f"{suite_text}  seed: {2**63 - 1}\n").cells[0].seed == 2**63 - 1


def test_mappings_can_be_merged_and_own_keys_win():
    document = parse("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\n", "x")
    assert document.data["more"] == {"x": 1, "y": 3}
    assert document.line(("more", "y")) == 4


# ---------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("use", "eps", "sentence"),
    [
        ("corruption", "2.5", "expected an integer, got 2.5"),
        ("corruption", "0", "expected a number of at least 1"),
        ("corruption", "6", "expected a number of at most 5"),
        ("flow", "0", "expected a number greater than 0"),
    ],
)
def test_what_eps_is_depends_on_the_norm(complaints, suite_text, use, eps, sentence):
    (told,) = complaints(suite_text.replace("use: Linf", f"use: {use}", 1).replace("eps: 8/255", f"eps: {eps}", 1))
    assert told.startswith(f"suite.yaml:20: threat_models[0].params.eps: {sentence}")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("steps: 5", "steps: ten", "attacks[0].params.steps: expected an integer, got 'ten'"),
        ("steps: 5", "steps: '5'", "attacks[0].params.steps: expected an integer, got '5'"),
        ("steps: 5", "steps: true", "attacks[0].params.steps: expected an integer, got true"),
        ("steps: 5", "steps: 5.5", "attacks[0].params.steps: expected an integer, got 5.5"),
        ("steps: 5", "steps: 0", "attacks[0].params.steps: expected a number of at least 1, got 0"),
        ("steps: 5", "steps: ", "attacks[0].params.steps: expected an integer, got nothing"),
        ("steps: 5", "stepz: 5", "attacks[0].params.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        ("steps: 5", "random_start: 1", "attacks[0].params.random_start: expected true or false, got 1"),
        ("steps: 5", "random_start: maybe", "attacks[0].params.random_start: expected true or false, got 'maybe'"),
        ("steps: 5", "step_size: .inf", "attacks[0].params.step_size: expected a finite number, got Infinity"),
        ("steps: 5", "step_size: 1/0", "expected a number or a fraction such as 8/255, got '1/0'"),
        (
            "name: push",
            "name: pusch",
            "attacks[0].name: expected a registered attack, got 'pusch'; did you mean 'push'?",
        ),
        ("use: trained", "use: traned", "classifiers[0].use: expected a registered classifier, got 'traned'"),
        ("use: trained", "use: 3", "classifiers[0].use: expected a text, got 3"),
        (
            "use: Linf",
            "use: linf",
            "expected a norm, one of Linf, L2, L1, flow, corruption, under `use`, got 'linf'; did you mean 'Linf'?",
        ),
        ("eps: 8/255", "eps: -0.1", "threat_models[0].params.eps: expected a number greater than 0"),
        ("eps: 8/255, ", "", "threat_models[0].params.eps: expected the key 'eps', got none"),
        (
            "knowledge: bpda",
            "knowledge: bpad",
            "[1].params.knowledge: expected one of oblivious, bpda, surrogate, full, smooth, got 'bpad'; "
            "did you mean 'bpda'?",
        ),
        ("params: {net: mae.yaml}", "params: [1]", "defenses[1].params: expected a mapping, got [1]"),
        ("{net: mae.yaml}", "{}", "defenses[1].params.net: expected the key 'net', got none"),
        (
            "{net: mae.yaml}",
            "{net: mae.yaml, mode: sift}",
            "expected one of soft, hard, got 'sift'; did you mean 'soft'?",
        ),
        ("{net: mae.yaml}", "{net: mae.yaml, sizes: [1, x]}", "params.sizes[1]: expected an integer, got 'x'"),
        ("name: demo", "name: Demo", "name: expected a text of the form"),
        ("name: demo", "name: 3", "name: expected a text, got 3"),
        ("name: push", "name: clean\n    use: push", "expected another name, got 'clean', which means input"),
        ("n_examples: 40", "seed: 1", "evaluation.n_examples: expected the key 'n_examples', got none"),
        ("n_examples: 40", "n_examples: 51", "expected at most 50, the test images of dataset 'dots', got 51"),
        ("shard_size: 16", "decision: meen", "expected one of mean, any, majority, got 'meen'; did you mean 'mean'?"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(complaints, suite_text, old, new, sentence):
    text = suite_text.replace(old, new, 1)
    assert text != suite_text
    told = complaints(text)
    assert len(told) == 1
    assert sentence in told[0]


def test_all_mistakes_come_at_once_sorted_by_line(complaints, folder):
    (folder / "bad.yaml").write_text(
        "name: bad\ndataset: {use: dotz}\nnet: {use: cnnn}\nobjective: {use: classify, rate: 1}\n", encoding="utf-8"
    )
    told = complaints(
        """\
        name: demo
        titel: x
        datasets:
          - {name: dots, params: {n_tests: 3}}
        classifiers:
          - {name: small, use: trained, params: {recipe: bad.yaml}}
        defenses:
          - {name: none}
          - {name: none, use: blurr}
        attacks:
          - {name: push, params: {steps: ten, stepz: 1}}
        threat_models:
          - {name: hidden, use: L3, params: {eps: 8/255, knowledge: all}}
        matrix:
          - defenses: [nune, 3]
            tie: [{datasets: [dots], attacks: [push, pull]}]
            exlude: []
          - exclude: [{}, {attack: [push, pish]}]
            include: [{defense: blur, threat_model: hiden}]
        evaluation: {repeats: 0, decision: men}
        metrics: {names: [amv, foo], probe: {recipe: lost.yaml, masks: 0}}
        """
    )
    assert told == [
        f"{folder}/bad.yaml:1: steps: expected the key 'steps', got none",
        f"{folder}/bad.yaml:2: dataset.use: expected a registered dataset, got 'dotz'; did you mean 'dots'?",
        f"{folder}/bad.yaml:3: net.use: expected a registered network, got 'cnnn'; did you mean 'cnn'?",
        f"{folder}/bad.yaml:4: objective.rate: unknown key 'rate'; known: use",
        "suite.yaml:2: titel: unknown key 'titel'; did you mean 'title'?",
        "suite.yaml:4: datasets[0].params.n_tests: unknown key 'n_tests'; did you mean 'n_test'?",
        "suite.yaml:9: defenses[1].name: expected names that occur once, got 'none' 2 times; the first is on line 8",
        "suite.yaml:9: defenses[1].use: expected a registered defense, got 'blurr'; did you mean 'blur'?",
        "suite.yaml:11: attacks[0].params.steps: expected an integer, got 'ten'",
        "suite.yaml:11: attacks[0].params.stepz: unknown key 'stepz'; did you mean 'steps'?",
        f"suite.yaml:13: threat_models[0].use: expected a norm, one of {', '.join(Norm)}, under `use`, got 'L3'",
        "suite.yaml:13: threat_models[0].params.knowledge: expected one of oblivious, bpda, surrogate, full, smooth, "
        "got 'all'",
        "suite.yaml:15: matrix[0].defenses[1]: expected a text, got 3",
        "suite.yaml:15: matrix[0].defenses[0]: expected a name listed under defenses, got 'nune'; did you mean 'none'?",
        "suite.yaml:16: matrix[0].tie[0]: expected tied lists of equal length, got datasets with 1, attacks with 2",
        "suite.yaml:16: matrix[0].tie[0].attacks[1]: expected a name listed under attacks, got 'pull'; known: push",
        "suite.yaml:17: matrix[0].exlude: unknown key 'exlude'; did you mean 'exclude'?",
        "suite.yaml:18: matrix[1].exclude[0]: expected one or more of dataset, classifier, defense, attack, "
        "threat_model, certificate, got an empty condition",
        "suite.yaml:18: matrix[1].exclude[1].attack[1]: expected a name listed under attacks, got 'pish'; "
        "did you mean 'push'?",
        "suite.yaml:19: matrix[1].include[0].attack: expected the key 'attack', got none",
        "suite.yaml:19: matrix[1].include[0].defense: expected a name listed under defenses, got 'blur'; known: none",
        "suite.yaml:19: matrix[1].include[0].threat_model: expected a name listed under threat_models, got 'hiden'; "
        "did you mean 'hidden'?",
        "suite.yaml:20: evaluation.n_examples: expected the key 'n_examples', got none",
        "suite.yaml:20: evaluation.repeats: expected a number of at least 1, got 0",
        "suite.yaml:20: evaluation.decision: expected one of mean, any, majority, got 'men'; did you mean 'mean'?",
        "suite.yaml:21: metrics.probe.masks: expected a number of at least 1, got 0",
        f"suite.yaml:21: metrics.probe.recipe: expected a recipe file at {folder}/lost.yaml, found none; "
        "paths start from the folder of the suite file",
        "suite.yaml:21: metrics.names[1]: expected a registered metric, got 'foo'; known: amv, amv-by-head, distances, "
        "reconstruction",
    ]


def test_an_impossible_cell_is_told_beside_other_mistakes(complaints, suite_text):
    text = suite_text.replace("knowledge: bpda", "knowledge: full") + "titel: x\n"
    lines = len(text.splitlines())
    assert complaints(text) == [
        "suite.yaml:2: matrix[0]: expected a possible cell, got dots/small/blur/push/known: a blur has no gradient; "
        "exclude the cell or write `impossible: skip` in the block",
        f"suite.yaml:{lines}: titel: unknown key 'titel'; did you mean 'title'?",
    ]


# ---------------------------------------------------------------------- matrix and metrics


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ("{tie: [{attacks: [push]}]}", "matrix[0].tie[0]: expected two or more axes to tie, got attacks"),
        (
            "{attacks: [push], tie: [{attacks: [push], defenses: [none]}]}",
            "matrix[0]: expected each axis either listed or tied, and once, got attacks repeatedly",
        ),
        ("{impossible: skipp}", "expected one of error, skip, got 'skipp'; did you mean 'skip'?"),
        ("{exclude: [{defences: none}]}", "unknown key 'defences'; did you mean 'defense'?"),
        ("{exclude: [{defense: nun}]}", "matrix[0].exclude[0].defense: expected a name listed under defenses"),
        ("{exclude: {defense: none}}", 'matrix[0].exclude: expected a list, got {"defense": "none"}'),
    ],
)
def test_a_mistake_in_a_block_is_told_with_its_place(complaints, matrix, sentence):
    (told,) = complaints(more=f"matrix:\n  - {matrix}\n")
    assert sentence in told


def test_an_empty_matrix_is_refused(complaints):
    (told,) = complaints(more="matrix: []\n")
    assert told.endswith("matrix: expected a list of 1 or more, got []")


def test_attacks_need_threat_models(complaints, suite_text):
    start, end = suite_text.index("threat_models"), suite_text.index("evaluation")
    (told,) = complaints(suite_text[:start] + suite_text[end:])
    assert told.endswith("attacks: expected threat models for the attacks, got none; list them under threat_models")


def test_metrics_that_look_through_a_probe_need_one(complaints):
    (told,) = complaints(more="metrics: {names: [amv]}\n")
    assert told.endswith("metrics: expected the key 'probe', which amv look through, got none")


def test_the_probe_is_a_masked_autoencoder(complaints):
    (told,) = complaints(more="metrics: {names: [amv], probe: {recipe: cnn.yaml}}\n")
    assert told.endswith(
        "metrics.probe.recipe: expected a recipe of a masked autoencoder (net mae), got one of net cnn"
    )


# ---------------------------------------------------------------------- recipes and plug-ins


def test_a_recipe_is_found_among_the_shipped_ones(read, suite_text, folder, monkeypatch):
    monkeypatch.setattr(shipped, "recipes", lambda: {"dots-cnn": folder / "cnn.yaml"})
    by_path = read().cells[0].digest
    assert read(suite_text.replace("recipe: cnn.yaml", "recipe: dots-cnn")).cells[0].digest == by_path


def test_an_unknown_recipe_is_told_with_the_nearest(complaints, suite_text, folder, monkeypatch):
    monkeypatch.setattr(shipped, "recipes", lambda: {"dots-cnn": folder / "cnn.yaml"})
    (told,) = complaints(suite_text.replace("recipe: cnn.yaml", "recipe: dots-cn"))
    assert told.endswith(
        "classifiers[0].params.recipe: expected the name of a shipped recipe or a path ending in .yaml, "
        "got 'dots-cn'; did you mean 'dots-cnn'?"
    )


def test_a_recipe_that_was_trained_on_other_data_is_refused(complaints, suite_text):
    text = suite_text.replace("- name: dots", "- {name: dots, params: {n_test: 45}}")
    told = complaints(text)
    assert [one.split(": ")[1] for one in told] == ["classifiers[0].params.recipe", "defenses[1].params.net"]
    assert (
        "recipe 'small-cnn' was trained on dots (n_test 50), expected dataset 'dots', which is dots (n_test 45); "
        "name a recipe that trains on the same data, or tie or exclude so that the two do not meet"
    ) in told[0]


def test_a_plug_in_that_cannot_be_imported_is_told(complaints, components):
    entry = components["attack"]["push"]
    components["attack"]["push"] = type(entry)("attack", "push", "no_such_module_here:Push", "pushers 1.0")
    (told,) = complaints()
    assert (
        "attacks[0].name: expected attack 'push' at no_such_module_here:Push (from pushers 1.0), but importing" in told
    )


def test_an_option_may_not_take_a_name_of_the_identity(complaints, components, monkeypatch):
    import sys as system

    from pydantic import Field

    from harness.options import Options

    class Taken(Options):
        origin: int = Field(0, description="taken")

    monkeypatch.setattr(system.modules["purebench_stand_ins"].Push, "Options", Taken)
    (told,) = complaints()
    assert "expected attack 'push' to leave the option 'origin' to purebench, but it has it; ask the makers of" in told


def test_loading_imports_no_torch(folder):
    (folder / "digits.yaml").write_text(
        "name: c\ndataset: {use: digits}\nnet: {use: cnn}\nobjective: {use: classify}\nsteps: 1\n", encoding="utf-8"
    )
    (folder / "suite.yaml").write_text(
        "name: demo\ndatasets: [{name: digits}]\ndefenses: [{name: none}]\nattacks: [{name: pgd}]\n"
        "classifiers: [{name: cnn, use: recipe, params: {recipe: digits.yaml}}]\n"
        "threat_models: [{name: t, use: L2, params: {eps: 0.5, knowledge: full}}]\nevaluation: {n_examples: 10}\n",
        encoding="utf-8",
    )
    code = (
        "import sys\nfrom harness.suite import catalog, load, schema\n"
        f"load.load_suite({str(folder / 'suite.yaml')!r})\nschema.json_schema()\ncatalog.components('defense')\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_needs_no_file(folder, suite_text):
    assert read_suite(suite_text, "text", folder).source == "text"
