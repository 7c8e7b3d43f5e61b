"""Requests that the boot plane refuses: problem+json with a code, never HTTP 200, never a traceback (S38)."""

import json
from pathlib import Path
from typing import Any

import pytest
from played import Played, curl
from world import ACTOR, OTHER_IP

from provisioner.services import builds, machines
from provisioner.store.engine import write
from provisioner.store.models import Build, now


def refused(reply: Any, status: int, code: str) -> dict[str, Any]:
    """The reply is a problem+json of this status and code; returns it."""
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    body = reply.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]
    assert {"hint", "where", "title"} <= set(body)
    assert "Traceback" not in reply.text
    return dict(body)


@pytest.fixture(scope="module")
def booted(play: Any) -> tuple[Played, dict[str, str]]:
    """A machine with its tokens, for refusals that change nothing."""
    machine = play().arm()
    return machine, machine.tokens()


@pytest.mark.parametrize(
    "mac", ["52:54:00:12:34", "nonsense", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "%0a", "a" * 3000]
)
@pytest.mark.parametrize("loader", ["ipxe", "grub"])
def test_malformed_macs(served: Any, loader: str, mac: str) -> None:
    body = refused(served.http(f"/boot/{loader}/{mac}"), 400, "mac-malformed")
    assert "52:54:00:12:34:56" in body["hint"]


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/boot", "/boot/", "/build/x", "/build/x/answer/more", "/boot/ipxe/a/b"]
)
def test_unknown_routes(served: Any, path: str) -> None:
    refused(served.http(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/boot/ipxe"), ("DELETE", "/boot/ipxe"), ("PUT", "/build/x/answer"), ("POST", "/build/x/answer")],
)
def test_wrong_methods(served: Any, method: str, path: str) -> None:
    refused(served.http(path, method=method), 405, "method-not-allowed")


@pytest.mark.parametrize("route", ["event", "secret/root_password", "configured"])
def test_s24_no_get_reports_or_unwraps(served: Any, route: str) -> None:
    refused(served.http(f"/build/{'x' * 54}/{route}"), 405, "method-not-allowed")


def posted(machine: Played, token: str, body: bytes, kind: str, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """Post these bytes as an event."""
    file = tmp_path / "body"
    file.write_bytes(body)
    url = f"{machine.served.boot}/build/{token}/event"
    options = ["--interface", machine.ip, "-w", "\n%{http_code}", "-H", f"Content-Type: {kind}"]
    done = curl(*options, "--data-binary", f"@{file}", url)
    text, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(text)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/x-www-form-urlencoded", 400, "invalid-input"),
        (b"message=hello", "application/x-www-form-urlencoded", 400, "invalid-input"),
        (b"step=two+words", "application/x-www-form-urlencoded", 400, "invalid-input"),
        (b"step=" + b"x" * 65, "application/x-www-form-urlencoded", 400, "invalid-input"),
        (b'{"step": ', "application/json", 400, "bad-request"),
        (b'["step"]', "application/json", 400, "invalid-input"),
        (b"null", "application/json", 400, "invalid-input"),
        (b'{"message": "no step"}', "application/json", 400, "invalid-input"),
        (b"\xff\xfe\x00", "application/json", 400, "bad-request"),
        (b"[" * 100_000, "application/json", 400, "invalid-input"),
        (b"step=x&log=" + b"x" * 300_000, "application/x-www-form-urlencoded", 413, "request-entity-too-large"),
        (b'{"step": "x", "log": "' + b"x" * 300_000 + b'"}', "application/json", 413, "request-entity-too-large"),
    ],
    ids=[
        "empty",
        "no-step",
        "two-words",
        "long",
        "broken",
        "list",
        "null",
        "json-no-step",
        "bytes",
        "deep",
        "413",
        "413-json",
    ],
)
def test_s73_bad_events_change_nothing(
    booted: Any, tmp_path: Path, body: bytes, kind: str, status: int, code: str
) -> None:
    machine, tokens = booted
    before = builds.show(machine.site, machine.name)
    answer = posted(machine, tokens["event"], body, kind, tmp_path)
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert answer[1]["detail"]
    assert len(builds.show(machine.site, machine.name)["events"]) == len(before["events"])


def test_s73_a_log_of_64_kib_is_taken_percent_encoded(booted: Any, tmp_path: Path) -> None:
    machine, tokens = booted
    body = b"step=log&log=" + b"%0A" * 64 * 1024
    status, answer = posted(machine, tokens["event"], body, "application/x-www-form-urlencoded", tmp_path)
    assert (status, answer["state"]) == (200, "installing")


