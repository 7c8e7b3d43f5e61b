"""A stand-in for AWX, as its published API describes it: callbacks, jobs, events, tokens. It runs no playbook.

A callback is answered as `awx/api/views` does (201 with the job's Location, 400 without a matching host or with a job
pending, 403 with another key); the job becomes `running` and ends, once it was asked for, as `outcome` says.
"""

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from receiver import certificate

TEMPLATE = 7


@dataclass
class StandIn:
    """What it knows, and what it was asked."""

    url: str
    ca: Path
    key: str = "the host config key 4711"
    token: str = "the-token-of-a-reader"
    hosts: dict[str, str] = field(default_factory=dict)
    """The inventory: addresses and names."""
    prompts: bool = True
    """Whether the template takes variables on launch."""
    outcome: str = "successful"
    output: list[str] = field(
        default_factory=lambda: ["", "PLAY [all] ***", "\x1b[0;32mok: [web01]\x1b[0m", "PLAY RECAP ***"]
    )
    away: int = 0
    """How many callbacks are answered 503 first."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def launch(self, limit: str, *, extra: dict[str, Any] | None = None, kind: str = "callback", **told: Any) -> int:
        """A job of the template."""
        number = 100 + len(self.jobs)
        variables = json.dumps((extra or {}) if self.prompts else {})
        job = {"id": number, "type": "job", "job_template": TEMPLATE, "launch_type": kind, "limit": limit}
        job |= {"status": "pending", "created": datetime.now(UTC).isoformat(), "extra_vars": variables}
        self.jobs.append(job | {"job_explanation": "", "event_processing_finished": False} | told)
        return number

    def callback(self, source: str, form: dict[str, Any]) -> tuple[int, Any]:
        """`POST /job_templates/N/callback/`."""
        if self.away:
            self.away -= 1
            return 503, {"detail": "starting"}
        if not self.key or form.get("host_config_key") != self.key:
            return 403, {"detail": "You do not have permission to perform this action."}
        if source not in self.hosts:
            return 400, {"msg": "No matching host could be found!"}
        name = self.hosts[source]
        if any(job["limit"] == name and job["status"] == "pending" for job in self.jobs):
            return 400, {"msg": "Host callback job already pending"}
        self.launch(name, extra=form.get("extra_vars"))
        return 201, None

    def job(self, number: int) -> tuple[int, Any]:
        """`GET /jobs/N/`: asked again and again, it begins, and ends."""
        found = next((each for each in self.jobs if each["id"] == number), None)
        if found is None:
            return 404, {"detail": "Not found."}
        steps = {"pending": "running", "running": self.outcome}
        if found["status"] in {"successful", "failed", "error", "canceled"}:
            found["event_processing_finished"] = True
        found["status"] = steps.get(found["status"], found["status"])
        return 200, found

    def events(self, number: int, query: dict[str, list[str]]) -> tuple[int, Any]:
        """`GET /jobs/N/job_events/`: half of the output while it runs, the rest a moment after it ended."""
        found = next(each for each in self.jobs if each["id"] == number)
        shown = len(self.output) if found["event_processing_finished"] else len(self.output) // 2
        after = int(query.get("counter__gt", ["0"])[0])
        events = [{"counter": at, "event": "verbose", "stdout": text} for at, text in enumerate(self.output[:shown], 1)]
        events = [event for event in events if event["counter"] > after][: int(query["page_size"][0])]
        return 200, {"count": len(events), "next": None, "previous": None, "results": events}

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Everything that wants a token."""
        if path == f"/job_templates/{TEMPLATE}/":
            name = {"id": TEMPLATE, "name": "Site", "ask_variables_on_launch": self.prompts}
            return 200, name | {"host_config_key": self.key}
        if path == f"/job_templates/{TEMPLATE}/jobs/":
            kind = query["launch_type"][0]
            jobs = [job for job in reversed(self.jobs) if job["launch_type"] == kind]
            return 200, {"count": len(jobs), "next": None, "previous": None, "results": jobs}
        if found := re.fullmatch(r"/jobs/(\d+)/", path):
            return self.job(int(found.group(1)))
        if found := re.fullmatch(r"/jobs/(\d+)/job_events/", path):
            return self.events(int(found.group(1)), query)
        return 404, {"detail": "Not found."}


@contextmanager
def awx(folder: Path, address: str = "127.0.0.1") -> Iterator[StandIn]:
    """The stand-in at this address of this host, over TLS."""
    files = certificate(folder, address)
    state = StandIn("", files[0])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append(f"POST {self.path}")
            if self.path != f"/api/v2/job_templates/{TEMPLATE}/callback/":
                self._answer(404, {"detail": "Not found."})
                return
            assert self.headers["Content-Type"] == "application/json"
            self._answer(*state.callback(self.client_address[0], json.loads(body)))

        def do_GET(self) -> None:
            state.asked.append(f"GET {self.path}")
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/api/v2")
            if path == "/ping/":
                self._answer(200, {"version": "24.6.1"})
            elif self.headers["Authorization"] != f"Bearer {state.token}":
                self._answer(401, {"detail": "Authentication credentials were not provided."})
            else:
                self._answer(*state.get(path, parse_qs(parts.query)))

        def _answer(self, status: int, told: Any) -> None:
            body = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            if status == 201:
                self.send_header("Location", f"/api/v2/jobs/{state.jobs[-1]['id']}/")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that trusts us not goes away."""

    server = Server((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"https://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
