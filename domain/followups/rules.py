"""Operations on rules: the built-in ones, and those that an organisation changed or added."""

import functools
from dataclasses import dataclass
from uuid import UUID

import yaml
from sqlalchemy import Connection

from core.errors import NotFound
from core.packs import installed
from domain.agents import service as agents
from domain.followups import queries
from domain.followups.schemas import Rule, RuleFields, StoredRule
from domain.followups.triggers import kinds
from domain.learning import service as learning


@dataclass(frozen=True)
class Live:
    """A stored rule: its fields, checked against the installed packs, and its row."""

    fields: RuleFields
    is_on: bool
    row: StoredRule


@functools.cache
def built_in() -> dict[str, RuleFields]:
    """Return the rules of the installed packs, by slug."""
    files = [pack.follow_up_rules for pack in installed() if pack.follow_up_rules is not None]
    return {
        slug: RuleFields(**fields) for file in files for slug, fields in yaml.safe_load(file.read_text("utf-8")).items()
    }


def stored(connection: Connection) -> dict[str, Live]:
    """Return the rules that were switched on or changed, by slug, except those of a pack that is not installed."""
    known = {trigger.model_fields["kind"].default for trigger in kinds()}
    return {
        row.slug: Live(RuleFields.model_validate(row.fields), row.is_on, row)
        for row in queries.rules(connection)
        if row.fields["trigger"]["kind"] in known
    }


def list_rules(connection: Connection) -> list[Rule]:
    """Return every rule, in order of slug."""
    found = {slug: _as_it_comes(slug) for slug in built_in()} | {
        slug: _shown(live.row) for slug, live in stored(connection).items()
    }
    return [found[slug] for slug in sorted(found)]


def get_rule(connection: Connection, slug: str) -> Rule:
    """Return the rule called `slug`.

    Raises:
        NotFound: there is no such rule.
    """
    live = stored(connection).get(slug)
    if live is not None:
        return _shown(live.row)
    if slug not in built_in():
        known = ", ".join(rule.slug for rule in list_rules(connection))
        raise NotFound(f"There is no rule called {slug!r}. There are: {known}.")
    return _as_it_comes(slug)


def _shown(row: StoredRule) -> Rule:
    return Rule(
        **row.fields,
        slug=row.slug,
        is_on=row.is_on,
        on_since=row.on_since,
        is_built_in=row.slug in built_in(),
        changed_at=row.changed_at,
    )


def _as_it_comes(slug: str) -> Rule:
    fields = built_in()[slug].model_dump()
    return Rule(**fields, slug=slug, is_on=False, on_since=None, is_built_in=True, changed_at=None)


def put_rule(
    connection: Connection, org: UUID, slug: str, fields: RuleFields, user_id: UUID, scopes: list[str] | None
) -> Rule:
    """Add or change a rule. From now on its messages are written for `user_id` and within `scopes`. Does not switch the
    rule on or off; planned follow-ups move to the new delays.

    Raises:
        NotFound: there is no such agent.
    """
    agents.get_agent(connection, fields.agent)
    queries.one_at_a_time(connection, org)  # wait for a sweep that plans by the old rule
    row = {"org": org, "slug": slug, "fields": fields.model_dump(mode="json"), "user": user_id, "scopes": scopes}
    queries.put_rule(connection, row)
    queries.move_planned(connection, slug, [step.after for step in fields.steps])
    return get_rule(connection, slug)


def switch_rule(
    connection: Connection, org: UUID, slug: str, user_id: UUID, scopes: list[str] | None, *, is_on: bool
) -> Rule:
    """Switch a rule on or off. Switched on, it applies to what begins from now on, for `user_id` and within `scopes`;
    earlier events are ignored. Switched off, its planned follow-ups are stopped.

    Raises:
        NotFound: there is no such rule, or no such agent.
    """
    rule = get_rule(connection, slug)
    if queries.rule(connection, slug) is None:
        fields = RuleFields(**rule.model_dump(include=set(RuleFields.model_fields)))
        put_rule(connection, org, slug, fields, user_id, scopes)
    queries.one_at_a_time(connection, org)
    queries.switch(connection, {"slug": slug, "is_on": is_on, "user": user_id, "scopes": scopes})
    if not is_on:
        _stop_planned(connection, slug, "the rule was switched off")
    return get_rule(connection, slug)


def _stop_planned(connection: Connection, slug: str, reason: str) -> None:
    learning.settle(connection, dict.fromkeys(queries.stop_planned(connection, slug, reason), "void"))


def remove_rule(connection: Connection, org: UUID, slug: str) -> None:
    """Delete a rule; a built-in rule is reset to its default, switched off. Its planned follow-ups are stopped.

    Raises:
        NotFound: there is no such rule of the organisation's own.
    """
    queries.one_at_a_time(connection, org)
    if not queries.delete_rule(connection, slug):
        raise NotFound(f"No rule called {slug!r} was set up here.")
    _stop_planned(connection, slug, "the rule was taken away")
