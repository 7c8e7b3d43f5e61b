"""Handoff by AWX or Automation Platform: ``{tool: awx, server: https://awx.example.com, template: 7, ...}``.

The machine posts a provisioning callback; AWX runs the job template against it. With an API token the worker follows
that job and its result counts; without one AWX reports through our own API (a notification or a last task).
"""

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioner.errors import HandoffRefused, HandoffUnreachable, InvalidInput, ProvisionerError
from provisioner.handoff import ansible
from provisioner.handoff.https import Reply, Trust, ask
from provisioner.handoff.protocol import (
    DEFAULT_TIMEOUT,
    Credentials,
    Finding,
    Host,
    Identity,
    Prepared,
    Reached,
    Settings,
    Subject,
    Tool,
    credential,
    known,
    text,
)

CALLBACK = "awx-callback"
CA = "awx-ca"
ROUND = "provisioner_round"
"""The variable that tells this callback's job from all others, where the template takes variables on launch."""
_SERVER = r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?"
_TOKEN = re.compile(r"[\x21-\x7e]{8,4096}")
_POLL_SECONDS = 3.0
_SKEW = timedelta(minutes=5)
_OVER = {"successful": 0, "failed": 1, "error": 1, "canceled": 1}
_MOST_PAGES = 50


class Awx(Tool):
    """Has AWX or Automation Platform configure the machine."""

    name = "awx"
    pushes = True

    def check(self, settings: Settings) -> None:
        """``server``, ``template``, ``host_config_key``, ``token``, ``ca``, ``host``, ``role``, ``variables``.

        Raises InvalidInput.
        """
        names = ("server", "template", "host_config_key", "token", "ca", "host", "role", "variables")
        known(self.name, settings, *names)
        text(self.name, settings, "server", _SERVER, "its https URL; for Automation Platform with /api/controller/v2")
        template = settings.get("template")
        if isinstance(template, bool) or not isinstance(template, int) or template < 1:
            hint = "the number of the job template, which its page's address shows"
            raise InvalidInput(f"{template!r} is no job template", where="handoff.template", hint=hint)
        credential(self.name, settings, "host_config_key", "the key of the template's provisioning callbacks")
        credential(self.name, settings, "token", "a token of AWX's API that may read the template's jobs", default="")
        credential(self.name, settings, "ca", "the CA certificates of the server", default="")
        text(self.name, settings, "host", r"[A-Za-z0-9_.-]{1,253}", "its name in AWX's inventory", default="")
        text(self.name, settings, "role", r"[A-Za-z0-9_.:-]{1,64}", "one word", default="")
        ansible.check_variables(self.name, settings)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """All settings; the identity is the host's name in AWX's inventory, the machine's unless set."""
        about = {"fqdn": subject.fqdn, "profile": subject.profile, "role": settings.get("role", "")}
        names = (CALLBACK, CA) if settings.get("ca") else (CALLBACK,)
        told = {"timeout": DEFAULT_TIMEOUT} | dict(settings) | {"about": about}
        return Prepared(told, settings.get("host") or subject.name, names)

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:
        """What the machine posts, with the key in it, and a word that only this round's job has.

        Raises CredentialMissing.
        """
        told, mark = prepared.settings, secrets.token_urlsafe(12)
        mine = ansible.variables(told, name=subject.name, build=subject.build) | {ROUND: mark}
        key = host.text(told["host_config_key"])
        posted = {CALLBACK: json.dumps({"host_config_key": key, "extra_vars": mine})}
        if told.get("ca"):
            posted[CA] = host.text(told["ca"])
        return Credentials(posted, public={ROUND: mark, "made": datetime.now(UTC).isoformat(timespec="seconds")})

    def body(self, prepared: Prepared) -> str:
        """Posts the callback until AWX takes it, then waits for the result."""
        told = prepared.settings
        values = {
            "awx_server": told["server"],
            "awx_url": f"{_api(told)}/job_templates/{told['template']}/callback/",
            "awx_key": CALLBACK,
            "awx_ca": CA if told.get("ca") else "",
            "awx_seconds": told["timeout"],
        }
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]
        return "\n".join(lines) + "\n" + ansible.shell("awx.sh")

    def push(self, identity: Identity, reached: Reached, host: Host, say: Callable[[str], None]) -> int | None:
        """Follow the job that the callback launched: 0 when it was successful, 1 when not, 124 when the time is up.

        None without a token: AWX reports itself. Raises HandoffUnreachable, HandoffRefused, CredentialMissing.
        """
        if not identity.settings.get("token"):
            say("waiting for AWX to report through the API: there is no token to ask it with\n")
            return None
        controller = _controller(identity.settings, host)
        names = {identity.name, identity.machine, identity.settings["about"]["fqdn"], reached.address}
        end = time.monotonic() + float(identity.settings["timeout"])
        job, counter = 0, 0
        while time.monotonic() < end:
            if not job:
                job = controller.launched(identity.public, names) or 0
                if job:
                    say(f"job {job} of template {identity.settings['template']} at {identity.settings['server']}\n")
            if job:
                status, counter = controller.follow(job, counter, say)
                if status in _OVER:
                    say(f"job {job}: {status}\n")
                    return _OVER[status]
            time.sleep(_POLL_SECONDS)
        say(f"ended: the job {job} is not over\n" if job else "ended: AWX launched no job for this machine\n")
        return ansible.TIMED_OUT

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """Credentials, the server and its certificate, the token, the template and its callback."""
        missing = list(ansible.missing_credentials(host, settings, "host_config_key", "token", "ca"))
        yield from missing
        if missing:
            return
        try:
            yield from _asked(settings, host)
        except ProvisionerError as error:
            yield Finding("error", f"{settings['server']} cannot be asked", error.message, error.hint)


