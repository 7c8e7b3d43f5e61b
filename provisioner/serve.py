"""`provisioner serve`: starts the children, watches them, and stops them together.

The parent binds the listeners and hands them down, so that a port in use is known at once and a child that is
restarted never loses its port. Children are forked from it with all modules loaded: what was killed serves again
within a tenth of a second, and they share that memory. They share nothing else but the database.
"""

import ctypes
import errno
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication

from provisioner import logs, metrics
from provisioner.errors import DatabaseUnavailable, PortInUse, ProvisionerError
from provisioner.netboot import children
from provisioner.services import keeper, lastgood, loaders, status
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings, bind_address
from provisioner.web import admin, boot, media
from provisioner.web.server import LoopWorker
from provisioner.worker import child as worker

log = structlog.get_logger()
HTTP_CHILDREN = {"boot": "boot_bind", "media": "media_bind", "admin": "http_bind"}
_STOP_SECONDS = 15.0
_DATABASE_SECONDS = 2.0
_LONGEST_PAUSE = 5.0
_STEADY_SECONDS = 30.0
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_CONNECTIONS = 4000
_ADMIN_BODY = 1 << 20
_MEDIA_WORKERS = 2
"""One process fills one core with copying to its sockets; an initrd for a thousand machines is nothing but that."""
_THREADS = {"boot": 32, "media": 16, "admin": 64}
"""Of the boot plane most wait for the same commit; event streams each hold one of the admin plane."""


@dataclass
class _Child:
    """One watched process."""

    name: str
    listener: socket.socket | None
    process: ForkProcess | None = None
    started: float = 0.0
    pause: float = 0.1
    due: float = 0.0
    restarts: int = field(default=0)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Raises PortInUse."""
    logs.configure(settings, "serve")
    site, why_not = _open(settings)
    lastgood.sweep(site)
    loaders.try_to_make(site)
    listeners = {name: _listen(getattr(settings, bind), bind) for name, bind in HTTP_CHILDREN.items()}
    _try_udp(settings.tftp_bind)
    tftp = dict(zip(_tftp_names(settings), children.tftp_ports(settings), strict=True))
    listeners |= tftp
    watched = [_Child(name, listeners.get(name)) for name in (*HTTP_CHILDREN, *tftp, "dhcp", "worker")]
    stop = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    metrics.start(settings.state_dir)
    metrics.begin(children=[child.name for child in watched])
    _announce(settings, why_not)
    gc.freeze()  # what is loaded now is shared with the children for as long as nobody touches it
    due = time.monotonic()
    try:
        while not stop.is_set():
            for child in watched:
                _watch(child, settings, list(listeners.values()))
            if why_not is not None and time.monotonic() >= due:
                why_not = _still_down(site)
                due = time.monotonic() + _DATABASE_SECONDS
            stop.wait(0.1)
    finally:
        _stop(watched)
        metrics.stop()
        site.engine.dispose()
    return 0


def _open(settings: Settings) -> tuple[Site, str | None]:
    """The installation, and why its database cannot be asked.

    After a power cut the racks often come up before the database does; they need their answers then.
    """
    try:
        site = open_site(settings)
    except DatabaseUnavailable as error:
        return open_site(settings, serving=True), error.message
    site.engine.dispose()
    return site, None


def _still_down(site: Site) -> str | None:
    """Why the database cannot be asked, or None once it can. Raises for one that is not this program's."""
    try:
        status.check_schema(site)
    except DatabaseUnavailable as error:
        return error.message
    finally:
        site.engine.dispose()
    log.info("the database answers")
    return None


def _announce(settings: Settings, why_not: str | None) -> None:
    print(f"boot plane   {settings.boot}   (listens on {settings.boot_bind})", flush=True)
    print(f"media        {settings.media}   (listens on {settings.media_bind})", flush=True)
    print(f"admin plane  {settings.admin}/   (listens on {settings.http_bind})", flush=True)
    print(f"TFTP         {settings.tftp_bind}/udp", flush=True)
    if why_not is not None:
        print(f"NO DATABASE  {why_not}", flush=True)
        print("             until it answers, machines get their local disks and reports are kept on disk", flush=True)
    print("serving; stop with Ctrl-C", flush=True)


def _listen(bind: str, setting: str) -> socket.socket:
    host, port = bind_address(bind)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _port_error(error, bind, setting) from error
    return listener


def _try_udp(bind: str) -> None:
    """Notice a TFTP port that is taken now, not in a child's log."""
    host, port = bind_address(bind)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _port_error(error, bind, "tftp_bind") from error


def _tftp_names(settings: Settings) -> list[str]:
    return ["tftp", *(f"tftp-{number}" for number in range(2, settings.tftp_processes + 1))]


