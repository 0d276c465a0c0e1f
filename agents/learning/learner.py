"""Choose by an organisation's recorded outcomes, and record the choice."""

from collections.abc import Sequence
from random import Random, SystemRandom
from uuid import UUID

from sqlalchemy import Connection

from agents.learning import thompson
from domain.learning import service as learning
from domain.learning.schemas import NewChoice


class Learner:
    """Thompson sampling over stored outcomes."""

    def __init__(self, chance: Random | None = None) -> None:
        self._chance = chance or SystemRandom()

    def choose(
        self, connection: Connection, org: UUID, *, policy: str, context: str, options: Sequence[str], subject: UUID
    ) -> tuple[str, UUID]:
        """Choose one of `options` for `subject`. Return it with the id under which its outcome is to be reported.

        Raises:
            ValueError: there is no option.
        """
        known = learning.known(connection, policy, context, options)
        posteriors = {name: thompson.Posterior(tally.successes, tally.failures) for name, tally in known.items()}
        choice = thompson.choose(posteriors, self._chance)
        made = NewChoice(
            policy=policy,
            context=context,
            option=choice.option,
            options={name: (tally.successes, tally.failures) for name, tally in known.items()},
            propensity=choice.propensity,
            is_exploration=choice.is_exploration,
            subject=subject,
        )
        return choice.option, learning.note(connection, org, made)
