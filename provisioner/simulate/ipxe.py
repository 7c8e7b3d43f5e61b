"""What iPXE does with a script: the part of its language that Provisioner's scripts, and most others, are made of.

One command a line; ``||`` and ``&&`` decide from left to right, as in a shell without precedence. A command that fails
and whose failure nothing follows up ends the script.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import quote

Kind = Literal["boot", "local", "exit", "reboot", "halt", "failed"]

HALT_SECONDS = 3600.0
"""A script that sleeps for an hour waits for somebody to switch the machine off."""
_MOST_COMMANDS = 5000
_SETTING = re.compile(r"\$\{([^}:]*)(?::([^}]*))?\}")
_IGNORED = frozenset(
    {"echo", "prompt", "console", "cpair", "colour", "clear", "imgstat", "ifstat", "route", "ifopen", "ifclose", "show"}
)


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    ``boot``: kernel and initrds were loaded and run; ``local``: to the disk, by the script's own means; ``exit``: back
    to the firmware, whose next boot device is the disk; ``halt``: a message until somebody comes; ``failed``: a command
    failed and the script had no way on.
    """

    kind: Kind
    arguments: tuple[str, ...] = ()
    """The kernel's command line."""
    said: tuple[str, ...] = ()
    """What the last script had on the console."""


class Host(Protocol):
    """The machine that runs a script."""

    async def script(self, url: str) -> str | None:
        """Fetch another script; None if that failed."""

    async def image(self, name: str, url: str) -> bool:
        """Load a kernel, an initrd or a program; whether that worked."""

    async def pause(self, seconds: float) -> None:
        """Sleep."""

    async def lease(self) -> bool:
        """Ask DHCP; whether it gave an address."""


@dataclass
class _State:
    lines: list[str]
    settings: dict[str, str]
    position: int = 0
    kernel: tuple[str, ...] | None = None
    said: list[str] = field(default_factory=list)
    ended: Outcome | None = None
    chained: str | None = None


class Interpreter:
    """iPXE on one machine. ``settings`` are what ``${...}`` may name: ``netX/mac``, ``uuid``, ``platform`` ..."""

    def __init__(self, host: Host, settings: Mapping[str, str]) -> None:
        self._host = host
        self._settings = dict(settings)

    async def run(self, text: str) -> Outcome:
        """Run the script and whatever it chains to. Raises ValueError for a command that iPXE would not know."""
        script: str | None = text
        state = _State([], self._settings)
        while script is not None:
            if not script.startswith("#!ipxe"):
                return Outcome("failed", said=("not an iPXE script",))
            state = _State(script.splitlines(), self._settings)
            await self._one(state)
            script = state.chained
        return state.ended or Outcome("exit", said=tuple(state.said))

    async def _one(self, state: _State) -> None:
        for _ in range(_MOST_COMMANDS):
            if state.ended is not None or state.chained is not None or state.position >= len(state.lines):
                return
            line = state.lines[state.position].strip()
            state.position += 1
            if line and not line.startswith(("#", ":")) and not await self._line(state, line):
                state.ended = Outcome("failed", said=(*state.said, f"failed: {line}"))
        if state.ended is None and state.chained is None:
            state.ended = Outcome("failed", said=(*state.said, "the script goes round and round"))

    async def _line(self, state: _State, line: str) -> bool:
        good, connective = True, ""
        for part in re.split(r"(?:^|\s+)(\|\||&&)(?:\s+|$)", line):
            if part in {"||", "&&"}:
                connective = part
                continue
            if connective == ("||" if good else "&&"):
                continue
            position = state.position
            good = await self._command(state, part) if part.strip() else True
            if state.ended is not None or state.chained is not None or state.position != position:
                return True
        return good

    async def _command(self, state: _State, text: str) -> bool:
        words = [self._expand(word) for word in text.split()]
        name, arguments = words[0], words[1:]
        if name == "echo":
            state.said.append(" ".join(arguments))
            return True
        if name in _IGNORED:
            return True
        plain = _PLAIN.get(name)
        if plain is not None:
            return plain(state, arguments)
        acting = {
            "sleep": self._sleep,
            "dhcp": self._dhcp,
            "chain": self._chain,
            "kernel": self._kernel,
            "initrd": self._initrd,
        }.get(name)
        if acting is None:
            raise ValueError(f"iPXE has no command {name!r}")
        return await acting(state, arguments)

    def _expand(self, word: str) -> str:
        def value(found: re.Match[str]) -> str:
            text = self._settings.get(found[1], "")
            if found[2] == "hexhyp":
                return text.replace(":", "-")
            return quote(text, safe="-_.~") if found[2] == "uristring" else text

        return _SETTING.sub(value, word)

    async def _sleep(self, state: _State, arguments: list[str]) -> bool:
        seconds = float(arguments[0])
        if seconds >= HALT_SECONDS:
            state.ended = Outcome("halt", said=tuple(state.said))
        else:
            await self._host.pause(seconds)
        return True

    async def _dhcp(self, state: _State, arguments: list[str]) -> bool:
        del state, arguments
        return await self._host.lease()

    async def _chain(self, state: _State, arguments: list[str]) -> bool:
        url, _ = _target(arguments)
        if url.partition("?")[0].endswith(".efi"):
            # A small EFI program that looks for the disk's own loader: nothing comes back from it.
            if not await self._host.image("local-loader", url):
                return False
            state.ended = Outcome("local", said=tuple(state.said))
            return True
        state.chained = await self._host.script(url)
        return state.chained is not None

    async def _kernel(self, state: _State, arguments: list[str]) -> bool:
        url, rest = _target(arguments)
        if not await self._host.image("kernel", url):
            return False
        state.kernel = tuple(rest)
        return True

    async def _initrd(self, state: _State, arguments: list[str]) -> bool:
        del state
        return await self._host.image("initrd", _target(arguments)[0])


