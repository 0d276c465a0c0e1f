"""All SQL about organisations' own endpoints."""

from typing import Any

from sqlalchemy import Connection, RowMapping, text

_PROVIDER = "name, url, models, secret IS NOT NULL AS has_key, changed_at"

# An organisation's endpoint that serves a model, found by the model's name alone, else by `endpoint/model`.
SERVING = """
    SELECT v.name, v.url, v.secret, v.models FROM providers v
     WHERE v.org_id = {org} AND (
           {model} = ANY(v.models)
        OR (starts_with({model}, v.name || '/') AND substr({model}, length(v.name) + 2) = ANY(v.models)))
     ORDER BY {model} = ANY(v.models) DESC, v.name LIMIT 1
"""


def providers(connection: Connection) -> list[RowMapping]:
    """Return the organisation's endpoints, without their keys."""
    return list(connection.execute(text(f"SELECT {_PROVIDER} FROM providers ORDER BY name")).mappings())  # noqa: S608


def put_provider(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change an endpoint. With `keep_secret`, keep the old key."""
    statement = text("""
        INSERT INTO providers (org_id, name, url, secret, models) VALUES (:org, :name, :url, :secret, :models)
        ON CONFLICT (org_id, name) DO UPDATE
           SET url = excluded.url, models = excluded.models, changed_at = rota_now(),
               secret = CASE WHEN CAST(:keep_secret AS boolean) THEN providers.secret ELSE excluded.secret END
    """)
    connection.execute(statement, row)


def delete_provider(connection: Connection, name: str) -> bool:
    """Delete an endpoint. Return False when there was none."""
    return connection.execute(text("DELETE FROM providers WHERE name = :name"), {"name": name}).rowcount == 1


_SERVING = text(SERVING.format(org="nullif(current_setting('app.org', true), '')::uuid", model="CAST(:model AS text)"))


def serving(connection: Connection, model: str) -> RowMapping | None:
    """Return the organisation's endpoint that serves `model`."""
    return connection.execute(_SERVING, {"model": model}).mappings().one_or_none()


def is_known(connection: Connection, organisation: str, name: str) -> bool:
    """Return whether an organisation, given by its slug, has an endpoint `name`. Needs the system's database role."""
    statement = text(
        "SELECT FROM providers v JOIN organisations o ON o.id = v.org_id WHERE o.slug = :slug AND v.name = :name"
    )
    return connection.execute(statement, {"slug": organisation, "name": name}).first() is not None


def secrets(connection: Connection) -> list[RowMapping]:
    """Lock and return every stored key."""
    statement = text("SELECT org_id, name, secret FROM providers WHERE secret IS NOT NULL FOR UPDATE")
    return list(connection.execute(statement).mappings())


def set_secret(connection: Connection, row: dict[str, Any]) -> None:
    """Replace the stored form of a key."""
    connection.execute(text("UPDATE providers SET secret = :secret WHERE org_id = :org_id AND name = :name"), row)
