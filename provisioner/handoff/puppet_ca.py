"""The HTTP API of a Puppet CA, as far as it is needed: to look at certificates, revoke and delete them."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from provisioner.errors import HandoffRefused
from provisioner.handoff.https import Reply, Trust, ask
from provisioner.handoff.protocol import Host, Settings

_SECONDS = 20.0
# While the CA asks its policy, which may wait for us.
_POLICY_SECONDS = 75.0
_AUTH_HINT = "allow certificate_status to the name in that certificate, in the server's auth.conf; see docs/handoff.md"


@dataclass(frozen=True)
class Authority:
    """One CA, asked with our certificate."""

    url: str
    mine: Trust
    anybody: Trust

    @classmethod
    def of(cls, settings: Settings, host: Host) -> "Authority":
        """The CA that complete settings name. Raises CredentialMissing."""
        ca = host.path(settings["ca"])
        mine = Trust(ca, host.path(settings["certificate"]), host.path(settings["key"]))
        return cls(f"https://{settings['ca_server']}:{settings['port']}/puppet-ca/v1", mine, Trust(ca))

    def state(self, certname: str) -> str:
        """``requested``, ``signed``, ``revoked``, or "" for a name that the CA does not know.

        This and the others raise HandoffUnreachable and HandoffRefused.
        """
        reply = self._status("GET", certname)
        if reply.status == HTTPStatus.NOT_FOUND:
            return ""
        found = self._expect(reply, f"to look at {certname}", HTTPStatus.OK).json()
        state = found.get("state") if isinstance(found, dict) else None
        if not isinstance(state, str):
            raise HandoffRefused(
                f"{self.url} does not answer as a Puppet CA does: {reply.said()}",
                hint="ca_server and port of the profile's handoff name the CA; see docs/handoff.md",
            )
        return state

    def revoke(self, certname: str) -> None:
        """Put the certificate of that name on the list of revoked ones; without one there is nothing to do."""
        if self.state(certname) == "signed":
            body = json.dumps({"desired_state": "revoked"}).encode()
            reply = self._status("PUT", certname, body)
            self._expect(reply, f"to revoke {certname}", HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND)

    def delete(self, certname: str) -> None:
        """Delete a certificate, which revokes nothing, and a request of that name."""
        reply = self._status("DELETE", certname)
        self._expect(reply, f"to delete {certname}", HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND)

    def submit(self, certname: str, csr: bytes) -> None:
        """Send a certificate request as an agent does, which is nobody yet; the CA asks its policy meanwhile."""
        url, headers = f"{self.url}/certificate_request/{certname}", {"Content-Type": "text/plain"}
        reply = ask("PUT", url, self.anybody, body=csr, headers=headers, seconds=_POLICY_SECONDS)
        self._expect(reply, "to take a certificate request", HTTPStatus.OK)

    def bundle(self) -> bytes:
        """The CA's certificates as agents fetch them."""
        reply = ask("GET", f"{self.url}/certificate/ca", self.anybody, seconds=_SECONDS)
        return self._expect(reply, "to give its certificate", HTTPStatus.OK).body

    def _status(self, method: str, certname: str, body: bytes | None = None) -> Reply:
        headers: dict[str, Any] = {"Accept": "application/json"}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        url = f"{self.url}/certificate_status/{certname}"
        return ask(method, url, self.mine, body=body, headers=headers, seconds=_SECONDS)

    def _expect(self, reply: Reply, what: str, *good: int) -> Reply:
        if reply.status in good:
            return reply
        refused = reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        raise HandoffRefused(
            f"{self.url} refuses {what} ({reply.status}): {reply.said()}",
            hint=_AUTH_HINT if refused else "see the log of the Puppet server",
        )
