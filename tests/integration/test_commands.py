"""Commands of `rota` against the real API: empty lists, records and their ends; and an API that answers badly."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from api.app import make_app
from cli.client import Api, match_agent
from cli.main import app
from core.ids import new_id
from core.settings import Settings
from tests.support.factories import make_key, make_organisation, make_row, owner_of, submit
from tests.support.servers import SECRET_KEY, serving
from tests.support.tools import use

Rota = Callable[..., Result]


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def rota(address: str, org: UUID) -> Rota:
    """Runs a command with a key of the test's organisation."""
    return runner(address, org)


@pytest.fixture(scope="module")
def empty(address: str) -> Rota:
    """Runs a command in an organisation that has nothing but the ready-made agents."""
    return runner(address, make_organisation(f"empty-{new_id().hex[-8:]}"))


def runner(address: str, org: UUID) -> Rota:
    environment = {"ROTA_API_URL": address, "ROTA_API_KEY": make_key(org, SECRET_KEY)}

    def run(*arguments: str, fails: bool = False, answers: str | None = None) -> Result:
        done = CliRunner().invoke(app, arguments, env=environment, input=answers)
        assert (done.exit_code != 0) is fails, done.output
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("tasks", 'No tasks yet. Submit one: rota submit "…" --agent support'),
        ("failures", "No failed tasks."),
        ("approvals", "No open approvals."),
        ("notifications", "No unread notifications."),
        ("messages", "The outbox is empty."),
        ("contacts", "No contacts yet."),
        ("contacts --search nobody", "No contact matches. List all: rota contacts"),
        ("inbox", "No messages received yet."),
        ("channels", "No channels. Set one up: rota channels email"),
        ("templates", "No templates. Add one: rota templates set"),
        ("workflows", "No workflows. Add one: rota workflows set"),
        ("schedules list", "No schedules. Add one: rota schedules add"),
        ("followups list", "No follow-ups. Switch a rule on: rota followups on quotes"),
        ("followups report", "No follow-ups in that period."),
        ("budgets", "No budget is set: rota budgets set 50"),
        ("tickets", "No tickets yet."),
        ("tickets --status open", "No tickets are open."),
        ("staff-tasks", "No staff tasks yet."),
        ("payments --status pending", "No payments are pending."),
        ("bookings", "No bookings yet."),
        ("trials", "No trials yet."),
        ("exports", "No exports yet."),
        ("resources", "No resources yet."),
        ("keys publishable", "No publishable keys. Make one: rota keys publishable make site --agent support"),
    ],
)
def test_an_empty_list_says_so_and_how_to_fill_it(empty: Rota, arguments: str, said: str) -> None:
    shown = " ".join(empty(*arguments.split()).stdout.split())
    assert shown.startswith(said)
    rows = json.loads(empty(*arguments.split(), "--json").stdout)
    assert rows == [] or not any(value for value in rows.values() if isinstance(value, list))


def test_a_publishable_key_is_made_listed_and_revoked(rota: Rota) -> None:
    key = rota("keys", "publishable", "make", "site", "-a", "support", "--origin", "https://x.example").stdout
    assert key.startswith("rotapub_")
    (listed,) = json.loads(rota("keys", "publishable", "--json").stdout)
    assert (listed["key"], listed["origins"]) == (key.strip(), ["https://x.example"])
    assert listed["id"] in rota("keys", "publishable").stdout.replace("\n", "")
    assert "revoked" in rota("keys", "publishable", "revoke", "last").stdout
    assert "revoked" in rota("keys", "publishable").stdout
    assert "make_publishable_key" in rota("audit").stdout


def test_a_ticket_is_listed_shown_and_moved(rota: Rota, org: UUID) -> None:
    made = use(org, "create_support_ticket", subject="[red]Broken[/] rower", body="It squeaks\x1b[31m")
    ticket = str(made["ticket_id"])
    listed = rota("tickets").stdout
    assert ticket in listed
    assert "[red]Broken[/] rower" in listed
    assert "It squeaks[31m" in rota("tickets", "show", ticket).stdout
    moved = json.loads(rota("tickets", "move", ticket, "in_progress", "--assignee", "Marta", "--json").stdout)
    assert (moved["status"], moved["assignee"], moved["note"]) == ("in_progress", "Marta", "")
    again = json.loads(rota("tickets", "move", ticket, "--note", "ordered", "--json").stdout)
    assert (again["status"], again["assignee"], again["note"]) == ("in_progress", "Marta", "ordered")
    assert "status" in rota("tickets", "move", ticket, "lost", fails=True).stderr