def _port_error(error: OSError, bind: str, setting: str) -> PortInUse:
    variable = f"PROVISIONER_{setting.upper()}"
    if error.errno == errno.EACCES:
        hint = f"ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose another with {variable}"
    elif error.errno == errno.EADDRINUSE:
        hint = f"see who has it with `ss -tulpn`; stop that, or choose another with {variable}"
    else:
        hint = f"choose an address of this host with {variable}"
    return PortInUse(f"cannot listen on {bind}: {error.strerror}", where=setting, hint=hint)


def _watch(child: _Child, settings: Settings, listeners: Sequence[socket.socket]) -> None:
    now = time.monotonic()
    if child.process is not None and child.process.is_alive():
        if now - child.started > _STEADY_SECONDS:
            child.pause = 0.1
        return
    if child.process is not None:
        child.restarts += 1
        metrics.child_restarted(child.name)
        log.error("child ended", name=child.name, status=child.process.exitcode, restarts=child.restarts)
        child.process, child.due = None, now + child.pause
        child.pause = min(child.pause * 2, _LONGEST_PAUSE)
    if now >= child.due:
        child.process = multiprocessing.get_context("fork").Process(
            target=_be, args=(settings, child.name, child.listener, listeners, os.getpid())
        )
        with _no_signals():  # the child's handlers are ours until it has set its own
            child.process.start()
        child.started = time.monotonic()


@contextmanager
def _no_signals() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _stop(children: Sequence[_Child]) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in running:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _be(
    settings: Settings, name: str, listener: socket.socket | None, listeners: Sequence[socket.socket], parent: int
) -> None:
    """The body of one child. It ends when its parent does, and says in `ps -o comm` which it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_NAME, f"prov-{name}".encode())
    # A group of its own: Ctrl-C in the terminal reaches the parent alone, which stops the children in order.
    os.setsid()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if os.getppid() != parent:
        return  # it ended before it could be said that we end with it
    for each in listeners:
        if each is not listener:
            each.close()
    # TFTP holds a socket and a file for each transfer; the usual soft limit is 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logs.configure(settings, name)
    try:
        _serve(settings, name, listener)
    except ProvisionerError as error:
        log.critical("child cannot go on", code=error.code, error=str(error), hint=error.hint)
        sys.exit(error.exit_code)


def _serve(settings: Settings, name: str, listener: socket.socket | None) -> None:
    if name in HTTP_CHILDREN and listener is not None:
        _Gunicorn(settings, name, listener.fileno()).run()
        return
    metrics.join(name)
    # Boots are answered while the database is down, so a child must start then too.
    site = open_site(settings, serving=True)
    stop = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    if listener is not None:
        children.tftp(site, stop, listener)
    else:
        {"dhcp": children.dhcp, "worker": worker.run}[name](site, stop)


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """One of our three applications under gunicorn, on a listener that was bound before."""

    longest_body: int
    """Up to where a body is waited for before a thread has it; see `LoopWorker`, of the next two too."""
    most_per_address: int
    trusted_proxies: tuple[str, ...]
    most_downloads: int

    def __init__(self, settings: Settings, name: str, descriptor: int) -> None:
        self._settings, self._name, self._descriptor = settings, name, descriptor
        # each has a descriptor, and one more while a file is sent
        self._connections = min(_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)
        self.most_per_address = min(settings.connections_per_address, self._connections // 2)
        self.trusted_proxies = settings.trusted_proxies
        self._workers = {"boot": settings.boot_workers, "media": _MEDIA_WORKERS}.get(name, 1)
        self.most_downloads = -(-settings.media_downloads // _MEDIA_WORKERS) if name == "media" else 0
        self.longest_body = {"boot": boot.LONGEST_BODY, "media": media.LONGEST_BODY}.get(name, _ADMIN_BODY)
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._options().items():
            self.cfg.set(key, value)

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": LoopWorker,
            "worker_connections": self._connections,
            "workers": self._workers,
            "threads": _THREADS[self._name],
            "keepalive": 15,
            "limit_request_line": 8190,
            "timeout": 60,
            "graceful_timeout": 5,
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
            "accesslog": None,  # request lines hold tokens
            "errorlog": "-",
            "loglevel": "warning",
            "proc_name": f"provisioner {self._name}",
            # ours decides about forwarded headers, from `trusted_proxies`
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
        }
        if self._name == "admin" and settings.tls == "on":
            tls = settings.state_dir / "tls"
            options |= {"certfile": str(tls / "cert.pem"), "keyfile": str(tls / "key.pem")}
        return options

    def load(self) -> Any:
        metrics.join(self._name)
        create: Callable[[Site], Any] = {"boot": boot.create, "media": media.create, "admin": admin.create}[self._name]
        site = open_site(self._settings, serving=True)
        if self._name == "boot":
            keeper.start(site)
        return create(site)
