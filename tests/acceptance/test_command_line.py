"""The command line in an ordinary terminal: 80 columns, long values, ids told by their beginning."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from core.ids import new_id
from core.settings import ROOT
from tests.support.files import CSV
from tests.support.installation import Installation
from tests.support.servers import wait_until

_LONG = "a-name-of-exactly-sixty-three-characters-which-is-the-most-ok-x"
_WORDS = (
    f"words about {new_id()} and {new_id()} that go on and on and on for longer than any line can be, and then some"
)
_NOT_A_LISTING = {"up", "submit", "cancel", "retry", "replay", "watch", "chat", "retention set"}
_PIECE_OF_AN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]*")
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it; a group that does something by itself is one as well."""
    inner = getattr(command, "commands", None)
    if inner is None or command.invoke_without_command:
        yield path, command
    for name, one in (inner or {}).items():
        yield from leaves(one, (*path, name))


def is_listing(command: Any) -> bool:
    """Whether a command shows something and needs to be told nothing."""
    return any("--json" in one.opts for one in command.params) and not any(one.required for one in command.params)


LISTINGS = sorted(
    path
    for path, command in leaves(typer.main.get_command(app))
    if path and is_listing(command) and not {path[0], " ".join(path)} & _NOT_A_LISTING
)


@pytest.fixture(scope="module")
def full(rota: Installation) -> Installation:
    """The installation, with something long in every list."""
    agent = rota.http.get("/v1/agents/support-assistant").json()
    fields = {name: value for name, value in agent.items() if name not in {"id", "created_at", "updated_at"}}
    name = _WORDS[:120]
    for method, path, body in (
        ("POST", "/v1/agents", fields | {"slug": _LONG, "name": name}),
        ("PUT", f"/v1/workflows/{_LONG}", {"name": name, "steps": [{"agent": _LONG, "message": "hello"}] * 3}),
        ("PUT", f"/v1/templates/{_LONG}", {"subject": _WORDS, "body": _WORDS}),
        ("PUT", "/v1/channels/sms", {"url": f"https://example.com/{'x' * 100}"}),
        ("POST", "/v1/webhooks", {"url": f"https://example.com/{'y' * 150}", "events": ["approval.*"] * 2}),
        ("PUT", f"/v1/prices/{'m' * 60}", {
            "provider": "openai", "input_per_million": "1.123456", "output_per_million": "2"}),
        ("POST", "/v1/users", {
            "email": f"{'u' * 60}@example.com", "name": name[:100], "grants": [{"role": "coordinator"}]}),
        ("POST", "/v1/keys", {"name": name[:60], "scopes": ["tasks:*", "clients:read", "leads:read", "agents:read"]}),
        ("PUT", f"/v1/budgets/{_LONG}", {"monthly_limit": "123456.78"}),
        ("POST", "/v1/pauses", {"kind": "agent", "name": _LONG, "reason": _WORDS}),
        ("PUT", f"/v1/schedules/{_LONG}", {
            "name": name, "times": {"kind": "cron", "cron": "1-7,9 8-10,12 1,15 * MON-FRI"},
            "task": {"agent": _LONG, "input": {"message": _WORDS}}}),
        ("POST", "/v1/inbox", {"contact": some_contact(rota), "channel": "email", "body": _WORDS}),
        ("PUT", "/v1/provider-limits/openai", {"model": "m" * 60, "max_in_flight": 1000}),
    ):  # fmt: skip
        answer = rota.http.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
    rota.ended(rota.submit(_WORDS))
    rota.director.expect(*["status=400"] * 3, match="(refused)")
    rota.ended(rota.submit(f"(refused) {_WORDS}"))
    rota.submit(_WORDS, agent=_LONG, concurrency_key=_LONG)
    return rota


def some_contact(rota: Installation) -> str:
    found: str = rota.http.get("/v1/contacts", params={"search": "torres", "limit": 1}).json()[0]["id"]
    return found


def narrow(rota: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a terminal of 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT, text=True, capture_output=True, timeout=240, check=False, env=surroundings(rota) | {"COLUMNS": "80"},
    )  # fmt: skip


def surroundings(rota: Installation) -> dict[str, str]:
    return rota.environment | {"ROTA_API_URL": rota.ready["api"], "ROTA_API_KEY": rota.ready["api_key"]}


@pytest.mark.parametrize("path", LISTINGS, ids=" ".join)
def test_every_list_fits_80_columns_with_its_ids_whole(full: Installation, path: tuple[str, ...]) -> None:
    done = narrow(full, *path)
    if path == ("env",):
        return  # a shell reads it
    assert done.stdout.strip(), done.stderr
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert [one for one in _PIECE_OF_AN_ID.findall(done.stdout) if not _WHOLE_ID.fullmatch(one)] == []
    rows = json.loads(narrow(full, *path, "--json").stdout)
    rows = rows if isinstance(rows, list) else next((value for value in rows.values() if isinstance(value, list)), [])
    for row in rows:
        name = _called(path, row)
        assert name is None or name in done.stdout


