"""The secrets that each of Rota's processes gets: only those it needs, so that a leak from one exposes no others."""

import json
from collections.abc import Mapping

from core.model_providers import KEY_VARIABLES

APP_DATABASE, SYSTEM_DATABASE, OWNER_DATABASE = "DATABASE_URL", "ROTA_SYSTEM_DATABASE_URL", "ROTA_OWNER_DATABASE_URL"
_DATABASES = {APP_DATABASE, SYSTEM_DATABASE}
_BROKER = {"REDIS_URL", "ROTA_BROKER_URL"}
_PROVIDER_KEYS = set(KEY_VARIABLES)
_ENDPOINTS = "ROTA_PROVIDERS"
_PROVIDERS = _PROVIDER_KEYS | {_ENDPOINTS, "ROTA_PROVIDER_HEADERS"}
_VAULT = {"ROTA_ENCRYPTION_KEYS"}
_KEYS = {"ROTA_SECRET_KEY"}
_BLOBS = {"ROTA_BLOBS_ACCESS_KEY", "ROTA_BLOBS_SECRET_KEY"}
_FLOWER = {"ROTA_FLOWER_AUTH"}

_KNOW_OF_KEYS = {"api", "dispatcher"}

WITHHELD = "withheld"
"""replaces a key in processes that must know that there is one, but not the key itself"""

SECRETS = _DATABASES | {OWNER_DATABASE} | _BROKER | _PROVIDERS | _VAULT | _KEYS | _BLOBS | _FLOWER

NEEDS: dict[str, set[str]] = {
    "migrate": {OWNER_DATABASE},
    "api": _DATABASES | {"REDIS_URL"} | _VAULT | _KEYS | _BLOBS,
    "dispatcher": {SYSTEM_DATABASE} | _BROKER,
    "worker": _DATABASES | _BROKER | _PROVIDERS | _VAULT | _BLOBS,
    "beat": _BROKER,
    "flower": _BROKER | _FLOWER,
    "rehearsal": set(),
}


def environment_for(process: str, whole: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: the installation's whole environment without the secrets it does not need.

    If only one login to the database is given, each process that uses the database gets it. If no keys for the vault
    are given, its key is derived from the secret key, so each process that opens the vault gets the secret key.
    """
    needed = set(NEEDS[process])
    if SYSTEM_DATABASE in needed and SYSTEM_DATABASE not in whole:
        needed.add(APP_DATABASE)
    if needed >= _VAULT and not whole.keys() >= _VAULT:
        needed |= _KEYS
    made = {name: value for name, value in whole.items() if name not in SECRETS or name in needed}
    if process in _KNOW_OF_KEYS:
        made |= {name: WITHHELD for name in _PROVIDER_KEYS if whole.get(name)}
        if whole.get(_ENDPOINTS):
            made[_ENDPOINTS] = _without_keys(whole[_ENDPOINTS])
    return made


def _without_keys(endpoints: str) -> str:
    """Return the endpoints as JSON with each key withheld. Text of another form is returned unchanged; the process then
    refuses it with a message that names the setting.
    """
    try:
        found = json.loads(endpoints)
        return json.dumps([one | ({"key": WITHHELD} if one.get("key") else {}) for one in found])
    except (ValueError, TypeError, AttributeError):
        return endpoints
