"""Every error of ours survives the way between processes, with its words."""

from __future__ import annotations

import pickle

import pytest

from floodmark.core.errors import FloodmarkError, HarnessBugError, SystemUnderTestError, UsageError


@pytest.mark.parametrize(("kind", "code"), [(UsageError, 2), (SystemUnderTestError, 11), (HarnessBugError, 70), (FloodmarkError, 70)])
def test_error_pickled_keeps_kind_words_and_exit_code(kind: type[FloodmarkError], code: int) -> None:
    copy = pickle.loads(pickle.dumps(kind("what was wrong")))

    assert type(copy) is kind
    assert str(copy) == "what was wrong"
    assert copy.exit_code == code
