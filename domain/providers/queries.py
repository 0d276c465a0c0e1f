"""All SQL about organisations' own endpoints."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, text

from core.fragments import Fragment
from core.rows import fetch_all, fetch_optional
from domain.providers.schemas import Provider, StoredEndpoint, StoredSecret

_PROVIDERS = text("""
    SELECT name, 'organisation' AS source, url, models, secret IS NOT NULL AS has_key,
           CAST('{}' AS text[]) AS unpriced, changed_at
      FROM providers ORDER BY name
""")
SERVING = Fragment(
    name="serving",
    columns=("name", "url", "secret", "models"),
    parameters=(),
    sql="""
    SELECT v.name, v.url, v.secret, v.models FROM providers v
     WHERE v.org_id = {org} AND (
           {model} = ANY(v.models)
        OR (starts_with({model}, v.name || '/') AND substr({model}, length(v.name) + 2) = ANY(v.models)))
     ORDER BY {model} = ANY(v.models) DESC, v.name LIMIT 1
""",
)
"""A query for the endpoint of organisation `org` that serves `model`: found by the model's name alone, else by
`endpoint/model`. Its columns are the fields of `StoredEndpoint`.
"""


def providers(connection: Connection) -> list[Provider]:
    """Return the organisation's endpoints, without their keys and without what is unpriced."""
    return fetch_all(connection.execute(_PROVIDERS), Provider)


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


_SERVING = text(SERVING.fill(org="nullif(current_setting('app.org', true), '')::uuid", model="CAST(:model AS text)"))


def serving(connection: Connection, model: str) -> StoredEndpoint | None:
    """Return the organisation's endpoint that serves `model`."""
    return fetch_optional(connection.execute(_SERVING, {"model": model}), StoredEndpoint)


def is_known(connection: Connection, organisation: str, name: str) -> bool:
    """Return whether an organisation, given by its slug, has an endpoint `name`. Needs the system's database role."""
    statement = text(
        "SELECT FROM providers v JOIN organisations o ON o.id = v.org_id WHERE o.slug = :slug AND v.name = :name"
    )
    return connection.execute(statement, {"slug": organisation, "name": name}).first() is not None


def secrets(connection: Connection) -> list[StoredSecret]:
    """Lock and return every stored key."""
    statement = text("SELECT org_id, name, secret FROM providers WHERE secret IS NOT NULL FOR UPDATE")
    return fetch_all(connection.execute(statement), StoredSecret)


def set_secret(connection: Connection, changed: StoredSecret) -> None:
    """Replace the stored form of a key."""
    statement = text("UPDATE providers SET secret = :secret WHERE org_id = :org_id AND name = :name")
    connection.execute(statement, asdict(changed))
