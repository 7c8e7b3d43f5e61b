"""The boot plane's routes: receive, ask the services, answer."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request

from provisioner import metrics
from provisioner.core.addresses import normal_mac
from provisioner.core.discovery import BACKOFF, commands, sentence
from provisioner.core.facts import from_query, from_report
from provisioner.core.firmware import by_platform
from provisioner.errors import InvalidInput, Refused
from provisioner.services import attempts, boot, bootfiles, handoffs, ramdisk, reports
from provisioner.services.boot import BootRequest
from provisioner.services.discovery import Recorder
from provisioner.services.site import Site
from provisioner.web.boot.counting import Counted, decided
from provisioner.web.common import new_app, problem, source

# The installer's log is at most 64 KiB; percent-encoding may treble it.
LONGEST_BODY = 256 * 1024
_LONGEST_DISCOVERY = 64 * 1024
_HOST = re.compile(r"^[A-Za-z0-9.:\[\]-]{1,255}$")
_SEED_FILES = {"user-data", "meta-data", "vendor-data", "network-config", "boot.cfg"}


def create(site: Site) -> Flask:
    """The boot plane's application."""
    app = new_app("provisioner.boot", site, longest_body=LONGEST_BODY)
    recorder = Recorder(site)
    _scripts(app, site, recorder)
    _sealed_files(app, site)
    _reports(app, site)
    _discovery(app, site, recorder)
    app.register_error_handler(Refused, _refused)
    app.wsgi_app = Counted(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _scripts(app: Flask, site: Site, recorder: Recorder) -> None:
    def script(mac: str, loader: str) -> Response:
        answer = boot.boot_script(site, _boot_request(mac, loader))
        recorder.put(answer.sighting)
        decided(request.environ, answer.decision.next_boot.value)
        return _text(answer.text)

    @app.get("/boot/ipxe")
    def first_script() -> Response:
        if request.user_agent.string.startswith("debian-installer"):
            # Debian's installer takes any DHCP file name that is a URL for a preseed, before its own url=, and gives
            # up when it is none; a DHCP server with one fixed file name sends it here.
            return _text("# Provisioner: not a preseed; the one in url= counts\n")
        return _text(boot.first_script(site, source(), _boot_url()))

    @app.get("/boot/ipxe/<mac>")
    def ipxe_script(mac: str) -> Response:
        return script(mac, "ipxe")

    @app.get("/boot/loader/<name>")
    def loader(name: str) -> Response:
        image = bootfiles.by_http(site, name)
        # EDK2 goes by the content type, and by the ending when it is told none.
        return _not_found() if image is None else Response(image, content_type="application/efi")

    @app.get("/boot/grub/<mac>")
    def grub_script(mac: str) -> Response:
        return script(mac, "grub")


def _sealed_files(app: Flask, site: Site) -> None:
    @app.get("/build/<presented>/answer")
    def answer(presented: str) -> Response:
        # The first GET of an answer with secrets in it takes them; a HEAD must not.
        return _text(attempts.fetch(site, presented, "answer", source(), peek=request.method == "HEAD").text)

    @app.get("/build/<presented>/seed/<name>")
    def seed(presented: str, name: str) -> Response:
        if name not in _SEED_FILES:
            return _not_found()
        return _text(attempts.fetch(site, presented, name, source()).text)

    @app.get("/build/<presented>/handoff")
    def handoff(presented: str) -> Response:
        return _text(attempts.fetch(site, presented, "handoff", source()).text)

    @app.post("/build/<presented>/secret/<name>")
    def secret(presented: str, name: str) -> Response:
        nonce = str(_body().get("nonce", ""))
        return _text(attempts.unwrap(site, presented, name, nonce, source()))


def _reports(app: Flask, site: Site) -> None:
    @app.post("/build/<presented>/event")
    def event(presented: str) -> dict[str, Any]:
        body = _body()
        report = reports.Report(
            step=str(body.get("step", "")),
            message=str(body.get("message", "")),
            log=reports.clip_log(str(body.get("log", ""))),
        )
        receipt = reports.event(site, presented, source(), report)
        _count_spooled(receipt)
        return {"state": receipt.state, "repeated": receipt.repeated}

    @app.post("/build/<presented>/again")
    def again(presented: str) -> Response:
        return _text(handoffs.again(site, presented, source()))

    @app.post("/build/<presented>/configured")
    def configured(presented: str) -> dict[str, Any]:
        body = _body()
        if body.get("status") == "running":
            log = reports.clip_log(str(body.get("log", "")))
            state = handoffs.running(site, presented, source(), str(body.get("message", "")), log)
            return {"state": state.state, "repeated": state.repeated}
        if body.get("status") == "ready":
            keys = str(body.get("host_keys", "")).splitlines()
            state = handoffs.ready(site, presented, source(), str(body.get("address", "")), keys)
            return {"state": state.state, "repeated": state.repeated}
        receipt = reports.configured(
            site,
            presented,
            source(),
            ok=body.get("status", "ok") == "ok",
            message=_result(body),
            log=reports.clip_log(str(body.get("log", ""))),
            exit_code=_exit_code(body),
        )
        _count_spooled(receipt)
        return {"state": receipt.state, "repeated": receipt.repeated}


def _count_spooled(receipt: reports.Receipt) -> None:
    if receipt.state == "spooled":
        metrics.report_spooled()


def _discovery(app: Flask, site: Site, recorder: Recorder) -> None:
    @app.post("/discovery")
    def discovery() -> tuple[dict[str, Any], int]:
        request.max_content_length = _LONGEST_DISCOVERY
        said = dict(_body())
        mac = normal_mac(str(said.pop("mac", "")))
        found = ramdisk.report(site, mac, source(), from_report(said))
        recorder.put(found.sighting)
        return {
            "mac": mac,
            "machine": found.waiting.name or None,
            "next_boot": found.decision.next_boot.value,
            "waits_for": sentence(found.waiting) if found.waits else None,
            "commands": commands(found.waiting) if found.waits else [],
            "again_seconds": BACKOFF[-1],
        }, HTTPStatus.ACCEPTED


def _boot_request(mac: str, loader: str) -> BootRequest:
    firmware = by_platform(request.args.get("platform", ""))
    return BootRequest(
        mac=mac,
        source=source(),
        loader=loader,
        platform=firmware.platform,
        boot_url=_boot_url(),
        peek=request.method == "HEAD",
        facts=from_query(request.args),
        wait=request.args.get("wait", ""),
        waited_for=request.args.get("for", ""),
    )


def _boot_url() -> str:
    """The URL under which this client reached us; a name that no URL may hold is not repeated."""
    return f"{request.scheme}://{request.host}" if _HOST.match(request.host) else ""


def _body() -> Mapping[str, Any]:
    if not request.is_json:
        return request.form
    try:
        body = request.get_json()
    except RecursionError as error:
        raise InvalidInput("the JSON is nested too deeply", where="body", hint='post {"step": "..."}') from error
    if not isinstance(body, dict):
        raise InvalidInput("the body is not a JSON object", where="body", hint='post {"step": "...", "message": "..."}')
    return body


def _exit_code(body: Mapping[str, Any]) -> int | None:
    code = str(body.get("exit_code", ""))
    return int(code) if code.isdecimal() and len(code) < 6 else None


def _result(body: Mapping[str, Any]) -> str:
    code = str(body.get("exit_code", ""))
    message = str(body.get("message", ""))
    return f"exit code {code}: {message}" if code and code != "0" else message


def _text(text: str) -> Response:
    return Response(text, content_type="text/plain; charset=utf-8")


def _not_found() -> Response:
    return problem(Refused("there is nothing here", hint=""))


def _refused(error: Refused) -> Response:
    # One answer for an unknown token and for a token without the right: a probe learns nothing. Reports get 403.
    if request.method == "GET":
        return problem(Refused("there is nothing here", hint=""))
    return problem(error)
