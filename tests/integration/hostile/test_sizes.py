"""Suites of a size that nobody writes: each is refused by a sentence that names the limit and is short itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.suite.load import read_suite

SUITE = """
name: {name}
title: {title}
datasets: [{{name: digits, use: digits}}]
classifiers: [{{name: cnn, use: file, params: {{net: cnn-a, file: a.safetensors, sha256: {hash}}}}}]
defenses: [{defenses}]
attacks: [{attacks}]
threat_models: [{{name: t, use: Linf, params: {{eps: 0.1, knowledge: oblivious}}}}]
evaluation: {{n_examples: {n_examples}, repeats: {repeats}, shard_size: {shard_size}}}
{more}
"""
PARTS = {
    "name": "large",
    "title": "a title",
    "hash": "0" * 64,
    "defenses": "{name: none, use: none}",
    "attacks": "{name: pgd, use: pgd}",
    "n_examples": 8,
    "repeats": 1,
    "shard_size": 8,
    "more": "",
}


def told(**changed: object) -> list[str]:
    try:
        read_suite(SUITE.format(**{**PARTS, **changed}), "large.yaml", Path(__file__).parent)
    except UserError as error:
        return [str(problem) for problem in error.problems]
    return []


def many(number: int, use: str) -> str:
    return ", ".join(f"{{name: {use}-{one}, use: {use}}}" for one in range(number))


def bomb(levels: int) -> str:
    lines = ["more: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"more{one}: &l{one} [{', '.join([f'*l{one - 1}'] * 10)}]" for one in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "a long name": ({"name": "a" * 4_000}, "a text of 100 or fewer characters"),
    "a name beyond every length": ({"name": "a" * 50_000}, "at most 4096 characters, got 50000"),
    "a long title": ({"title": "t" * 5_000}, "at most 4096 characters, got 5000"),
    "a long use": ({"defenses": f"{{name: none, use: {'u' * 10_000}}}"}, "at most 4096 characters, got 10000"),
    "a megabyte in use": ({"defenses": f"{{name: none, use: {'u' * 10**6}}}"}, "at most 100000 characters"),
    "twenty thousand defenses": ({"defenses": many(20_000, "none")}, "at most 100000 characters"),
    "a cross of 1500 by 1500": ({"defenses": many(1500, "none"), "attacks": many(1500, "pgd")}, "at most 5000 cells"),
    "four hundred digits": ({"repeats": "9" * 400}, "between -2^63 and 2^63"),
    "sixteen digits": ({"repeats": "9" * 16}, "10000000"),
    "examples without end": ({"n_examples": 2**62}, "10000000"),
    "a shard without end": ({"shard_size": 2**62}, "10000000"),
    "a real number without end": ({"repeats": "1." + "0" * 5_000}, "at most 4096 characters"),
    "an alias bomb": ({"more": bomb(9)}, "at most 100000 values"),
    "nested without end": ({"more": "more: " + "[" * 40_000 + "]" * 40_000}, "ordinary depth"),
    "nothing is left": ({"more": "matrix: [{exclude: [{defense: none}]}]"}, "the matrix excludes every one"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_in_a_sentence(what: str) -> None:
    changed, said = HOSTILE[what]
    sentences = told(**changed)
    assert any(said in sentence for sentence in sentences), sentences
    assert max(map(len, sentences)) < 600, sentences


def test_what_is_large_and_ordinary_is_read() -> None:
    title, crossed = "t" * 4_000, {"defenses": many(60, "none"), "attacks": many(60, "pgd")}
    assert told(name="a" * 100, title=f"'{title}'", n_examples=500, repeats=100, **crossed) == told()