def test_a_payment_is_settled_once(rota: Rota, org: UUID) -> None:
    client = make_row(org, "clients")
    payment = str(use(org, "charge_client", client_id=str(client), amount=5, kind="shop")["payment_id"])
    settled = json.loads(rota("payments", "settle", payment, "paid", "--reference", "ch_1", "--json").stdout)
    assert (settled["status"], settled["reference"]) == ("paid", "ch_1")
    assert rota("payments", "settle", payment, "failed", fails=True).stderr.startswith("rota: ")
    assert "No payments are pending." in rota("payments", "--status", "pending").stdout


def test_an_export_is_written_byte_for_byte_and_deleted(rota: Rota, org: UUID, tmp_path: Any) -> None:
    make_row(org, "clients", name='Ñandú, "the" bird')
    export = str(use(org, "export_data", what="clients")["export_id"])
    file = tmp_path / "clients.csv"
    rota("exports", "get", export, "--output", str(file))
    assert file.read_bytes().count(b"\r\n") == 2
    assert '"Ñandú, ""the"" bird"'.encode() in file.read_bytes()
    rota("exports", "remove", export)
    assert export not in rota("exports").stdout
    rota("exports", "get", export, fails=True)


def test_a_contact_is_found_by_address_whatever_its_case_and_two_with_one_address_are_named(
    rota: Rota, org: UUID
) -> None:
    ana = str(make_row(org, "clients", email="Ana@example.com"))
    assert ana in rota("contacts", "show", "ana@EXAMPLE.com").stdout
    lead = str(make_row(org, "leads", email="ana@example.com"))
    told = rota("contacts", "show", "ana@example.com", fails=True).stderr
    assert "2 contacts have the address" in told
    assert ana in told
    assert lead in told
    assert "No contact has the address" in rota("contacts", "show", "zoe@example.com", fails=True).stderr
    assert "Nothing to change" in rota("contacts", "change", ana, fails=True).stderr


def test_the_last_task_is_replayed_with_another_message_and_the_rest_of_its_input(rota: Rota, org: UUID) -> None:
    old = submit(org, "first", user=owner_of(org))
    rota("cancel", str(old.id))
    for said in ("last", str(old.id)):
        made = json.loads(rota("replay", said, "--message", "second", "--json").stdout)
        assert made["input"]["message"] == "second"
        assert made["id"] != str(old.id)
    assert "--message needs a task id" in rota("replay", "--message", "x", "--status", "failed", fails=True).stderr


def test_many_tasks_are_changed_only_after_a_yes(rota: Rota, org: UUID) -> None:
    for _ in range(3):
        submit(org, "hello")
    assert "Give a task id or a filter" in rota("cancel", fails=True).stderr
    rota("cancel", "--status", "queued", answers="n\n", fails=True)
    assert {task["status"] for task in json.loads(rota("tasks", "--json").stdout)["tasks"]} == {"queued"}
    assert "3 of 3 tasks cancelled or stopping." in rota("cancel", "--status", "queued", answers="y\n").stdout
    assert "No task to cancel matches." in rota("cancel", "--status", "queued").stdout
    summary = json.loads(rota("retry", "--status", "cancelled", "--yes", "--json").stdout)
    assert summary == {"matching": 3, "changed": 3}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("", "contains no messages"),
        ('"hello"\n[1]', "line 2: expected"),
        ('"hello"\n\n{"message": " "}', "line 3: the message is blank"),
        ('{"message": "hi", "priority": "soon"}', "line 1: the priority must be one of"),
        ('{"message": "hi", "agent": "nobody"}', "There is no agent 'nobody'"),
    ],
)
def test_a_file_with_a_fault_submits_nothing_and_names_the_line(
    rota: Rota, tmp_path: Any, file: str, said: str
) -> None:
    messages = tmp_path / "messages.jsonl"
    messages.write_text(file)
    told = rota("submit", "--file", str(messages), "--agent", "support", fails=True)
    assert said in told.stderr
    assert json.loads(rota("tasks", "--json").stdout)["tasks"] == []


