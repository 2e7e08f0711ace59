"""The digits are scikit-learn's, read without it."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.data import digits
from harness.data.digits import TOTAL, Digits


def test_every_image_is_as_scikit_learn_gives_it():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    parts = [Digits(Digits.Options(n_test=300)).load(part) for part in ("test", "train")]
    assert [len(part.labels) for part in parts] == [300, TOTAL - 300]
    ids = np.concatenate([part.ids for part in parts])
    assert sorted(ids) == list(range(TOTAL))
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), labels[ids])
    pixels = np.concatenate([part.images for part in parts]).reshape(TOTAL, 64)
    np.testing.assert_array_equal(pixels * 16, images[ids])


def test_the_package_is_not_imported_for_them():
    code = "import sys; from harness.data.digits import Digits; Digits(Digits.Options()).load('test')"
    subprocess.run([sys.executable, "-P", "-c", f"{code}; sys.exit('sklearn' in sys.modules)"], check=True)


@pytest.mark.parametrize("there", [None, ModuleSpec("sklearn", None), "elsewhere"])
def test_where_they_are_not_the_sentence_says_what_to_do(tmp_path, monkeypatch, there):
    if there == "elsewhere":
        there = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(digits, "find_spec", lambda name: there)
    with pytest.raises(UserError, match="scikit-learn") as caught:
        Digits(Digits.Options()).load("test")
    assert "install" in str(caught.value)
