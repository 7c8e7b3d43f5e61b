"""Which line of which template an output line comes from.

A template is rendered once more, with a marker before the first visible text of each of its lines and before each
``{{``. Read back, the markers say where every output line began; without them, the text must be what it was.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

_LINES = re.compile(r"[^\n]*\n?")
_VISIBLE = re.compile(r"\S")


class Marks(Extension):
    """Puts the markers in. The environment's ``marks`` is a text of letters that no output holds by chance."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The tokens of one template, marked; whitespace control is already done at this point."""
        for token in stream:
            if token.type == "data":
                yield Token(token.lineno, token.type, self._marked(str(stream.name), token.lineno, token.value))
                continue
            if token.type == "variable_begin":
                yield Token(token.lineno, "data", self._mark(str(stream.name), token.lineno, "v"))
            yield token

    def _marked(self, name: str, first: int, text: str) -> str:
        marked = []
        for number, line in enumerate(_LINES.findall(text), first):
            visible = _VISIBLE.search(line)
            at = visible.start() if visible else 0
            marked.append(line[:at] + self._mark(name, number, "t") + line[at:] if visible else line)
        return "".join(marked)

    def _mark(self, name: str, line: int, kind: str) -> str:
        places: list[str] = self.environment.places  # type: ignore[attr-defined]
        places.append(f"{name}:{line}")
        # Letters and digits alone, so that filters which quote or check a captured text treat it as before.
        return f"{self.environment.marks}{len(places) - 1}{kind}"  # type: ignore[attr-defined]


def read(marked: str, places: Sequence[str], marks: str, text: str) -> tuple[str, ...]:
    """The place, ``TEMPLATE:LINE``, of each line of ``text``; an empty text where it cannot be said for certain.

    ``marked`` is the same rendering with markers. A line that came out otherwise with them has no place, and none has
    one if the number of lines is another: then a template looked at its own text.
    """
    mark = re.compile(rf"{re.escape(marks)}(\d{{1,9}})([tv])", re.IGNORECASE)  # a filter may have changed the case
    wanted, found = text.split("\n"), marked.split("\n")
    if len(wanted) != len(found):
        return ("",) * len(wanted)
    place, answer = "", []
    for plain, line in zip(wanted, found, strict=True):
        first, last = _first_and_last(mark, line, places)
        place = first or place  # a line without markers is the rest of a value of several lines
        same = mark.sub("", line).strip() == plain.strip()  # `indent` leaves lines alone that are blank
        answer.append(place if same else "")
        place = last or place
    return tuple(answer)


def _first_and_last(mark: re.Pattern[str], line: str, places: Sequence[str]) -> tuple[str, str]:
    """The place at which a line begins, and the one at its end; empty texts for none.

    That is where its first text of a template stands: what comes before is a value, or was put there by `indent`. Of a
    line of values alone it is the last ``{{`` with nothing visible before it: a call, then the macro's own line.
    """
    text, value, last, end, begun = "", "", "", 0, False
    for found in mark.finditer(line):
        last = _at(places, int(found[1]))
        if found[2] in "tT":
            text = text or last
        begun = begun or bool(value and line[end : found.start()].strip())
        value = value if begun else last
        end = found.end()
    return text or value, last


def _at(places: Sequence[Any], index: int) -> str:
    return str(places[index]) if index < len(places) else ""