def _called(path: tuple[str, ...], row: Any) -> str | None:
    """What a row of a list goes by, where it goes by anything."""
    if not isinstance(row, dict) or path in {("notifications",), ("audit",), ("inbox",), ("wallet", "statement")}:
        return None
    by = {"users": "email", "templates": "name", "prices": "model"}.get(path[0], "slug" if "slug" in row else "id")
    return row.get(by)


def test_a_task_is_found_by_how_its_id_begins_and_the_latest_as_last(full: Installation) -> None:
    first, second = full.submit("hello (one)"), full.submit("hello (two)")
    for task_id in (first, second):
        full.ended(task_id)
    unlike = next(n for n in range(36) if first[n] != second[n]) + 1
    assert first in narrow(full, "show", first[:unlike]).stdout
    assert second in narrow(full, "show", "last").stdout
    several = narrow(full, "show", first[: unlike - 1])
    assert several.returncode == 1
    assert first in several.stderr
    assert second in several.stderr
    assert "Write more of it" in several.stderr
    assert "There is no task whose id (a UUID) begins with 'ffff'" in narrow(full, "retry", "ffff").stderr
    assert second in narrow(full, "cancel", "last").stderr + narrow(full, "replay", "last", "--json").stdout
    assert narrow(full, "audit", "--task", first).returncode == 0


def test_other_ids_are_found_by_how_they_begin(full: Installation) -> None:
    key = json.loads(narrow(full, "keys", "make", "short-lived", "--json").stdout)
    assert "revoked" in narrow(full, "keys", "revoke", "last").stdout
    assert full.http.get("/v1/me", headers={"authorization": f"Bearer {key['key']}"}).status_code in {200, 401}
    contact = some_contact(full)
    assert contact in narrow(full, "contacts", "show", contact[:13]).stdout
    assert "No contact has the address" in narrow(full, "contacts", "show", "nobody@example.com").stderr
    assert "There is no key 'zz'" in narrow(full, "keys", "revoke", "zz").stderr


