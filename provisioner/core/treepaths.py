"""Names and links of an install tree that somebody else made: which may be written, and where a link may lead."""

import unicodedata

from provisioner.errors import InvalidInput

LONGEST_NAME = 255
LONGEST_PATH = 1024
DEEPEST = 40


def name(text: str) -> str:
    """One name of a directory of the tree. Raises InvalidInput unless it names something in that directory."""
    bad = (
        text in {"", ".", ".."}
        or any(character in "/\\" or unicodedata.category(character) in {"Cc", "Cs"} for character in text)
        or len(text.encode(errors="surrogatepass")) > LONGEST_NAME
    )
    if bad:
        raise InvalidInput(
            f"it has a file called {text[:80]!r}, which no honest tree has",
            hint="nothing was imported; get the medium from where its checksum is published, and give --sha256",
        )
    return text


def path(text: str) -> str:
    """A path below the tree's root, names joined by single slashes. Raises InvalidInput for any other."""
    parts = text.split("/")
    for part in parts:
        name(part)
    if len(text) > LONGEST_PATH or len(parts) > DEEPEST:
        raise InvalidInput(
            f"the path {text[:80]!r}... is too long or too deep",
            hint=f"at most {LONGEST_PATH} characters and {DEEPEST} directories are taken; nothing was imported",
        )
    return text


def stays_inside(link: str, target: str) -> bool:
    """Whether the link (a path below the root) leads to something below the root, whatever other links there are.

    Steps up may only come first: from the link's own directory, which is no link, they cannot leave the tree as long
    as they are not more than it is deep. A step up after a name could start from wherever that name links to.
    """
    parts = target.split("/")
    if not target or target.startswith("/") or "\0" in target or len(target) > LONGEST_PATH:
        return False
    while parts and parts[-1] == "":
        parts.pop()
    ups = 0
    while ups < len(parts) and parts[ups] in {"..", "."}:
        ups += 1
    rest = parts[ups:]
    if parts[:ups].count("..") > link.count("/"):
        return False
    return all(part not in {"", "..", "."} and "\\" not in part for part in rest)
