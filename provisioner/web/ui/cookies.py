"""The cookie: signed, for this host alone, out of scripts' reach. It holds the login, notices and the CSRF token."""

import hashlib
import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFError, CSRFProtect

from provisioner.errors import Forbidden
from provisioner.services.site import Site

_BEARER = "bearer"
_csrf = CSRFProtect()


class _HostCookie(SecureCookieSessionInterface):
    """Over HTTPS it is Secure and bears the prefix ``__Host-``, so that no other host and no plain page can set it."""

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002
        return "__Host-provisioner" if request.is_secure else "provisioner"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def register(app: Flask, site: Site) -> None:
    """Sign with a key of this installation, derived from one outside the database."""
    app.session_interface = _HostCookie()
    app.config.update(
        SECRET_KEY=hmac.new(site.keys.token_key, b"cookies of the admin plane", hashlib.sha256).digest(),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",  # a link in a chat opens the page; a form of another site sends no cookie
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(days=site.settings.session_days),
        WTF_CSRF_CHECK_DEFAULT=False,  # pages ask; the API knows no cookies
        WTF_CSRF_TIME_LIMIT=None,  # it lasts as long as the login: a form that lay open over lunch loses nothing
        WTF_CSRF_SSL_STRICT=False,  # the Origin header is looked at instead, see `check_post`
    )
    _csrf.init_app(app)


def bearer() -> str:
    """The credential of this browser's login; empty without one."""
    return str(session.get(_BEARER, ""))


def open_session(token: str) -> None:
    """Log this browser in: nothing of what the cookie held before stays, the CSRF token neither."""
    session.clear()
    session.permanent = True
    session[_BEARER] = token


def close_session() -> None:
    """Log this browser out."""
    session.clear()


def check_post() -> None:
    """Raise Forbidden unless this form came from a page of ours."""
    origin = request.headers.get("Origin", "")
    if origin and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Forbidden("the form came from another site", hint="open the page here, and send it again")
    protect: Any = _csrf.protect
    try:
        protect()
    except CSRFError:
        raise Forbidden(
            "the form is not of this login: it was opened before you logged in, or came from elsewhere",
            hint="load the page again, and send it again",
        ) from None
