"""Moments as people and programs write them."""

from datetime import UTC, datetime

from provisioner.errors import InvalidInput


def moment(value: object, where: str) -> datetime:
    """The moment in UTC that an ISO 8601 text means; a day alone is its beginning, no zone is UTC.

    Raises InvalidInput.
    """
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{str(value)[:80]!r} is not a date",
            where=where,
            hint="write it as 2030-12-31 or 2030-12-31T18:00:00Z",
        ) from None


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``42 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    left = max(0, round(seconds))
    parts = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts.append((count, name))
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count or (count, name) == parts[0])
