"""Every error an edge may meet, in one tree.

    ProvisionerError
    ├── InvalidInput            the request itself is wrong
    │   ├── MalformedMac
    │   ├── MalformedAddress
    │   ├── AddressOutsideSubnet
    │   ├── MalformedName
    │   ├── MalformedContent    broken YAML, an unknown key, a wrong type
    │   ├── ParentCycle
    │   ├── UnknownReference    a profile, distro, template ... that does not exist
    │   ├── TooLarge            a body, list or page beyond its limit
    │   └── InvalidSettings
    ├── NotFound
    ├── Conflict                the request is fine, the state of the world refuses it
    │   ├── NameTaken
    │   ├── MacTaken
    │   ├── AddressTaken
    │   ├── StillInUse
    │   ├── Protected
    │   ├── IllegalTransition
    │   ├── BuildNotPossible    something the build needs is missing
    │   ├── InputsChanged
    │   ├── IdentityConflict    MACs, serial number and UUID name different machines
    │   ├── Stale               somebody changed it first (412)
    │   ├── NoAddressFree
    │   ├── PlanRefused         machines of a plan cannot be as they were sent; ``details`` say which and why
    │   └── StateDirectory      not initialised, or initialised already
    ├── NeedsMatch              a change that does not say which version it is of (428)
    ├── NotLoggedIn             no credential, or one that is not (any more) good (401)
    ├── Forbidden               known, but without the right (403)
    ├── TooMany                 too often; wait (429)
    ├── ContentError            the content is wrong, not the request
    │   ├── TemplateError
    │   ├── RenderLimit
    │   ├── MissingParameter
    │   ├── AnswerInvalid
    │   └── MediaMissing
    ├── Refused                 no right to this, said without saying why
    │   ├── TokenRefused
    │   └── SecretGone
    └── Unavailable             a resource of this host is missing; trying again may help
        ├── DatabaseUnavailable
        ├── StorageFull
        ├── PortInUse
        ├── ProgramMissing
        ├── ProgramFailed
        ├── KeyUnusable
        ├── CredentialMissing   a key or certificate for a tool's server, which a profile's handoff names
        ├── HandoffUnreachable  the tool's server gives no answer; asking again may help
        ├── HandoffRefused      the tool's server answers, and refuses
        ├── InventoryFailed     NetBox cannot be asked, or answers something else
        ├── Unreachable         the server that PROVISIONER_URL names
        ├── Untrusted           its certificate
        ├── NotProvisioner      what answers there is something else
        └── NotAcknowledged

An error carries ``code`` (stable, for programs), ``message`` (what happened, with the values), ``hint`` (the next
step) and ``where`` (a file and line, an option, a field; may be empty). Edges translate: the CLI to text and an exit
code, the boot plane to an iPXE script or problem+json, TFTP to an ERROR packet.
"""

import errno
from typing import Any, ClassVar


class ProvisionerError(Exception):
    """Root of the tree; never raised itself."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, where: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.where = where
        self.details = details
        """Plain data that programs may want besides; it stands in the problem+json."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data: ``code``, ``detail``, ``hint``, ``where``, and its details."""
        return self.details | {"code": self.code, "detail": self.message, "hint": self.hint, "where": self.where}


def cause(error: OSError | UnicodeError) -> str:
    """Why a file could not be read, in words for people."""
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    said = {errno.ENOENT: "there is no such file", errno.EACCES: "permission denied", errno.EISDIR: "it is a directory"}
    return said.get(error.errno or 0) or error.strerror or str(error)


class InvalidInput(ProvisionerError):
    """The request itself is wrong."""

    code = "invalid-input"
    status = 400
    exit_code = 1


class MalformedMac(InvalidInput):
    """Not a MAC address in any spelling."""

    code = "mac-malformed"
    default_hint = "write six (Ethernet) or twenty (InfiniBand) bytes in hex, for example 52:54:00:12:34:56"


class MalformedAddress(InvalidInput):
    """Not an IP address or network."""

    code = "address-malformed"
    default_hint = "write an address such as 10.0.2.11, or a network such as 10.0.2.0/24"


