"""Asking NetBox, by pynetbox over a session that keeps the token at home.

The token goes to the configured host alone: no redirect is followed, no page of another host is fetched, no proxy and
no ``.netrc`` of the environment is used. An answer has a size and a time that it may not exceed.

Only `services.netbox` imports this module: pynetbox and requests come with the extra ``netbox``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pynetbox  # type: ignore[import-untyped]
import requests
from pynetbox.core.query import ContentError, RequestError  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError, ReadTimeoutError

from provisioner.core.versions import version_key
from provisioner.errors import InventoryFailed, TooLarge
from provisioner.settings import NetBox

MOST_DEVICES = 200_000
MOST_BYTES = 64 << 20
WHOLE_SECONDS = 900.0
PAGE = 250
_DEVICES_AT_ONCE = 100  # in one URL, which proxies cut at 8 KiB
_CONNECT_SECONDS = 10.0
_PIECE = 1 << 16
_TRIES = 3
_OLDEST = "4.0"

Json = dict[str, Any]
Progress = Callable[[int, int], None]


class Client:
    """NetBox, for one use: all its requests together may take ``WHOLE_SECONDS``."""

    def __init__(self, settings: NetBox, token: str) -> None:
        self._settings = settings
        self._api = pynetbox.api(settings.url, token=token)
        self._api.http_session = _Session(settings)

    def version(self) -> str:
        """NetBox's version. Raises InventoryFailed if there is none, or one before 4.0."""
        found = str(self._guarded(lambda: self._api.version))
        if not found:
            raise InventoryFailed(
                f"{self._settings.url} does not answer as NetBox does",
                where="netbox.url",
                hint="open that address in a browser: NetBox's page must come; leave /api out",
            )
        if version_key(found) < version_key(_OLDEST):
            raise InventoryFailed(
                f"{self._settings.url} is NetBox {found}; its API is understood from {_OLDEST} on",
                where="netbox.url",
                hint="upgrade NetBox",
            )
        return found

    def devices(self, ids: Sequence[int] = ()) -> list[Json]:
        """The devices that the settings' filter chooses, or those of them with these ids."""
        # NetBox computes each device's context from all rules it has; nothing here needs it.
        wanted: dict[str, Any] = {key: list(values) for key, values in self._settings.filter.items()}
        wanted |= {"exclude": "config_context"} | ({"id": list(ids)} if ids else {})
        return self._all(self._api.dcim.devices, wanted, most=MOST_DEVICES)

    def belongings(self, ids: Sequence[int], progress: Progress | None = None) -> tuple[list[Json], list[Json]]:
        """The interfaces and the addresses of these devices, and of others in their virtual chassis."""
        interfaces: list[Json] = []
        addresses: list[Json] = []
        for start in range(0, len(ids), _DEVICES_AT_ONCE):
            some = {"device_id": list(ids[start : start + _DEVICES_AT_ONCE])}
            interfaces += self._all(self._api.dcim.interfaces, some)
            addresses += self._all(self._api.ipam.ip_addresses, some)
            if progress:
                progress(min(start + _DEVICES_AT_ONCE, len(ids)), len(ids))
        return interfaces, addresses

    def device_of_interface(self, interface: int) -> int | None:
        """The device that the interface with this id is on; None if there is none."""
        for row in self._all(self._api.dcim.interfaces, {"id": [interface]}):
            return int(row["device"]["id"])
        return None

    def _all(self, endpoint: Any, wanted: Json, most: int | None = None) -> list[Json]:
        """All rows of a list. It is read again when it changed between two pages: a row could be skipped."""
        for _ in range(_TRIES):
            rows: dict[int, Json] = {}
            request = endpoint.filter(limit=PAGE, ordering="id", **wanted).request
            for row in self._pages(request):
                rows[int(row["id"])] = row
                if most is not None and request.count > most:
                    raise TooLarge(
                        f"NetBox has {request.count} devices for the filter, {most} can be taken at once",
                        where="netbox.filter",
                        hint="narrow the filter, for example to a role or a site",
                    )
            if len(rows) == request.count:
                return list(rows.values())
        raise InventoryFailed("NetBox's list changed while it was read, again and again", hint="try again later")

    def _pages(self, request: Any) -> Iterator[Json]:
        rows = request.get()
        while True:
            row = self._guarded(lambda: next(rows, None))
            if row is None:
                return
            if not isinstance(row, dict) or "id" not in row:
                raise self._no_netbox()
            yield row

    def _guarded(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RequestError as error:
            raise _refused(error.req, self._settings.url) from error
        except (ContentError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise self._no_netbox() from error

    def _no_netbox(self) -> InventoryFailed:
        return InventoryFailed(
            f"{self._settings.url} answers, but not as NetBox does",
            where="netbox.url",
            hint="is this NetBox's own address? a proxy's login page does not do; leave /api out",
        )


class _Session(requests.Session):
    """HTTP to one host, with limits."""

    def __init__(self, settings: NetBox) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(settings.ca_file) if settings.ca_file else settings.verify == "on"
        self._url = settings.url
        self._seconds = settings.timeout_seconds
        self._deadline = time.monotonic() + WHOLE_SECONDS

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        if _origin(str(url)) != _origin(self._url):
            raise InventoryFailed(
                f"NetBox names {_origin(str(url))} for the next page; the token is for {_origin(self._url)} alone",
                where="netbox.url",
                hint="set netbox.url to the address by which NetBox knows itself (behind a proxy: X-Forwarded-Host)",
            )
        if time.monotonic() > self._deadline:
            raise InventoryFailed(
                f"reading NetBox takes longer than {WHOLE_SECONDS / 60:g} minutes", hint="narrow netbox.filter"
            )
        options |= {"timeout": (min(_CONNECT_SECONDS, self._seconds), self._seconds)}
        options |= {"allow_redirects": False, "stream": True}
        try:
            response = super().request(method, url, *args, **options)
            response._content = self._body(response)  # noqa: SLF001 - what reading without a limit would set
        except (requests.RequestException, HTTPError, OSError) as error:
            raise _unreachable(error, self._url, self._seconds) from error
        if response.is_redirect:
            raise InventoryFailed(
                f"{self._url} leads on to {response.headers['Location'][:200]!r}; the token is not sent there",
                where="netbox.url",
                hint="set netbox.url to the address that NetBox itself has",
            )
        return response

    def _body(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        last = min(time.monotonic() + self._seconds, self._deadline)
        with response:
            # Not iter_content(): it waits until a whole piece is there, for ever if one byte comes now and then.
            while part := response.raw.read1(_PIECE, decode_content=True):
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise InventoryFailed(f"an answer of {self._url} is larger than {MOST_BYTES >> 20} MiB")
                if time.monotonic() > last:
                    raise requests.Timeout
        return b"".join(parts)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _unreachable(error: Exception, url: str, seconds: float) -> InventoryFailed:
    if isinstance(error, requests.exceptions.SSLError):
        return InventoryFailed(
            f"the certificate of {url} is not trusted: {_reason(error)}",
            where="netbox.url",
            hint="give the authority's certificate as netbox.ca_file",
        )
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return InventoryFailed(
            f"{url} did not answer within {seconds:g} s", where="netbox.url", hint="raise netbox.timeout_seconds?"
        )
    return InventoryFailed(
        f"{url} cannot be reached: {_reason(error)}", where="netbox.url", hint="is the address right, and NetBox up?"
    )


def _reason(error: BaseException) -> str:
    """The innermost words: requests and urllib3 wrap theirs in each other's."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (getattr(error, "strerror", "") or str(error))[:200]


def _refused(response: requests.Response, url: str) -> InventoryFailed:
    status = response.status_code
    if status in {401, 403}:
        return InventoryFailed(
            f"NetBox refuses the token ({status}) for {urlsplit(response.url).path}",
            where="netbox.token_file",
            hint="it needs the permission to view devices, interfaces and IP addresses, and must not have expired",
        )
    if status == 400:
        return InventoryFailed(
            f"NetBox does not understand the filter: {response.text[:300]!r}",
            where="netbox.filter",
            hint="use the parameters of NetBox's device list, with slugs",
        )
    if status == 404:
        return InventoryFailed(
            f"{response.url.partition('?')[0]} does not exist", where="netbox.url", hint="leave /api out of netbox.url"
        )
    return InventoryFailed(f"{url} answers with status {status}", where="netbox.url", hint="see NetBox's own log")
