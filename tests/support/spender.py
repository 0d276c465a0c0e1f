"""A process that spends an organisation's tokens, task after task, until it is killed: `python -m …spender ORG`."""

import sys
from uuid import UUID

from core import db
from core.ids import new_id
from domain.wallet import service as wallet


def spend_for_ever(org: UUID) -> None:
    """Three charges a task, each in a transaction of its own, then the release."""
    while True:
        task = new_id()
        for seq in range(1, 4):
            with db.transaction(org) as connection:
                wallet.ensure(connection, org, task, 3)
                wallet.spend_ensured(connection, task, seq, "email", 3)
        with db.transaction(org) as connection:
            wallet.release(connection, task)


if __name__ == "__main__":
    spend_for_ever(UUID(sys.argv[1]))
