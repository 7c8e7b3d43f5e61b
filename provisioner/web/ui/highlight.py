"""Text for the eye: answer files with syntax colours, unified diffs with their lines marked. All of it is escaped."""

from html import escape

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer, RegexLexer, bygroups, include, using
from pygments.lexers import BashLexer, DjangoLexer, IniLexer, JsonLexer, TextLexer, XmlLexer, YamlLexer
from pygments.token import Comment, Keyword, Name, String, Text

_LONGEST = 400_000
"""Characters that are coloured; longer texts are shown plain, for colouring takes a second for each million."""


class KickstartLexer(RegexLexer):
    """Kickstart: commands, and sections whose bodies are shell."""

    name = "Kickstart"
    tokens = {
        "root": [
            (r"#.*\n", Comment),
            (r"^(%(?:pre-install|pre|post|onerror|traceback)\b)(.*\n)", bygroups(Keyword, Name.Attribute), "script"),
            (r"^(%\w+)(.*\n)", bygroups(Keyword, Name.Attribute)),
            (r"^([a-z]+)(?=[ \n])", Name.Function),
            (r"--[\w-]+", Name.Attribute),
            (r'"[^"\n]*"|\'[^\'\n]*\'', String),
            (r"[^\n\"'#-]+|.|\n", Text),
        ],
        "script": [
            (r"^%end\b", Keyword, "#pop"),
            (r"[^\n]*\n", using(BashLexer)),
            (r"[^\n]+", using(BashLexer)),
        ],
    }


class PreseedLexer(RegexLexer):
    """Debconf preseeding: owner, question, type, value."""

    name = "Preseed"
    tokens = {
        "root": [
            (r"#.*\n", Comment),
            (
                r"^(\S+)([ \t]+)(\S+)([ \t]+)(\S+)",
                bygroups(Name.Namespace, Text, Name.Function, Text, Keyword.Type),
            ),
            include("rest"),
        ],
        "rest": [(r"[^\n]+|\n", String)],
    }


_LEXERS: dict[str, type[Lexer]] = {
    "kickstart": KickstartLexer,
    "preseed": PreseedLexer,
    "autoinstall": YamlLexer,
    "autoyast": XmlLexer,
    "esxi": KickstartLexer,
    "ignition": JsonLexer,
    "script": BashLexer,
    "snippets": DjangoLexer,
    "template": DjangoLexer,
    "yaml": YamlLexer,
    "json": JsonLexer,
    "ini": IniLexer,
}


def code(text: str, kind: str = "", *, first: int = 1) -> Markup:
    """The text as numbered lines; ``kind`` is a template's kind, yaml or json. Each line has the id ``LNUMBER``."""
    numbered = [
        f'<span class="line" id="L{number}"><i aria-hidden="true">{number}</i>{line}</span>'
        for number, line in enumerate(coloured(text, kind), first)
    ]
    return Markup('<pre class="code" tabindex="0"><code>' + "\n".join(numbered) + "</code></pre>")  # noqa: S704


def coloured(text: str, kind: str = "") -> list[Markup]:
    """The text's lines with their colours, for an editor."""
    lines = _coloured(text, kind) if len(text) <= _LONGEST else str(escape(text))
    return [Markup(line) for line in lines.removesuffix("\n").split("\n")]  # noqa: S704


def _coloured(text: str, kind: str) -> str:
    lexer = _LEXERS.get(kind, TextLexer)(stripnl=False, ensurenl=False)
    # Each line's spans are closed at its end, so lines can be wrapped one by one.
    return str(highlight(text, lexer, HtmlFormatter(nowrap=True)))


def diff(text: str) -> Markup:
    """A unified diff; what was added and taken away is marked by colour and by its sign."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    lines = []
    for line in text.rstrip("\n").split("\n"):
        kind = "file" if line.startswith(("+++", "---")) else kinds.get(line[:1], "")
        lines.append(f'<span class="line {kind}">{escape(line)}</span>')
    return Markup('<pre class="diff" tabindex="0"><code>' + "\n".join(lines) + "</code></pre>")  # noqa: S704
