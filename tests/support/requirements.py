"""What a machine may lack, and what must not be skipped for want of it."""

import os

import pytest


def absent(what, reason):
    """Skip, or fail where LABELKIT_REQUIRE, names with commas between, says it must be there.

    ``.ci/run`` names all there are, so nothing is skipped there for want of something.
    """
    if what in os.environ.get("LABELKIT_REQUIRE", "").split(","):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