@contextmanager
def running(rota: Installation, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `rota` command, running; it is ended with the test, whatever came of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings(rota),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_who_waits_hears_why_and_what_to_type_and_ctrl_c_leaves_the_task_going(rota: Installation) -> None:
    rota.run("pause", "agent", "follow-up")
    with running(rota, "submit", "hello", "--agent", "follow-up", "--wait") as process:
        assert process.stderr is not None
        heard = process.stderr.readline() + process.stderr.readline()
        task_id = rota.http.get("/v1/tasks", params={"agent": "follow-up", "limit": 1}).json()["tasks"][0]["id"]
        assert f"{task_id} waits: The agent follow-up is paused." in heard
        assert "→ rota resume agent follow-up" in heard
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"Stopped waiting. The task continues: {task_id}" in said
    assert f"rota cancel {task_id}" in said
    assert rota.task(task_id)["status"] == "queued"
    rota.run("resume", "agent", "follow-up")
    assert rota.ended(task_id)["status"] == "succeeded"


def test_a_file_of_messages_says_why_it_waits_and_goes_on_after_ctrl_c(rota: Installation, tmp_path: Any) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text('"hello"\n"hello again"\n')
    rota.run("pause", "agent", "follow-up")
    with running(rota, "submit", "--file", str(file), "--agent", "follow-up", "--wait") as process:
        assert process.stderr is not None
        assert "The agent follow-up is paused." in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "2 tasks continue; the first is" in said
    rota.run("resume", "agent", "follow-up")


def test_an_order_can_say_when_and_is_not_given_twice(rota: Installation) -> None:
    options = ("--agent", "support", "--run-after", "2d", "--deadline", "2100-01-01T00:00+00:00", "--json")
    made = json.loads(rota.run("submit", "hello", *options).stdout)
    assert made["status"] == "queued"
    assert made["run_after"] > made["created_at"]
    assert made["deadline"].startswith("2100-01-01T00:00:00")
    rota.run("cancel", made["id"])
    again = ("submit", "hello", "--agent", "support", "--idempotency-key", "order-1", "--expires", "2100-01-01T00:00Z")
    ids = {json.loads(rota.run(*again, "--json").stdout)["id"] for _ in range(2)}
    assert len(ids) == 1


def test_the_environment_is_printed_for_a_shell(rota: Installation) -> None:
    script = 'eval "$(' + f'{sys.executable} -m cli.main env)" && echo "$ROTA_API_URL $ROTA_API_KEY"'
    done = subprocess.run(
        ["sh", "-c", script], cwd=ROOT, text=True, capture_output=True, check=True, env=surroundings(rota)
    )
    assert done.stdout.split() == [rota.ready["api"], rota.ready["api_key"]]


def test_the_first_request_that_the_readme_shows_is_accepted(rota: Installation) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ (curl .*\\\n.*)$", readme, re.MULTILINE)
    assert shown
    script = f'eval "$({sys.executable} -m cli.main env)"\n{shown[1]}'
    done = subprocess.run(
        ["sh", "-c", script], cwd=ROOT, text=True, capture_output=True, env=surroundings(rota), check=True
    )
    assert json.loads(done.stdout)["agent"] == "support-assistant"


def test_agents_are_made_changed_and_taken_away(rota: Installation, tmp_path: Any) -> None:
    shown = rota.run("agents", "show", "support").stdout
    file = tmp_path / "agent.yaml"
    file.write_text(shown.replace("slug: support-assistant", "slug: ignored"))
    made = json.loads(
        rota.run("agents", "create", "night-desk", "--file", str(file), "--mode", "manual", "--json").stdout
    )
    day = rota.http.get("/v1/agents/support-assistant").json()
    assert (made["slug"], made["mode"], made["system_prompt"]) == ("night-desk", "manual", day["system_prompt"])
    assert "disabled" in rota.run("agents", "disable", "night").stdout
    rota.run("agents", "edit", "night", "--fallback", "none", "--max-in-flight", "3", "--prompt", "Be brief.")
    now = rota.http.get("/v1/agents/night-desk").json()
    assert (now["fallback_model"], now["max_in_flight"], now["enabled"]) == (None, 3, False)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/Be brief./Be kind./' \"$1\"\n")
    editor.chmod(0o755)
    subprocess.run(
        [sys.executable, "-m", "cli.main", "agents", "edit", "night"],
        cwd=ROOT, env=surroundings(rota) | {"EDITOR": str(editor)}, check=True, capture_output=True,
    )  # fmt: skip
    assert rota.http.get("/v1/agents/night-desk").json()["system_prompt"] == "Be kind."
    assert "enabled" in rota.run("agents", "enable", "night").stdout
    assert "deleted" in rota.run("agents", "delete", "night-desk", "--yes").stdout
    assert "There is no agent 'night-desk'" in rota.run("agents", "show", "night-desk", check=False).stderr


def test_what_only_the_api_could_do_has_commands(rota: Installation, tmp_path: Any) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: Welcome\nsteps:\n  - agent: support-assistant\n    message: Say hello to {{who}}\n")
    rota.run("workflows", "set", "welcome", "--file", str(flow))
    assert "rota workflows run welcome" in rota.run("workflows", "start", "welcome", "--set", "who=Ana").stdout
    assert "who=Ana" in rota.run("workflows", "runs", "welcome").stdout
    assert "Say hello to Ana" in rota.run("workflows", "run", "welcome", "last").stdout
    rota.run("workflows", "remove", "welcome")

    rota.run("prices", "set", "my-model", "--provider", "openai", "--input", "1", "--output", "2")
    assert "my-model" in rota.run("prices").stdout
    rota.run("prices", "remove", "my-model")

    rota.run("channels", "email", "--host", "mail.example.com", "--sender", "gym@example.com")
    assert "mail.example.com" in rota.run("channels").stdout
    rota.run("channels", "remove", "email")

    rota.run("templates", "set", "hello", "--subject", "Hi", "--body", "Hello {{client.name}}")
    assert "Hello {{client.name}}" in rota.run("templates", "show", "hello").stdout
    rota.run("templates", "remove", "hello")

    contact = some_contact(rota)
    rota.run("contacts", "change", contact, "--opt-out")
    assert "yes, since" in rota.run("contacts", "show", contact).stdout
    rota.run("contacts", "change", contact, "--opt-in", "--consent", "--time-zone", "Europe/Paris")
    assert "Europe/Paris" in rota.run("contacts", "show", contact).stdout
    rota.run("inbox", "add", "See you tomorrow", "--contact", contact, "--channel", "phone")
    assert "See you tomorrow" in rota.run("inbox", "--contact", contact).stdout

    assert "No schedule matches lead.created" in rota.run("events", "post", "lead.created").stdout
    assert "not valid JSON" in rota.run("events", "post", "lead.created", "--payload", "{", check=False).stderr


def test_status_and_logs_tell_how_it_stands(rota: Installation) -> None:
    wait_until(lambda: rota.run("status", check=False).returncode == 0, seconds=60, what="everything is at work")
    assert "alive" in rota.run("status").stdout
    assert rota.run("logs", "api", "--lines", "1", "--data", str(rota.data)).stdout.startswith("api  ")
    unknown = rota.run("logs", "nobody", "--data", str(rota.data), check=False).stderr
    assert "There is no process 'nobody'" in unknown
    assert "dispatcher" in unknown
    assert "There are no logs in" in rota.run("logs", "--data", "/nowhere", check=False).stderr


@pytest.mark.parametrize(
    "arguments", [("tasks", "--status", "expired"), ("messages", "--status", "unknown"), ("approvals", "-s", "expired")]
)
def test_an_empty_choice_is_not_called_an_empty_list(rota: Installation, arguments: tuple[str, ...]) -> None:
    said = rota.run(*arguments).stdout
    assert "match" in said
    assert f"rota {arguments[0]}" in said


def test_the_version_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "--version"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


def test_what_happens_is_watched_while_it_happens(rota: Installation) -> None:
    with running(rota, "watch", "--type", "task.*", "--type", "decision.*") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Waiting for events.")
        task_id = rota.submit("hello (watched)")
        seen: list[str] = []
        while not seen or "task.ended" not in seen[-1]:
            seen.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
    mine = [line.split() for line in seen if task_id[:18] in line]
    assert [line[1] for line in mine] == ["task.accepted", "task.started", "task.step", "decision.made", "task.step",
                                          "task.ended"]  # fmt: skip
    assert {line[2] for line in mine} == {"support-assistant"}
    followed = rota.run("show", task_id, "--follow").stdout
    assert "decision.made" in followed
    assert "answers" in followed.split("task.ended")[1]


def test_a_wrong_type_of_event_is_named(rota: Installation) -> None:
    done = rota.run("watch", "--type", "task.finished", check=False)
    assert done.returncode == 1
    assert "There is no kind of event called 'task.finished'" in done.stderr


def test_people_talk_with_an_agent_and_go_on_later(rota: Installation) -> None:
    def talk(words: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "chat", *arguments],
            cwd=ROOT, text=True, input=words, capture_output=True, timeout=60, check=False, env=rota.speaking,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Go on with: rota chat -c " in done.stderr
        return done.stdout

    first = talk("Who are you?\n/cost\n")
    assert first.startswith("Talking with support-assistant.")
    assert "2 messages, $" in first
    later = talk("/regenerate\n/down The hour is wrong.\n/cost\n/nonsense\n", "-c", "last")
    assert "> Who are you?" in later
    assert "3 messages, $" in later
    assert later.count("/regenerate  another answer") == 2
    assert "> /cost" in first
    assert "There is no /nonsense." in later
    (rated,) = json.loads(rota.run("feedback", "--rating", "down", "--json").stdout)
    assert rated["comment"] == "The hour is wrong."
    assert "down  The hour is wrong." in rota.run("show", rated["task_id"]).stdout
    assert "Rated up" in rota.run("rate", rated["task_id"][:18], "up").stderr
    assert "up" in rota.run("feedback", "--agent", "support").stdout
    begun = rota.http.get("/v1/conversations").json()["conversations"]
    assert talk("", "-c", begun[0]["id"][:18]).startswith("Talking with")
    refused = rota.run("chat", "-c", "nothing", check=False)
    assert (refused.returncode, "no conversation" in refused.stderr) == (1, True)
    subprocess.run(
        [sys.executable, "-m", "cli.main", "chat"], cwd=ROOT, input="", text=True, env=rota.speaking, check=True
    )
    assert rota.http.get("/v1/conversations").json()["conversations"] == begun  # who says nothing begins none


def test_who_talks_with_a_paused_agent_hears_why_it_is_silent(rota: Installation) -> None:
    rota.run("pause", "agent", "follow-up")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "chat", "--agent", "follow-up"],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=rota.speaking,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.close()
    said = ""
    while "waits: The agent follow-up is paused." not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    rota.run("resume", "agent", "follow-up")
    process.stdout.read()
    process.wait(30)
    process.stdout.close()
    process.stderr.close() if process.stderr else None


def test_files_are_attached_to_messages(rota: Installation, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_bytes(CSV)
    typed = f"What is this?\n/attach {prices}\n/attach {tmp_path}/none\nAnd this?\n"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "chat", "--attach", str(prices)],
        cwd=ROOT, text=True, input=typed, capture_output=True, timeout=60, check=False, env=rota.speaking,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("prices.csv, 27 bytes: goes with the next message") == 2
    assert "none cannot be read" in done.stdout
    latest = rota.http.get("/v1/conversations").json()["conversations"][0]["id"]
    told = rota.http.get(f"/v1/conversations/{latest}/messages").json()["messages"]
    assert [len(one["attachments"]) for one in told] == [1, 0, 1, 0]
    assert "cannot be read" in rota.run("chat", "--attach", str(tmp_path / "none"), check=False).stderr