def token_refusals(machine: Played, tokens: dict[str, str], source: str | None = None) -> None:
    """These tokens open and report nothing."""
    http, source = machine.served.http, source or machine.ip
    unknown = http(f"/build/{'x' * 54}/answer", source=source)
    for name in ("answer", "handoff", "seed/user-data"):
        reply = http(f"/build/{tokens['answer']}/{name}", source=source)
        refused(reply, 404, "refused")
        assert reply.text == unknown.text
    form = {"nonce": "n"}
    secret = http(f"/build/{tokens['answer']}/secret/root_password", source=source, method="POST", form=form)
    refused(secret, 403, "token-refused")
    event = http(f"/build/{tokens['event']}/event", source=source, method="POST", form={"step": "packages"})
    refused(event, 403, "token-refused")
    reports = http(f"/build/{tokens['handoff']}/configured", source=source, method="POST", form={"status": "ok"})
    refused(reports, 403, "token-refused")


def test_s20_s24_made_up_tokens(booted: Any) -> None:
    machine, tokens = booted
    forged = {purpose: text[:-1] + ("A" if text[-1] != "A" else "B") for purpose, text in tokens.items()}
    token_refusals(machine, forged)
    token_refusals(machine, dict.fromkeys(tokens, "short"))


def test_s20_s24_tokens_of_another_purpose(booted: Any) -> None:
    machine, tokens = booted
    token_refusals(machine, {"answer": tokens["event"], "event": tokens["handoff"], "handoff": tokens["answer"]})


def test_s20_another_machines_token_from_here_opens_nothing(booted: Any, play: Any) -> None:
    machine, _ = booted
    other = play().arm()
    tokens = other.tokens()
    reply = machine.served.http(f"/build/{tokens['answer']}/answer", source=machine.ip)
    refused(reply, 404, "refused")
    assert machine.ip in other.served.cli_json("machine", "show", other.name)["flag"]


def test_s27_tokens_of_a_superseded_attempt_are_dead(play: Any) -> None:
    machine = play().arm()
    old = machine.tokens()
    machine.wait_a_minute()
    new = machine.tokens()
    assert new["answer"] != old["answer"]
    token_refusals(machine, old)
    assert machine.event(new["event"], "packages").status == 200


@pytest.mark.parametrize("how", ["rearmed", "removed", "cancelled"])
def test_s27_tokens_die_with_what_they_were_for(play: Any, how: str) -> None:
    machine = play().arm()
    tokens = machine.tokens()
    builds.cancel(machine.site, ACTOR, machine.name)
    if how == "rearmed":
        machine.arm()
    elif how == "removed":
        machines.remove(machine.site, ACTOR, machine.name)
    token_refusals(machine, tokens)


def test_r03_an_expired_answer_token_opens_nothing_but_built_is_taken(play: Any) -> None:
    machine = play().arm()
    tokens = machine.tokens()
    with write(machine.site.engine) as session:
        build = session.query(Build).filter_by(machine_name=machine.name).one()
        for attempt in build.attempts:
            attempt.opened_at = now().replace(year=now().year - 1)
    refused(machine.served.http(f"/build/{tokens['answer']}/answer", source=machine.ip), 404, "refused")
    assert machine.event(tokens["event"], "built").json()["state"] == "built"


def test_s23_a_second_unwrap_is_gone_flagged_and_stops_the_build(play: Any) -> None:
    machine = play()
    machines.set_secret(machine.site, ACTOR, machine.name, "root_password", "correct horse")
    tokens = machine.arm().tokens()
    path = f"/build/{tokens['answer']}/secret/root_password"

    def unwrap(nonce: str, source: str) -> Any:
        return machine.served.http(path, source=source, method="POST", form={"nonce": nonce})

    refused(unwrap("n1", OTHER_IP), 403, "token-refused")
    first = unwrap("n1", machine.ip)
    assert (first.status, first.text[:3]) == (200, "$6$")
    assert unwrap("n1", machine.ip).text == first.text
    refused(unwrap("n2", machine.ip), 410, "secret-gone")
    view = machine.served.cli_json("build", "show", machine.name)
    assert view["state"] == "failed"
    assert "possible interception" in view["flag"]


def test_s23_a_secret_that_the_build_does_not_have(booted: Any) -> None:
    machine, tokens = booted
    path = f"/build/{tokens['answer']}/secret/nothing"
    reply = machine.served.http(path, source=machine.ip, method="POST", form={"nonce": "n"})
    refused(reply, 404, "not-found")
    missing = machine.served.http(path, source=machine.ip, method="POST", form={})
    refused(missing, 403, "token-refused")


def test_s37_s54_hostile_text_is_stored_inert(booted: Any) -> None:
    machine, tokens = booted
    hostile = "\x1b[31mred\r\nSecond: line '; DROP TABLE event; --{{7*7}}<svg onload=alert(1)>"
    assert machine.event(tokens["event"], "note", message=hostile, log=hostile).status == 200
    shown = machine.served.cli("build", "log", machine.name).stdout
    assert "{{7*7}}<svg onload=alert(1)>" in shown
    assert "\x1b" not in shown