def test_an_agent_is_named_by_a_beginning_that_fits_one(rota: Rota, address: str, org: UUID) -> None:
    api = Api(address, make_key(org, SECRET_KEY))
    assert match_agent(api, "sup") == "support-assistant"
    assert (
        "matches several agents: financial-analyst, follow-up"
        in rota("submit", "hi", "--agent", "f", fails=True).stderr
    )


# ── an API that does not answer well ─────────────────────────────────────────────────────────────────────────────────


class Odd:
    """Answers in turn with the given responses, then with {}; keeps the methods of the requests."""

    def __init__(self, *answers: Response) -> None:
        self.answers, self.methods = list(answers), list[str]()

    async def answer(self, request: Request) -> Response:
        self.methods.append(request.method)
        return self.answers.pop(0) if self.answers else Response("{}", media_type="application/json")


@pytest.fixture
def odd() -> Iterator[tuple[Odd, Api]]:
    server = Odd()
    route = Route("/{path:path}", server.answer, methods=["GET", "POST", "DELETE"])
    with serving(Starlette(routes=[route]), lifespan="off") as url:
        yield server, Api(url, "key")


def test_a_busy_api_is_asked_again(odd: tuple[Odd, Api]) -> None:
    server, api = odd
    server.answers = [Response(status_code=503)]
    assert api.get("/v1/tasks") == {}
    assert server.methods == ["GET", "GET"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (PlainTextResponse("<html>"), "is not JSON, so it is not Rota's API"),
        (Response('{"detail": "There is no task."}', 404), "rota: There is no task."),
        (Response("[]", 404), "HTTP status 404"),
        (Response("oops", 500), "HTTP status 500"),
    ],
)
def test_an_answer_that_is_an_error_or_not_ours_ends_with_one_message(
    odd: tuple[Odd, Api], answer: Response, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server, api = odd
    server.answers = [answer]
    with pytest.raises(typer.Exit):
        api.post("/v1/tasks", {})
    assert said in capsys.readouterr().err
    assert server.methods == ["POST"]


def test_details_that_a_command_can_do_without_are_none_if_refused(odd: tuple[Odd, Api]) -> None:
    server, api = odd
    server.answers = [Response(status_code=403), PlainTextResponse("x"), Response(status_code=204)]
    assert api.look("/v1/pauses") is None
    assert api.look("/v1/pauses") is None
    assert api.post("/v1/check") is None


@pytest.fixture
def hangs_up() -> Iterator[tuple[list[str], str]]:
    """A server that reads a request and closes the connection; the methods it was asked with, and its URL."""
    methods: list[str] = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            methods.append(self.request.recv(65_536).split(b" ")[0].decode())

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield methods, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_request_that_may_have_been_carried_out_is_not_sent_again(
    hangs_up: tuple[list[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    methods, url = hangs_up
    api = Api(url, "key")
    with pytest.raises(typer.Exit):
        api.post("/v1/tasks", {})
    assert f"{url} does not answer" in capsys.readouterr().err
    assert methods == ["POST"]
    assert api.look("/v1/pauses") is None


@pytest.mark.parametrize("given", ["ROTA_API_URL", "ROTA_API_KEY"])
def test_a_key_is_never_sent_to_an_api_it_was_not_given_with(given: str) -> None:
    missing = {"ROTA_API_URL": "ROTA_API_KEY", "ROTA_API_KEY": "ROTA_API_URL"}[given]
    done = CliRunner().invoke(app, ["tasks"], env={given: "http://127.0.0.1:9", missing: None})
    assert done.exit_code == 1
    assert "Set both ROTA_API_URL and ROTA_API_KEY, or neither" in done.stderr