@dataclass(frozen=True)
class _Controller:
    """AWX's API, as somebody who has its token."""

    base: str
    template: int
    trust: Trust
    headers: Mapping[str, str]

    def get(self, path: str) -> Reply:
        return ask("GET", self.base + path, self.trust, headers={"Accept": "application/json", **self.headers})

    def read(self, path: str) -> dict[str, Any]:
        """An object of the API. Raises HandoffRefused, HandoffUnreachable."""
        reply = self.get(path)
        found = reply.json()
        if reply.status in {429, 500, 502, 503, 504}:
            raise HandoffUnreachable(f"{self.base} answers {reply.status}: {reply.said()}")
        if reply.status != 200 or not isinstance(found, dict):
            raise HandoffRefused(f"{self.base}{path} answers {reply.status}: {reply.said()}", hint=_hint(reply.status))
        return found

    def launched(self, public: Mapping[str, str], names: set[str]) -> int | None:
        """The newest job of this template that a callback of this host launched in this round."""
        query = "launch_type=callback&order_by=-id&page_size=100"
        for job in _results(self.read(f"/job_templates/{self.template}/jobs/?{query}")):
            limited = set(re.split(r"[:,&!\s]+", str(job.get("limit", ""))))
            if limited & names and _is_ours(job, public):
                return int(job["id"])
        return None

    def follow(self, job: int, counter: int, say: Callable[[str], None]) -> tuple[str, int]:
        """Tell what the job printed since the event ``counter``; its status, and the last event told.

        A job is over when its output is complete, too: events arrive behind the status.
        """
        found = self.read(f"/jobs/{job}/")
        for _ in range(_MOST_PAGES):
            query = f"order_by=counter&page_size=100&counter__gt={counter}"
            events = _results(self.read(f"/jobs/{job}/job_events/?{query}"))
            for event in events:
                counter = max(counter, int(event.get("counter", 0)))
                if event.get("stdout"):
                    say(ansible.plain(str(event["stdout"])) + "\n")
            if not events:
                break
        status = str(found.get("status", ""))
        if status in _OVER and found.get("job_explanation"):
            say(f"{found['job_explanation']}\n")
        return status if found.get("event_processing_finished", True) else "running", counter


def _results(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = page.get("results")
    return [each for each in results if isinstance(each, dict)] if isinstance(results, list) else []


def _is_ours(job: Mapping[str, Any], public: Mapping[str, str]) -> bool:
    """By the round's own word; a template that takes no variables on launch drops it, and then the time decides."""
    try:
        mark = json.loads(job.get("extra_vars") or "{}").get(ROUND)
    except (ValueError, AttributeError, TypeError):
        mark = None
    if mark is not None:
        return bool(mark == public[ROUND])
    try:
        created = datetime.fromisoformat(str(job.get("created")))
        return created >= datetime.fromisoformat(public["made"]) - _SKEW
    except (ValueError, TypeError):
        return False


def _api(settings: Settings) -> str:
    server = str(settings["server"]).rstrip("/")
    return server if server.count("/") > 2 else f"{server}/api/v2"


def _controller(settings: Settings, host: Host) -> _Controller:
    headers = {}
    if settings.get("token"):
        token = host.text(settings["token"])
        if not _TOKEN.fullmatch(token):
            raise HandoffRefused(f"the file {settings['token']} holds no token", hint="the token alone, on one line")
        headers["Authorization"] = f"Bearer {token}"
    ca = host.path(settings["ca"]) if settings.get("ca") else None
    return _Controller(_api(settings), settings["template"], Trust(ca), headers)


def _hint(status: int) -> str:
    if status in {401, 403}:
        return "the token is wrong or expired, or its user may not read the job template: make another in AWX"
    if status == 404:
        return "is it the right template, and is the API there? Automation Platform: https://HOST/api/controller/v2"
    return "see AWX's log"


def _asked(settings: Settings, host: Host) -> Iterator[Finding]:
    controller = _controller(settings, host)
    if not settings.get("token"):
        controller.read("/ping/")
        yield Finding(
            "warning",
            f"there is no token for {settings['server']}",
            "so nobody here can follow the job: AWX must report each result through our API",
            "set `token`, or let the template's last task report; see docs/handoff.md",
        )
        return
    template = controller.read(f"/job_templates/{settings['template']}/")
    name = f"job template {settings['template']} ({template.get('name', '')})"
    key = template.get("host_config_key")
    if key == "":
        yield Finding(
            "error", f"{name} takes no callbacks", "its host config key is empty", "enable provisioning callbacks in it"
        )
    elif isinstance(key, str) and not key.startswith("$") and key != host.text(settings["host_config_key"]):
        yield Finding(
            "error",
            f"{name} has another host config key",
            "AWX will refuse the callback of every machine",
            f"copy the template's key into {settings['host_config_key']} in the credentials directory",
        )
    if template.get("ask_variables_on_launch") is False:
        yield Finding(
            "warning",
            f"{name} takes no variables on launch",
            "so the job of a callback is known by its host and time alone, and the profile's variables are dropped",
            "let the template prompt on launch for variables",
        )
