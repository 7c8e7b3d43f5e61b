"""Package installations in a preseed that would wait for ever.

Debian's installer runs the commands of a preseed with ``DEBIAN_HAS_FRONTEND`` set and its debconf on descriptor 3. A
program of the new system inherits both: the first package that asks debconf anything then talks to the installer's
debconf, and neither answers the other. ``in-target`` and ``apt-install`` arrange for that, and so does a clean
environment: ``env -i PATH=... DEBIAN_FRONTEND=noninteractive chroot /target ... </dev/null 3>&-``.
"""

import re
import shlex
from collections.abc import Iterator

_PROGRAMS = frozenset({"apt-get", "apt", "aptitude", "tasksel", "dpkg-reconfigure", "debconf-apt-progress"})
_DPKG = frozenset({"-i", "-r", "-P", "--install", "--remove", "--purge", "--configure", "--unpack", "--triggers-only"})
_SAFE = frozenset({"in-target", "apt-install", "provisioner_inside"})
_HARMLESS = frozenset({"echo", "printf", "grep", "provisioner_say", "provisioner_event", "provisioner_stop"})
_BEFORE = frozenset({"if", "then", "else", "elif", "while", "until", "do", "!", "{", "(", "exec", "command"})
_SEPARATORS = ";&|()\n"
_HEREDOC = re.compile(r"<<-?\s*[\"']?([A-Za-z_]\w*)[\"']?")
_CLOSED = "3-is-closed"


def trapped(script: str) -> Iterator[tuple[int, str]]:
    """The line (from 1) and text of each command that runs packages' programs with the installer's debconf.

    A quoted argument counts as commands too (``sh -c "apt-get ..."``); here documents do not, they are files.
    """
    for number, line in _lines(script):
        for words in _commands(line):
            if _is_trapped(words):
                yield number, " ".join(words)


def _lines(script: str) -> Iterator[tuple[int, str]]:
    """Continued lines joined; here documents and comments left out."""
    pending, start, document = "", 0, ""
    for number, line in enumerate(script.splitlines(), 1):
        if document:
            document = "" if line.strip() == document else document
            continue
        start = start or number
        pending += line
        if pending.endswith("\\"):
            pending = f"{pending[:-1]} "
            continue
        found = _HEREDOC.search(pending)
        document = found[1] if found else ""
        if not pending.lstrip().startswith("#"):
            yield start, pending
        pending, start = "", 0
    if pending:
        yield start, pending


def _commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, as words. One whose quote goes on in the next line is split at spaces alone."""
    line = re.sub(r"[0-9]*[<>]&[0-9-]", " ", line.replace("3>&-", f" {_CLOSED} "))
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace_split = True
    lexer.commenters = ""  # it would take the rest of ${name#prefix} too
    try:
        words = list(lexer)
    except ValueError:
        words = line.split()
    command: list[str] = []
    for word in words:
        if word.startswith("#"):
            break
        if word and set(word) <= set(_SEPARATORS):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _is_trapped(words: list[str]) -> bool:
    while words and (words[0] in _BEFORE or re.match(r"\w+=", words[0])):
        words = words[1:]
    if words and _name(words[0]) == "log-output":
        return _is_trapped([word for word in words[1:] if word not in {"-t", "--pass-stdout"}][("-t" in words) :])
    if not words or _name(words[0]) in _SAFE | _HARMLESS or _is_clean(words):
        return False
    return any(_installs(word, words) for word in words)


def _is_clean(words: list[str]) -> bool:
    return _name(words[0]) == "env" and "-i" in words and _CLOSED in words


def _installs(word: str, words: list[str]) -> bool:
    if re.search(r"[\s;&|]", word):
        return any(_is_trapped(inner) for _, line in _lines(word) for inner in _commands(line))
    return _name(word) in _PROGRAMS or (_name(word) == "dpkg" and not _DPKG.isdisjoint(words))


def _name(word: str) -> str:
    return word.rsplit("/", 1)[-1] if word.startswith(("/bin/", "/sbin/", "/usr/")) else word
