"""Logs keep secrets to themselves."""

from core.logging import mask_secrets


def test_keys_and_passwords_do_not_reach_the_logs() -> None:
    key = f"rota_{'a' * 32}_{'b' * 64}"
    event = {"event": f"sent {key} and whsec_{'A' * 40}", "password": "hunter2", "status": 3, "path": "/v1/tasks"}
    masked = mask_secrets(None, "info", event)
    assert masked == {"event": "sent *** and ***", "password": "***", "status": 3, "path": "/v1/tasks"}
