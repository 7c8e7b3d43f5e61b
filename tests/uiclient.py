"""A browser without a screen: logs in, follows forms with their CSRF tokens, and reads pages."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bs4 import BeautifulSoup, Tag
from flask.testing import FlaskClient
from world import ACTOR

from provisioner.services import people
from provisioner.services.site import Site
from provisioner.web import admin

PASSWORD = "correct horse battery staple"


@dataclass
class Shown:
    """An answer, as a person would read it."""

    status: int
    body: str
    headers: dict[str, str]

    @cached_property
    def soup(self) -> BeautifulSoup:
        """The page as a tree: `.select(CSS)`, `.select_one(CSS)`."""
        return BeautifulSoup(self.body, "html.parser")

    @property
    def text(self) -> str:
        """All words of the page, with single blanks."""
        return " ".join(self.soup.get_text(" ").split())

    @property
    def main(self) -> str:
        """The words of the page's own part."""
        found = self.one("main")
        return " ".join(found.get_text(" ").split())

    @property
    def place(self) -> str:
        """Where it redirects to."""
        return self.headers.get("Location", "")

    def one(self, selector: str) -> Tag:
        """The one element of this selector."""
        found = self.soup.select(selector)
        assert len(found) == 1, f"{len(found)} of {selector} in:\n{self.body[:3000]}"
        return found[0]

    def links(self) -> dict[str, str]:
        """Links by their words; of equal ones the last."""
        return {" ".join(each.get_text(" ").split()): str(each["href"]) for each in self.soup.select("a[href]")}

    def fields(self, form: str = "main form") -> dict[str, Any]:
        """What the form would send as it stands; of several the first. Names that occur twice are lists."""
        sent: dict[str, Any] = {}
        found = self.soup.select(form)
        assert found, f"no {form} in:\n{self.body[:3000]}"
        for each in found[0].select("input[name], textarea[name], select[name]"):
            for value in _values(each):
                name = str(each["name"])
                if name in sent:
                    sent[name] = [*(sent[name] if isinstance(sent[name], list) else [sent[name]]), value]
                else:
                    sent[name] = value
        return sent


def _values(each: Tag) -> list[str]:
    if each.name == "textarea":
        return [each.get_text().removeprefix("\n")]
    if each.name == "select":
        chosen = each.select("option[selected]") or each.select("option")[:1]
        return [str(option.get("value", option.get_text())) for option in chosen]
    if each.get("type") in {"checkbox", "radio"} and not each.has_attr("checked"):
        return []
    return [str(each.get("value", "on" if each.get("type") == "checkbox" else ""))]


@dataclass
class Browser:
    """Logged in as a user with this role; ``role`` empty is nobody."""

    site: Site
    role: str = "admin"
    source: str = "192.0.2.7"
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        app = admin.create(self.site)
        app.testing = True
        self.client = app.test_client()
        if self.role:
            name = f"a-{self.role}"
            if not any(each["name"] == name for each in people.listing(self.site)):
                people.add(self.site, ACTOR, name, {"role": self.role, "password": PASSWORD})
            entered = self.post("/login", user=name, password=PASSWORD)
            assert entered.status == 303, entered.body

    def get(self, path: str, *, fragment: bool = False, **headers: str) -> Shown:
        """A page; ``fragment`` as htmx asks for a part of one."""
        told = {"Accept": "text/html"} | headers | ({"HX-Request": "true"} if fragment else {})
        return self._shown(self.client.get(path, headers=told, environ_base={"REMOTE_ADDR": self.source}))

    def post(self, path: str, *, csrf: bool = True, fragment: bool = False, **fields: Any) -> Shown:
        """Send a form with the token of this login; lists are fields that occur several times."""
        if csrf:
            fields = {"csrf_token": self._token(), **fields}
        headers = {"Accept": "text/html"} | ({"HX-Request": "true"} if fragment else {})
        answer = self.client.post(path, data=fields, headers=headers, environ_base={"REMOTE_ADDR": self.source})
        return self._shown(answer)

    def follow(self, answer: Shown) -> Shown:
        """Where the answer redirects to."""
        assert answer.status == 303, (answer.status, answer.body[:3000])
        return self.get(answer.place)

    def _token(self) -> str:
        shown = self.get("/login")
        return str(shown.one("form[action='/login'] input[name=csrf_token]")["value"])

    @staticmethod
    def _shown(answer: Any) -> Shown:
        return Shown(answer.status_code, answer.get_data(as_text=True), dict(answer.headers))
