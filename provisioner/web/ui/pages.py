"""One table of all pages: who may see each, and what stands around every handler.

A handler gets a `Visit` and returns what `Visit.render` and `Visit.redirect` make. Deny by default: a page says which
right it needs, and the dispatcher looks before the handler runs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Response, request

from provisioner.core.policy import Principal
from provisioner.services import underway
from provisioner.services.site import Actor, Site
from provisioner.services.underway import Counting
from provisioner.web.ui import notices, shell

BODY_BYTES = 4 << 20
Handler = TypeVar("Handler", bound=Callable[..., Response])
_NOBODY = Principal("", role=None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Page:
    """A method of a path. ``noun`` and ``verb`` are the right it needs; None needs a login and no right."""

    method: str
    rule: str
    handler: Callable[..., Response]
    noun: str | None
    verb: str
    public: bool = False
    longest_body: int = BODY_BYTES

    @property
    def name(self) -> str:
        """The endpoint, for `url_for`: the handler's module and name, such as ``machines.show``."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"


@dataclass
class Pages:
    """The pages of one module, collected by decorators."""

    table: list[Page] = field(default_factory=list)

    def get(
        self, rule: str, noun: str | None, *, verb: str = "read", public: bool = False
    ) -> Callable[[Handler], Handler]:
        """A page to look at; it changes nothing. ``verb`` write: a form for those alone who may send it."""
        return self._add("GET", rule, noun, verb, public=public)

    def post(
        self, rule: str, noun: str | None, *, verb: str = "write", public: bool = False, longest_body: int = BODY_BYTES
    ) -> Callable[[Handler], Handler]:
        """What a form sends."""
        return self._add("POST", rule, noun, verb, public=public, longest_body=longest_body)

    def _add(self, method: str, rule: str, noun: str | None, verb: str, **more: Any) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.table.append(Page(method, rule, handler, noun, verb, **more))
            return handler

        return register


@dataclass(frozen=True)
class Visit:
    """One request, checked: who asks, and the ways to answer."""

    site: Site
    principal: Principal
    source: str
    request_id: str
    bearer: str = ""

    @property
    def actor(self) -> Actor:
        """Who the history names, with the reason that the form's field ``reason`` gives."""
        reason = " ".join(request.form.get("reason", "").split())[:500]
        return Actor(self.principal.who, f"ui ({self.source})", self.request_id, reason)

    @property
    def is_fragment(self) -> bool:
        """Whether htmx asks for a part of a page."""
        return request.headers.get("HX-Request") == "true" and request.headers.get("HX-Boosted") != "true"

    def noting(self) -> AbstractContextManager[Counting | None]:
        """Around work that takes its time: what it is told is told to the page that waits (`services.underway`)."""
        return underway.noting(self.site, request.headers.get("X-Underway", "") or request.form.get("underway", ""))

    def may(self, noun: str, verb: str = "write") -> bool:
        """Whether a thing may be offered."""
        return self.principal.may(noun, verb)

    def arg(self, name: str, default: str = "") -> str:
        """A parameter of the address, without blanks around it."""
        return request.args.get(name, default).strip()

    def field(self, name: str, default: str = "") -> str:
        """A field of the form, with the line ends that the rest of the world has."""
        return request.form.get(name, default).replace("\r\n", "\n").replace("\r", "\n")

    def fields(self, name: str) -> list[str]:
        """All values of a field that may be there several times."""
        return request.form.getlist(name)

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page, or a fragment, from a template in ``templates/``."""
        return shell.render(self, template, status, context)

    def redirect(self, place: str, said: str = "", *, href: str = "", link: str = "") -> Response:
        """To another page, which says ``said`` at its top, with a link to what it is about."""
        if said:
            notices.say(said, href=href, link=link)
        if self.is_fragment:
            return Response(status=204, headers={"HX-Redirect": place})
        return Response(status=303, headers={"Location": place})


def path(*parts: str | int) -> str:
    """A path on this server, its parts quoted: ``path("machines", name)``."""
    return "/" + "/".join(quote(str(part), safe=":@") for part in parts)


def nobody(site: Site, source: str, request_id: str) -> Visit:
    """A visit before login."""
    return Visit(site, _NOBODY, source, request_id)