class AddressOutsideSubnet(InvalidInput):
    """An address that its subnet does not contain or does not give to machines."""

    code = "address-outside-subnet"
    default_hint = "see the networks with `provisioner subnet list`, or add one with `provisioner subnet add`"


class MalformedName(InvalidInput):
    """A name that the rules for names do not allow."""

    code = "name-malformed"


class MalformedContent(InvalidInput):
    """Broken YAML, an unknown key, or a value of the wrong type."""

    code = "content-malformed"


class ParentCycle(InvalidInput):
    """A profile that would be its own ancestor."""

    code = "parent-cycle"
    default_hint = "choose a parent that does not itself inherit from this profile"


class UnknownReference(InvalidInput):
    """A named profile, distro, image, template or subnet that does not exist."""

    code = "unknown-reference"


class TooLarge(InvalidInput):
    """A body, a list or a page beyond its limit."""

    code = "too-large"
    status = 413
    default_hint = "send it in smaller parts"


class InvalidSettings(InvalidInput):
    """A setting that is unknown or has a wrong value."""

    code = "settings-invalid"
    exit_code = 2


class NotFound(ProvisionerError):
    """No object of that name."""

    code = "not-found"
    status = 404
    exit_code = 3


class Conflict(ProvisionerError):
    """The request is fine; the state of the world refuses it."""

    code = "conflict"
    status = 409
    exit_code = 4


class NameTaken(Conflict):
    """Another object has this name."""

    code = "name-taken"
    default_hint = "choose another name, or edit the object that has it"


class MacTaken(Conflict):
    """Another machine has this MAC address."""

    code = "mac-taken"
    default_hint = "if the card moved, remove it from the other machine first"


class AddressTaken(Conflict):
    """Another interface has this IP address."""

    code = "address-taken"
    default_hint = "choose a free address"


class StillInUse(Conflict):
    """Other objects refer to this one."""

    code = "still-in-use"
    default_hint = "point them elsewhere first"


class Protected(Conflict):
    """The machine is protected: no build, no wipe, no power-off."""

    code = "protected"
    default_hint = "if you are sure: `provisioner machine edit NAME --no-protected`"


class IllegalTransition(Conflict):
    """The build or machine is in a state that does not allow this."""

    code = "illegal-transition"


class BuildNotPossible(Conflict):
    """Something the build needs is missing."""

    code = "build-not-possible"


class InputsChanged(Conflict):
    """An input of the build changed while it was being armed."""

    code = "inputs-changed"
    default_hint = "start the build again: it takes the new content"


class IdentityConflict(Conflict):
    """MACs, serial number and UUID name different machines; ``details`` show both sides."""

    code = "identity-conflict"
    default_hint = "look at both machines; change or remove one of them by hand, then send it again"


class Stale(Conflict):
    """Somebody changed the object, or the world that a plan was made for, in between."""

    code = "stale"
    status = 412
    default_hint = "read it again, then repeat the change"


class NoAddressFree(Conflict):
    """Every address that may be given to machines is used, reserved or held."""

    code = "no-address-free"
    default_hint = "give the subnet another static range, or free addresses of retired machines"


class PlanRefused(Conflict):
    """Machines of a plan cannot be as they were sent; ``details`` say which and why. Nothing is applied."""

    code = "plan-refused"
    default_hint = "mend these machines or leave them out, then plan again"


class StateDirectory(Conflict):
    """The state directory is not initialised, or is already."""

    code = "state-directory"
    default_hint = "run `provisioner init`"


class NeedsMatch(ProvisionerError):
    """A change of an existing object that does not say which version it was made for (RFC 6585, 3)."""

    code = "needs-match"
    status = 428
    default_hint = "read the object and send its ETag as If-Match"


class NotLoggedIn(ProvisionerError):
    """No credential, or one that is unknown, expired or revoked; the answer does not say which."""

    code = "not-logged-in"
    status = 401
    default_hint = "send `Authorization: Bearer TOKEN`; make one with `provisioner token add`"


class Forbidden(ProvisionerError):
    """The credential is good; its role or scope does not allow this."""

    code = "forbidden"
    status = 403
    default_hint = "an administrator can give you another role or a token with another scope"


