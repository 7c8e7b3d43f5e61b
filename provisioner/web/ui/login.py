"""Logging in and out, one's own password, and one's own sessions."""

from urllib.parse import quote, urlsplit

from flask import Response, request

from provisioner.errors import NotLoggedIn, ProvisionerError, TooMany
from provisioner.services import logins, people
from provisioner.web.ui import cookies, notices
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()


@pages.get("/login", None, public=True)
def ask(visit: Visit) -> Response:
    """The form."""
    return visit.render("login.html", after=local(visit.arg("next")), user="", error=None)


@pages.post("/login", None, public=True)
def enter(visit: Visit) -> Response:
    """Log in, and go to where the person wanted to."""
    after, user = local(visit.field("next")), visit.field("user").strip()
    try:
        made = logins.login(visit.site, user, visit.field("password"), visit.source)
    except (NotLoggedIn, TooMany) as error:
        response = visit.render("login.html", error.status, after=after, user=user[:100], error=error)
        if isinstance(error, TooMany):
            response.headers["Retry-After"] = str(max(1, round(float(error.details.get("retry_after", 1)))))
        return response
    logins.logout(visit.site, cookies.bearer())
    cookies.open_session(made["token"])
    return visit.redirect(after)


@pages.post("/logout", None, public=True)
def leave(visit: Visit) -> Response:
    """Log out: the session is dead on the server too."""
    logins.logout(visit.site, cookies.bearer())
    cookies.close_session()
    return visit.redirect("/login", "You are logged out.")


@pages.get("/account", None)
def account(visit: Visit) -> Response:
    """One's own account."""
    return _account(visit)


@pages.post("/account/password", None)
def change_password(visit: Visit) -> Response:
    """Set another password: every other login of this user ends."""
    new = visit.field("new")
    try:
        if new != visit.field("again"):
            notices.say("The two new passwords differ.", level="warning")
            return _account(visit, 400)
        people.change_password(visit.site, visit.actor, visit.principal, visit.field("old"), new, visit.source)
    except ProvisionerError as error:
        return _account(visit, error.status, error)
    return visit.redirect("/account", "Your password is changed. Your other logins have ended.")


def _account(visit: Visit, status: int = 200, error: ProvisionerError | None = None) -> Response:
    own = logins.sessions(visit.site, visit.principal.who)
    return visit.render("account.html", status, sessions=own, error=error)


def local(place: str) -> str:
    """A path on this server, or ``/`` for anything else: whoever makes a link does not choose where a login ends."""
    parts = urlsplit(place)
    good = place.startswith("/") and not place.startswith("//") and not parts.scheme and not parts.netloc
    return place if good and "\\" not in place and place.isprintable() else "/"


def way_in() -> str:
    """The path of the login that leads back to this page."""
    back = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return "/login" if back == "/" else f"/login?next={quote(back, safe='/')}"
