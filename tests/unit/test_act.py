"""Which of several errors of one decision's calls decides what becomes of the task."""

from itertools import permutations

import pytest

from agents.act import _most_severe
from agents.interrupt import Stopped
from agents.tools.registry import ToolFailed
from domain.claims.service import ClaimLost
from domain.wallet.schemas import InsufficientFunds

LOST, STOP, FAILED, FUNDS = (
    ClaimLost(),
    Stopped("deadline"),
    ToolFailed("charge", "boom"),
    InsufficientFunds("no tokens"),
)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([FUNDS], FUNDS),
        ([FUNDS, FAILED], FAILED),
        ([FUNDS, FAILED, STOP], STOP),
        ([FUNDS, FAILED, STOP, LOST], LOST),
    ],
)
def test_the_most_severe_error_decides_whichever_call_fails_first(
    errors: list[BaseException], expected: BaseException
) -> None:
    for order in permutations(errors):
        assert _most_severe(list(order)) is expected
