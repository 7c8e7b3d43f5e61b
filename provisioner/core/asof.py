"""Moments as people write them."""

import re
from datetime import UTC, datetime, time, tzinfo

from provisioner.errors import InvalidInput

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_HINT = "write 2026-11-20, '2026-11-20 14:30', or in full 2026-11-20T14:30:00+00:00"


def as_of(text: str, zone: tzinfo | None = UTC, *, where: str = "as_of", end_of_day: bool = True) -> datetime:
    """A date, or a date and time, as a moment in UTC; ``zone`` is that of a text that names none, None the host's.

    A date alone is the end of that day (or its beginning): what was changed in its course counts. Raises InvalidInput.
    """
    spelled = text.strip()
    try:
        if not spelled.isascii() or not _DATE.match(spelled):
            raise ValueError  # noqa: TRY301 - fromisoformat() takes more spellings than people mean
        parsed = datetime.fromisoformat(spelled)
        if _DATE.fullmatch(spelled):
            parsed = datetime.combine(parsed.date(), time.max if end_of_day else time.min)
        if parsed.tzinfo is None:
            parsed = parsed.astimezone() if zone is None else parsed.replace(tzinfo=zone)
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{text[:80]!r} is no moment", where=where, hint=_HINT) from error
