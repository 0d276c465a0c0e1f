"""The recipe every task follows: perceive; decide and act in turns until there is an answer; learn.
In a long conversation its older part is summed up before the first decision.

Each step that costs or changes something is in the journal before anything else that does begins. A try that begins
anew therefore reads what is there and goes on. What costs nothing waits to be written with what comes next: the first
step with the first decision, a decision that leads to one look at our own records with that look, the last steps with
the task's end.
"""

from agents.accepted_action import carry_out_accepted
from agents.act import act
from agents.decide import decide
from agents.interrupt import Interrupt
from agents.journal import Journal
from agents.learn import Result, learn
from agents.perceive import perceive
from agents.recall import recall
from agents.sink import Sink
from agents.work import LimitReached, Work, Workplace
from domain.claims.schemas import Claimed


def run_pipeline(task: Claimed, journal: Journal, workplace: Workplace, interrupt: Interrupt, sink: Sink) -> Result:
    """Do the task, from wherever its journal stands. The caller ends the claim with `journal.end_claim`, which also
    writes the steps that are still deferred.

    Raises:
        ModelError: the model could not answer; its kind says whether to try again.
        CoolingDown: its provider limits us or is down; the task goes on when the model may be called.
        LimitReached: the agent went as far as it may.
        Stopped: cancelled, draining, past the deadline, or another worker has the task now.
        Parked: an action waits for a person.
        InsufficientFunds, BudgetExhausted: the task waits until it can be paid for.
        OutcomeUnknown: it was never recorded whether an action happened.
        ClaimLost: a write was refused because another worker has the task now.
    """
    work = Work(task, journal, workplace, interrupt, sink)
    perception, reading = perceive(work)
    if task.action is not None:
        return carry_out_accepted(work, perception, task.action)
    seq = recall(work, perception.model, reading)
    for _ in range(work.agent.limits.max_turns):
        decision = decide(work, perception, seq)
        seq = act(work, perception, decision)
        if decision.answers:
            return learn(work, decision, seq)
    raise LimitReached(f"The agent took its limit of {work.agent.limits.max_turns} decisions without an answer.")