class TooMany(ProvisionerError):
    """Too often; wait and try again. ``details`` may say how long: ``retry_after`` in seconds."""

    code = "too-many"
    status = 429
    default_hint = "wait, then try again"


class ContentError(ProvisionerError):
    """Templates or media are wrong; the request is not."""

    code = "content"
    status = 422


class TemplateError(ContentError):
    """A template does not parse or fails when rendered; ``where`` is template and line."""

    code = "template-error"
    default_hint = "mend the template and load it with `provisioner apply DIR`, then start the build again"


class RenderLimit(ContentError):
    """A template used more time, memory or output than it may."""

    code = "render-limit"
    default_hint = "look for a loop or a repeated string in the template; 2 s, 256 MB and 1 MB of output are allowed"


class MissingParameter(ContentError):
    """A template asks for a value that no level gives."""

    code = "parameter-missing"


class AnswerInvalid(ContentError):
    """The rendered answer file does not pass its family's validator."""

    code = "answer-invalid"
    default_hint = "mend the template or the parameter at this place; nothing was armed"


class MediaMissing(ContentError):
    """A kernel, initrd, image or loader that should be there is not."""

    code = "media-missing"


class Refused(ProvisionerError):
    """No right to this. The answer to the caller does not say why; the machine's events do."""

    code = "refused"
    status = 404


class TokenRefused(Refused):
    """A token that is unknown, dead, of another purpose, or used from the wrong address."""

    code = "token-refused"
    status = 403


class SecretGone(Refused):
    """A secret that this attempt already took."""

    code = "secret-gone"
    status = 410


class Unavailable(ProvisionerError):
    """A resource of this host is missing; trying again may help."""

    code = "unavailable"
    status = 503


class DatabaseUnavailable(Unavailable):
    """The database cannot be asked: locked beyond the limit, unreadable, or not running."""

    code = "database-unavailable"
    default_hint = "see `provisioner check`; machines that boot meanwhile get their local disk"


class StorageFull(Unavailable):
    """No space is left where the state directory lives."""

    code = "storage-full"
    status = 507
    default_hint = "free some space; nothing was half-written, so simply try again"


class PortInUse(Unavailable):
    """Another program listens on an address that a listener of ours needs."""

    code = "port-in-use"


class ProgramMissing(Unavailable):
    """A program that this step needs is not installed."""

    code = "program-missing"


class ProgramFailed(Unavailable):
    """A program that this step needs ended with an error."""

    code = "program-failed"


class KeyUnusable(Unavailable):
    """A key file is missing, empty, unreadable or not a key: we refuse rather than run without."""

    code = "key-unusable"
    default_hint = "restore the file from its backup; without the master key stored secrets stay unusable"


class CredentialMissing(Unavailable):
    """A file that a profile's handoff names is not in the credentials directory, or cannot be read."""

    code = "credential-missing"


class HandoffUnreachable(Unavailable):
    """The server of a configuration management tool gives no answer, or not the one of that tool."""

    code = "handoff-unreachable"
    default_hint = "see `provisioner check`, which tries every handoff"


class HandoffRefused(Unavailable):
    """The server of a configuration management tool refuses what a handoff needs."""

    code = "handoff-refused"
    default_hint = "see `provisioner check`, which tries every handoff"


class InventoryFailed(Unavailable):
    """The inventory cannot be reached, refuses us, or is not what its setting says."""

    code = "inventory-failed"
    default_hint = "see `provisioner check` and the setting `netbox`"


class Unreachable(Unavailable):
    """The server that a command talks to cannot be reached, or gives no answer."""

    code = "unreachable"


class Untrusted(Unavailable):
    """The server's certificate is not one that we trust: nothing was sent to it."""

    code = "certificate-untrusted"


class NotProvisioner(Unavailable):
    """What answers is not Provisioner's API, or another version of it."""

    code = "not-provisioner"


class NotAcknowledged(Unavailable):
    """A daemon has not yet taken a change that must be in force first."""

    code = "not-acknowledged"
    default_hint = "is `provisioner serve` running? see `provisioner check`"
