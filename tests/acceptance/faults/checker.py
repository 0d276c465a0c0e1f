"""One look over the database and the world: was anything lost, done twice, or let past a limit?"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from agents.llm.errors import OUTAGE
from core import db
from domain.monitoring import service as monitoring
from tests.acceptance.faults.cluster import Cluster
from tests.acceptance.faults.letters import IN_TIME, Letters
from tests.acceptance.faults.listeners import Listeners
from tests.acceptance.faults.load import AGENT_LIMIT, LIMITS, MODEL_LIMIT, Load
from tests.acceptance.faults.tools import RAISED

# Written by triggers that only this suite's database has: every change of a status, whoever made it.
WITNESS = """
CREATE TABLE witness (task_id uuid, was task_status, is_now task_status, claim integer, at timestamptz DEFAULT now());
CREATE TABLE witness_steps (task_id uuid, seq integer, claim integer, is_now text);
GRANT INSERT, SELECT ON witness, witness_steps TO rota_app, rota_system;
CREATE FUNCTION note_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness (task_id, was, is_now, claim)
    VALUES (NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END, NEW.status, NEW.claim);
    RETURN NULL;
END $$;
CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness_steps (task_id, seq, claim, is_now) VALUES (NEW.task_id, NEW.seq, NEW.claim, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER witness_insert AFTER INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION note_status();
CREATE TRIGGER witness_update AFTER UPDATE OF status ON tasks FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION note_status();
CREATE TRIGGER witness_step AFTER UPDATE OF status ON steps FOR EACH ROW EXECUTE FUNCTION note_step();
"""

_LEGAL = {
    (None, "queued"),
    ("queued", "running"), ("queued", "cancelled"), ("queued", "expired"),
    ("running", "queued"), ("running", "succeeded"), ("running", "failed"), ("running", "cancelled"),
    ("running", "waiting"), ("waiting", "queued"), ("waiting", "cancelled"), ("waiting", "expired"),
}  # fmt: skip

_OVERLAPS = """
    WITH events AS (
        SELECT {group} AS who, a.started_at AS at, 1 AS change FROM attempts a JOIN tasks t ON t.id = a.task_id {only}
         UNION ALL
        SELECT {group}, a.ended_at, -1 FROM attempts a JOIN tasks t ON t.id = a.task_id {only}
    ), running AS (
        SELECT who, at, sum(change) OVER (PARTITION BY who ORDER BY at, change ROWS UNBOUNDED PRECEDING) AS number
          FROM events
    )
    SELECT DISTINCT ON (who) who::text, number, at FROM running ORDER BY who, number DESC
"""
_RUNNING_THEN = """
    SELECT a.task_id::text, a.claim, a.worker, a.outcome, a.started_at::text, a.ended_at::text
      FROM attempts a JOIN tasks t ON t.id = a.task_id
     WHERE ({group})::text = %s AND a.started_at <= %s AND a.ended_at > %s ORDER BY a.started_at
"""
_FASTEST_MINUTE = """
    SELECT max(started) FROM (
        SELECT count(*) OVER (ORDER BY started_at RANGE BETWEEN CURRENT ROW AND interval '59.999 seconds' FOLLOWING)
            AS started FROM attempts WHERE org_id = %s) AS counted
"""


_WALLETS_THAT_LIE = """
    SELECT w.org_id FROM wallets w,
           LATERAL (SELECT coalesce(sum(CASE WHEN e.target = 'available' THEN e.tokens
                                             WHEN e.source = 'available' THEN -e.tokens ELSE 0 END), 0) AS there
                      FROM wallet_entries e WHERE e.org_id = w.org_id) AS ledger,
           LATERAL (SELECT coalesce(sum(reserved), 0) AS held, coalesce(sum(spent), 0) AS spent
                      FROM holds h WHERE h.org_id = w.org_id) AS holds
     WHERE w.balance - holds.spent <> ledger.there OR w.held <> holds.held
"""


_MESSAGES = """
    SELECT q.text, count(a.id), min(a.status), min(a.text) FROM conversation_messages q
      LEFT JOIN conversation_messages a ON a.parent_id = q.id
     WHERE q.conversation_id = %s::uuid AND q.role = 'user' GROUP BY q.id ORDER BY q.position
"""
# Without a summary the latest 40 messages are read; half of them are the user's.
_LEAST_READ = 20


EVENTS = """
    SELECT xid::text || '-' || seq FROM events WHERE org_id = %s::uuid ORDER BY xid, seq
"""
_SAID = """
    SELECT seq, output -> 'message' ->> 'text' FROM steps
     WHERE task_id = %s::uuid AND stage = 'decide' AND status = 'done'
"""


class Checker:
    """Collects what is wrong, and what is worth telling."""

    def __init__(self, cluster: Cluster, load: Load, letters: Letters, listeners: Listeners) -> None:
        self.cluster = cluster
        self.load = load
        self.letters = letters
        self.listeners = listeners
        self.wrong: list[str] = []
        self.facts: dict[str, Any] = {}
        self.world = cluster.report()

    def check(self) -> None:
        """Everything."""
        self._ended_once()
        self._billed_once()
        self._paid_once()
        self._happened_once()
        self._changed_legally()
        self._outages_cost_nothing()
        self._in_doubt_only_with_reason()
        self._foreign_exceptions_counted()
        self._workers_accept()
        self._within_limits()
        self._queues_in_order()
        self._conversations_whole()
        self._messages_left_in_time()
        self._heard_once_and_in_order()
        self._words_were_whole()

    def _ended_once(self) -> None:
        sent = self.load.sent
        rows = self.cluster.query("SELECT id::text, status::text, error ->> 'kind', worker FROM tasks")
        found = {task: (status, kind) for task, status, kind, _ in rows}
        lost = [order for order, task in sent.tasks.items() if task not in found]
        self._expect(not lost, f"acknowledged and gone: {lost[:5]}")
        self._expect(len(found) == len(sent.tasks), f"{len(found)} tasks for {len(sent.tasks)} acknowledgements")
        endings: dict[str, int] = {}
        for order, task in sent.tasks.items():
            status, kind = found.get(task, ("lost", None))
            endings[status] = endings.get(status, 0) + 1
            allowed = {"failed"} if order in sent.poison else {"succeeded"}
            allowed |= {"cancelled"} if order in sent.cancelled else set()
            self._expect(status in allowed, f"{order} ({task}) ended as {status}: {kind}")
        self.facts["tasks"] = endings
        twice = self.cluster.query(
            "SELECT task_id FROM witness WHERE is_now IN ('succeeded', 'failed', 'cancelled', 'expired') "
            "GROUP BY task_id HAVING count(*) > 1"
        )
        self._expect(not twice, f"ended more than once: {twice[:5]}")
        self._expect(not [row for row in rows if row[3]], "a task has a worker and does not run")

    def _billed_once(self) -> None:
        (unbilled,) = self.cluster.query(
            "SELECT count(*) FROM steps s WHERE s.model IS NOT NULL "
            "AND NOT EXISTS (SELECT FROM usage u WHERE u.step_id = s.id)"
        )[0]
        (doubled,) = self.cluster.query(
            "SELECT count(*) FROM (SELECT FROM usage u JOIN steps s ON s.id = u.step_id WHERE s.status = 'done' "
            "GROUP BY u.task_id, u.seq HAVING count(*) > 1) AS twice"
        )[0]
        (strays,) = self.cluster.query(
            "SELECT count(*) FROM usage u WHERE NOT EXISTS (SELECT FROM steps s WHERE s.id = u.step_id)"
        )[0]
        (differing,) = self.cluster.query(
            "SELECT count(*) FROM tasks t WHERE t.billed_cost <> coalesce("
            "(SELECT sum(billed_cost) FROM usage u WHERE u.task_id = t.id), 0)"
        )[0]
        self._expect(unbilled == 0, f"{unbilled} model calls without a ledger row")
        self._expect(doubled == 0, f"{doubled} steps billed twice")
        self._expect(strays == 0, f"{strays} ledger rows without a step")
        self._expect(differing == 0, f"{differing} tasks whose cost is not the sum of their ledger rows")
        self.facts["ledger rows"] = self.cluster.query("SELECT count(*) FROM usage")[0][0]
        self.facts["model calls answered"] = self.world["answered"]
        self.facts["repeated"] = self.world["repeated"]
        share = self.world["repeated"] / max(1, self.world["answered"])
        self.facts["repeated share"] = share

    def _paid_once(self) -> None:
        """A token for every answer of a model that was recorded, and wallets that agree with the ledger."""
        (unpaid,) = self.cluster.query(
            "SELECT count(*) FROM steps s WHERE s.status = 'done' AND s.model IS NOT NULL "
            "AND (SELECT count(*) FROM wallet_entries e WHERE e.task_id = s.task_id AND e.seq = s.seq "
            "AND e.item = 'internal_llm_call') <> 1"
        )[0]
        self._expect(unpaid == 0, f"{unpaid} model calls were not paid for with one token each")
        off = self.cluster.query(_WALLETS_THAT_LIE)
        self._expect(not off, f"wallets that do not agree with their ledger: {off}")

    def _happened_once(self) -> None:
        said = self.load.sent.said
        for order, task in self.load.sent.tasks.items():
            if order in said:
                continue
            is_whole = order not in self.load.sent.cancelled and order not in self.load.sent.poison
            for kind in ("charges", "texts"):
                number = self.world[kind].get(order, 0)
                self._expect(number <= 1, f"{kind} of {order} ({task}) happened {number} times")
                self._expect(number == 1 or not is_whole, f"{kind} of {order} ({task}) never happened")
            shown = self.world["displays"].get(order, 0)
            self._expect(shown >= 1 or not is_whole, f"{order} ({task}) was never shown")

    def _changed_legally(self) -> None:
        seen = self.cluster.query("SELECT DISTINCT was::text, is_now::text FROM witness")
        illegal = set(seen) - _LEGAL
        self._expect(not illegal, f"illegal changes of status: {illegal}")
        claims = self.cluster.query("SELECT count(*) FROM witness WHERE is_now = 'running'")[0][0]
        attempts = self.cluster.query("SELECT count(*) FROM attempts")[0][0]
        self._expect(claims == attempts, f"{claims} claims and {attempts} attempts")
        open_attempts = self.cluster.query("SELECT count(*) FROM attempts WHERE ended_at IS NULL")[0][0]
        self._expect(open_attempts == 0, f"{open_attempts} attempts never ended")
        self.facts["attempts"] = dict(
            self.cluster.query("SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1")
        )

    def _outages_cost_nothing(self) -> None:
        """No attempt counts that ended because the provider was in trouble, and it was not hammered meanwhile."""
        counted = self.cluster.query(
            "SELECT task_id::text, claim, error ->> 'kind' FROM attempts WHERE counted AND error ->> 'kind' = ANY(%s)",
            sorted(OUTAGE),
        )
        self._expect(not counted, f"attempts counted that ended in an outage: {counted[:5]}")
        self.facts["calls while the provider was out"] = self.world["asked_while_out"]

    def _in_doubt_only_with_reason(self) -> None:
        """After a crash, or where the very tool raised in place of an answer."""
        rows = self.cluster.query(
            "SELECT DISTINCT w.task_id::text, w.seq, w.claim, a.outcome, a.error ->> 'message' FROM witness_steps w "
            "JOIN attempts a ON a.task_id = w.task_id AND a.claim = w.claim WHERE w.is_now = 'unknown'"
        )
        self.facts["outcomes in doubt"] = len(rows)
        unfounded = [row for row in rows if row[3] != "lost" and not _names_a_foreign_exception(row[4])]
        self._expect(not unfounded, f"in doubt without a reason: {unfounded[:5]}")

    def _foreign_exceptions_counted(self) -> None:
        """A try that ended so is a counted one, named after its tool."""
        rows = self.cluster.query(
            "SELECT task_id::text, counted, error ->> 'message' FROM attempts WHERE error IS NOT NULL"
        )
        ended_so = [row for row in rows if _names_a_foreign_exception(row[2])]
        uncounted = [row for row in ended_so if not row[1]]
        self._expect(not uncounted, f"tries that a tool ended and that do not count: {uncounted[:5]}")
        self.facts["exceptions raised by tools"] = self.world["raised"]
        self.facts["tries they ended"] = len(ended_so)

    def _workers_accept(self) -> None:
        with db.system_transaction() as connection:
            found = monitoring.workers_not_accepting(connection, timedelta(seconds=self.cluster.lease))
        self._expect(not found, f"workers that accept nothing: {found}")

    def _within_limits(self) -> None:
        limits = {str(org): LIMITS[slug]["max_in_flight"] for slug, org in self.load.organisations.items()}
        self._never_more("t.org_id", lambda org: limits[org])
        self._never_more("t.agent_id", lambda _: AGENT_LIMIT, "WHERE t.agent = 'teller'")
        most = self._never_more("a.model", lambda _: MODEL_LIMIT, "WHERE a.model = 'plan-b'")
        self.facts["most at once at plan-b"] = f"{most} of {MODEL_LIMIT}"
        for slug, org_id in self.load.organisations.items():
            rate, fastest = LIMITS[slug]["starts_per_minute"], self.cluster.query(_FASTEST_MINUTE, org_id)[0][0]
            self._expect(rate is None or fastest <= rate, f"{slug} started {fastest} tasks in a minute, not {rate}")

    def _never_more(self, group: str, limit_of: Callable[[str], int | None], only: str = "") -> int:
        """Expect that of no `group` more tasks than its limit ever ran at once; what ran is told otherwise. Returns the
        most that any had.
        """
        found = self.cluster.query(_OVERLAPS.format(group=group, only=only))
        for who, most, at in found:
            limit = limit_of(who)
            if limit is not None and most > limit:
                then = self.cluster.query(_RUNNING_THEN.format(group=group), who, at, at)
                self._expect(holds=False, otherwise=f"{who} had {most} tasks running at once, not {limit}: {then}")
        return max((most for _, most, _ in found), default=0)

    def _queues_in_order(self) -> None:
        self._never_more("t.concurrency_key", lambda _: 1, "WHERE t.concurrency_key IS NOT NULL")
        for key, expected in self.load.sent.queues.items():
            rows = self.cluster.query(
                "SELECT task_id::text FROM attempts a JOIN tasks t ON t.id = a.task_id WHERE t.concurrency_key = %s "
                "GROUP BY task_id ORDER BY min(a.started_at)", key,
            )  # fmt: skip
            ran = [row[0] for row in rows]
            self._expect(ran == [task for task in expected if task in set(ran)], f"{key} ran out of order")

    def _conversations_whole(self) -> None:
        """Each message is there in its order and was answered once, with the history before it: the model says which
        messages it read. It may have read the latest alone where it made no summary, as it does when it is down.
        """
        summed_up = read_all = 0
        for conversation, orders in self.load.sent.talks.items():
            rows = self.cluster.query(_MESSAGES, conversation)
            asked = [text.removeprefix("order ").partition(":")[0] for text, _, _, _ in rows]
            self._expect(asked == orders, f"{conversation} has the messages {asked}, sent were {orders}")
            for number, (_, answers, status, answer) in enumerate(rows, 1):
                self._expect((answers, status) == (1, "answered"), f"{conversation}: {answers} answers, {status}")
                read, before = (answer or "").split()[1:], asked[:number]
                is_whole = len(read) >= min(number, _LEAST_READ) and read == before[-len(read) :]
                self._expect(is_whole, f"{conversation}: answer {number} was made of {read}, before it were {before}")
                summed_up += number > _LEAST_READ
                read_all += number > _LEAST_READ and read == before
        self.facts["conversations"] = len(self.load.sent.talks)
        self.facts["messages answered"] = len(self.load.sent.said)
        self.facts["long ones read whole"] = f"{read_all} of {summed_up}"

    def _messages_left_in_time(self) -> None:
        """Of organisations whose receivers answer: all, and soon where dribbling receivers were the only trouble."""
        for letter in self.letters.sent:
            self._expect(letter.seconds is not None, f"never left: {letter}")
            is_late = letter.is_alone and letter.seconds is not None and letter.seconds > IN_TIME
            self._expect(not is_late, f"held up by other organisations' receivers: {letter}")
        self.facts["messages beside dribbling receivers"] = len(self.letters.sent)

    def _heard_once_and_in_order(self) -> None:
        """What each organisation's listener heard is what is in the table: nothing missing, twice, or out of order."""
        for slug, heard in self.listeners.organisations.items():
            first = heard.ids[0] if heard.ids else "0-0"
            told = [row[0] for row in self.cluster.query(EVENTS, str(self.load.organisations[slug]))]
            told = told[told.index(first) :] if first in told else told
            missing = set(told) - set(heard.ids)
            self._expect(heard.resets == 0, f"{slug} heard {heard.resets} resets")
            self._expect(len(set(heard.ids)) == len(heard.ids), f"{slug} heard events twice")
            self._expect(not missing, f"{slug} missed {len(missing)} of {len(told)} events: {sorted(missing)[:5]}")
            self._expect(bool(missing) or heard.ids == told, f"{slug} heard events out of order")
        everyone = [*self.listeners.organisations.values(), *self.listeners.tasks.values()]
        self.facts["events heard"] = sum(len(heard.ids) for heard in self.listeners.organisations.values())
        self.facts["streams cut"] = sum(heard.cuts for heard in everyone)

    def _words_were_whole(self) -> None:
        """What each task's listener put together is what is in the journal."""
        for task, heard in self.listeners.tasks.items():
            self._expect(heard.is_over, f"the stream of {task} did not end")
            self._expect(not heard.misplaced, f"{task}: words at the wrong place: {heard.misplaced[:3]}")
            said = {step: text for step, text in self.cluster.query(_SAID, task) if text}
            texts = {step: text for step, text in heard.texts.items() if text}
            self._expect(texts == said, f"{task}: heard {texts}, but said was {said}")
        self.facts["tasks listened to"] = len(self.listeners.tasks)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)


def _names_a_foreign_exception(message: str | None) -> bool:
    said = message or ""
    return said.startswith("The tool ") and any(f" failed: {kind}" in said for kind in RAISED)


def unsettled(cluster: Cluster) -> Iterator[tuple[str, int, str]]:
    """Tasks that wait for a person: the task, the step, the order."""
    for task, seq, given in cluster.query(
        "SELECT t.id::text, s.seq, s.input FROM tasks t JOIN steps s ON s.task_id = t.id AND s.status = 'unknown' "
        "WHERE t.status = 'waiting'"
    ):
        yield task, seq, given["order"]


def latest_events(cluster: Cluster, load: Load) -> dict[str, str]:
    """Return the position of each organisation's latest event."""
    found = {slug: cluster.query(EVENTS, str(org)) for slug, org in load.organisations.items()}
    return {slug: rows[-1][0] for slug, rows in found.items()}