def _target(arguments: list[str]) -> tuple[str, list[str]]:
    """The URL of ``chain``, ``kernel`` or ``initrd``, and the words after it."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in {"--name", "-n", "--timeout", "-t"} and rest:
            rest.pop(0)
    if not rest:
        raise ValueError("no URL")
    return rest[0], rest[1:]


def _goto(state: _State, arguments: list[str]) -> bool:
    state.position = state.lines.index(f":{arguments[0]}") + 1
    return True


def _set(state: _State, arguments: list[str]) -> bool:
    state.settings[arguments[0].partition(":")[0]] = " ".join(arguments[1:])
    return True


def _isset(state: _State, arguments: list[str]) -> bool:
    del state
    return bool(arguments and arguments[0])


def _iseq(state: _State, arguments: list[str]) -> bool:
    del state
    return arguments[:1] == arguments[1:2]


def _inc(state: _State, arguments: list[str]) -> bool:
    by = int(arguments[1]) if len(arguments) > 1 else 1
    state.settings[arguments[0]] = str(int(state.settings.get(arguments[0]) or "0") + by)
    return True


def _ended(kind: Kind) -> Callable[[_State, list[str]], bool]:
    def end(state: _State, arguments: list[str]) -> bool:
        del arguments
        state.ended = Outcome(kind, said=tuple(state.said))
        return True

    return end


def _boot(state: _State, arguments: list[str]) -> bool:
    del arguments
    if state.kernel is None:
        return False
    state.ended = Outcome("boot", state.kernel, tuple(state.said))
    return True


def _imgfree(state: _State, arguments: list[str]) -> bool:
    del arguments
    state.kernel = None
    return True


_PLAIN: Mapping[str, Callable[[_State, list[str]], bool]] = {
    "goto": _goto,
    "set": _set,
    "isset": _isset,
    "iseq": _iseq,
    "inc": _inc,
    "exit": _ended("exit"),
    "reboot": _ended("reboot"),
    "sanboot": _ended("local"),
    "boot": _boot,
    "imgfree": _imgfree,
}


def classify(text: str) -> str:
    """What a script of Provisioner does: ``build``, ``local``, ``halt``, ``discovery`` or ``other``."""
    commands = [line.split() for line in text.splitlines() if line.strip()]
    names = {words[0] for words in commands}
    if "kernel" in names:
        return "build"
    if "sanboot" in names or "booting the local disk" in text:
        return "local"
    if any(words[:2] == ["sleep", "3600"] for words in commands):
        return "halt"
    return "discovery" if "sleep" in names and "chain" in names else "other"
