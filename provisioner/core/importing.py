"""Machines as files: CSV, YAML and JSON, read strictly and written so that reading gives the same back.

CSV has a row a machine, for spreadsheets: the first interface in ``mac``, ``ip``, ``nic`` (its name) and ``subnet``,
the second in ``mac2``, ``ip2`` and so on; ``next:lab`` in ``ip`` is the next free one of the subnet lab. ``tags`` and
``kernel_options`` are words, tags with spaces or commas between; ``param.NAME`` is a parameter, JSON or else a text. An
empty cell changes nothing, ``-`` empties the field. A cell that a spreadsheet would run as a formula is written with an
apostrophe before it, and read without.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.core.content import dump_yaml, load_yaml
from provisioner.core.fields import MOST_INTERFACES
from provisioner.core.machineinput import NEXT, READERS
from provisioner.errors import MalformedContent, ProvisionerError, TooLarge

FORMATS = ("csv", "yaml", "json")
MOST_BYTES = 32 << 20
MOST_CELL = 256 * 1024
MOST_MACHINES = 10_000
_NICS = {"mac": "mac", "ip": "ip", "nic": "name", "subnet": "subnet"}
_NIC_COLUMN = re.compile(r"(mac|ip|nic|subnet)([2-9]|[1-9][0-9])?")
_WORDS = ("tags", "kernel_options")
_BETWEEN = {"tags": re.compile(r"[\s,;]+"), "kernel_options": re.compile(r"\s+")}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PLAIN = ("name", "profile", "description", "serial", "uuid", "inventory", "local_boot")
_FIRST = ("name", "mac", "ip", "profile", "tags", "serial", "uuid", "inventory", "description", "local_boot")
_NOTHING = "-"
_GUARD = "'"
# What makes a formula of a cell, for the spreadsheets of this world; and our own marks, so that they come back.
_GUARDED = ("=", "+", "-", "@", "\t", "\r", "\n", _GUARD)
_UNREADABLE = "mend the file"


@dataclass(frozen=True)
class Imported:
    """The machines of a file, and where in it each stands, for people."""

    machines: list[Any]
    places: list[str]


def read(data: bytes, form: str, where: str) -> Imported:
    """The machines in a file. Raises MalformedContent or TooLarge that name the place."""
    if len(data) > MOST_BYTES:
        raise TooLarge(f"larger than {MOST_BYTES >> 20} MiB", where=where, hint="split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedContent(
            f"not UTF-8 text: byte {data[error.start]:#04x} at {error.start}", where=where, hint="save it as UTF-8"
        ) from error
    if form == "csv":
        return _read_csv(text, where)
    loaded = load_json(text, where) if form == "json" else load_yaml(text, where, most=MOST_BYTES)
    if isinstance(loaded, Mapping) and set(loaded) == {"machines"}:
        loaded = loaded["machines"]
    if not isinstance(loaded, list):
        raise MalformedContent(
            "not a list of machines", where=where, hint="`provisioner machine export` shows the shape"
        )
    _refuse_many(len(loaded), where)
    return Imported(loaded, [f"machine {number}" for number in range(1, len(loaded) + 1)])


def _refuse_many(count: int, where: str) -> None:
    if count > MOST_MACHINES:
        raise TooLarge(f"more than {MOST_MACHINES} machines", where=where, hint="split it")


def load_json(text: str, where: str) -> Any:
    """The JSON as plain data; duplicate keys, NaN and numbers that no double holds are refused with their place."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise MalformedContent(
            f"broken JSON: {error.msg}", where=f"{where}:{error.lineno}:{error.colno}", hint=_UNREADABLE
        ) from error
    except RecursionError as error:
        raise MalformedContent("broken JSON: nested too deeply", where=where, hint=_UNREADABLE) from error
    except ValueError as error:
        # A key that stands twice, NaN; or an integer of more digits than Python reads.
        raise MalformedContent(f"broken JSON: {error}"[:200], where=where, hint=_UNREADABLE) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"{twice[:80]!r} stands twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number that others can read")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _read_csv(text: str, where: str) -> Imported:
    head = text.partition("\n")[0]
    delimiter = ";" if ";" in head and "," not in head else ","  # as spreadsheets write it where the comma is decimal
    csv.field_size_limit(MOST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    machines, places = [], []
    columns: list[str] | None = None
    try:
        for row in rows:
            if not any(row):
                continue
            if columns is None:
                columns = _columns(row, where)
                continue
            places.append(f"line {rows.line_num}")
            machines.append(_machine(columns, row, f"{where}:{rows.line_num}"))
            _refuse_many(len(machines), where)
    except csv.Error as error:
        raise MalformedContent(f"broken CSV: {error}", where=f"{where}:{rows.line_num}", hint=_UNREADABLE) from error
    if columns is None:
        raise MalformedContent("there is no header", where=where, hint="begin with a line such as name,mac,ip,profile")
    return Imported(machines, places)


def _columns(row: Sequence[str], where: str) -> list[str]:
    columns = [each.strip() for each in row]
    for column in columns:
        found = _NIC_COLUMN.fullmatch(column)
        number = int(found[2] or 1) if found else 1
        if not (found or column in READERS or column.startswith("param.")) or number > MOST_INTERFACES:
            raise MalformedContent(
                f"unknown column {column[:80]!r}",
                where=f"{where}:1",
                hint=f"columns are {', '.join((*_FIRST, 'kernel_options', 'protected', 'retired'))}, mac2, ip2, ..., "
                "nic, subnet, param.NAME",
            )
        if column in {"interfaces", "parameters"}:
            raise MalformedContent(
                f"{column!r} is no column", where=f"{where}:1", hint="write mac, ip, mac2, ip2, ... and param.NAME"
            )
    twice = {each for each in columns if columns.count(each) > 1}
    if twice:
        raise MalformedContent(f"the column {min(twice)!r} stands twice", where=f"{where}:1", hint="leave one out")
    return columns


def _machine(columns: Sequence[str], row: Sequence[str], where: str) -> dict[str, Any]:
    if len(row) > len(columns):
        raise MalformedContent(
            f"{len(row)} cells under {len(columns)} columns", where=where, hint="put cells with commas in quotes"
        )
    machine: dict[str, Any] = {}
    nics: dict[int, dict[str, Any]] = {}
    for column, cell in zip(columns, row, strict=False):
        if cell == "":
            continue
        empty, text = cell == _NOTHING, cell.removeprefix(_GUARD)
        try:
            if found := _NIC_COLUMN.fullmatch(column):
                nics.setdefault(int(found[2] or 1), {})[_NICS[found[1]]] = None if empty else text
            elif column.startswith("param."):
                value = None if empty else _parameter(text, where)
                machine.setdefault("parameters", {})[column.removeprefix("param.")] = value
            else:
                machine[column] = _field(column, None if empty else text)
        except ProvisionerError as error:
            error.where = f"{where} {column}"
            raise
    if nics:
        machine["interfaces"] = [_nic(nics.get(number, {})) for number in range(1, max(nics) + 1)]
    return machine


def _nic(cells: dict[str, str | None]) -> dict[str, str | None]:
    """``next:lab`` in the column ``ip`` is the next free address of the subnet lab, as on the command line."""
    word, _, subnet = (cells.get("ip") or "").partition(":")
    return cells | {"ip": NEXT, "subnet": subnet} if word == NEXT and subnet else cells


def _field(column: str, text: str | None) -> Any:
    if column in _WORDS:
        # People part tags with commas too; a kernel option holds some of its own (console=ttyS0,115200n8).
        return [word for word in _BETWEEN[column].split(text or "") if word]
    if column in ("protected", "retired"):
        if text is None or text.strip().lower() not in _FLAGS:
            raise MalformedContent(f"{text!r:.80} is neither true nor false", hint="write true or false")
        return _FLAGS[text.strip().lower()]
    return text


def _parameter(text: str, where: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return load_json(text, where)
    except MalformedContent:
        return text


def write(machines: Iterable[Mapping[str, Any]], form: str) -> str:
    """These machines (snapshots) as a file that `read` takes, and that changes nothing."""
    plain = [{key: machine[key] for key in READERS} for machine in machines]
    if form == "json":
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    return dump_yaml(plain) if form == "yaml" else _write_csv(plain)


def _write_csv(machines: Sequence[Mapping[str, Any]]) -> str:
    rows = [_cells(machine) for machine in machines]
    used = {column for row in rows for column, cell in row.items() if cell != ""}
    order = [*_FIRST, "kernel_options", "protected", "retired"]
    numbers = ["", *map(str, range(2, MOST_INTERFACES + 1))]
    order += [f"{each}{number}" for number in numbers for each in _NICS if f"{each}{number}" not in order]
    columns = [each for each in order if each in used or each in ("name", "mac", "ip", "profile")]
    columns += sorted(each for each in used if each.startswith("param."))
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def _cells(machine: Mapping[str, Any]) -> dict[str, str]:
    cells = {key: _guarded(machine[key] or "") for key in _PLAIN}
    cells |= {key: _guarded(" ".join(machine[key])) for key in _WORDS}
    cells |= {key: "true" if machine[key] else "" for key in ("protected", "retired")}
    for number, nic in enumerate(machine["interfaces"], 1):
        suffix = "" if number == 1 else str(number)
        # What follows by itself is left out: fewer columns to read.
        told = {"mac": nic["mac"], "ip": nic["ip"]}
        told["nic"] = nic["name"] if nic["name"] != f"nic{number - 1}" else None
        told["subnet"] = nic["subnet"] if nic["subnet"] and not nic["ip"] else None
        if not any(told.values()):
            told["nic"] = nic["name"]
        cells |= {f"{key}{suffix}": _guarded(value or "") for key, value in told.items()}
    return cells | {f"param.{name}": _guarded(_told(value)) for name, value in machine["parameters"].items()}


def _told(value: Any) -> str:
    """A parameter as a cell: a text as it is where it would not be read as something else."""
    if isinstance(value, str) and value and value == _parameter(value, ""):
        return value
    return json.dumps(value, ensure_ascii=False)


def _guarded(text: str) -> str:
    return _GUARD + text if text.startswith(_GUARDED) else text


def _quoted(cell: str) -> str:
    special = any(char in cell for char in ',;"\r\n') or cell != cell.strip()
    return '"' + cell.replace('"', '""') + '"' if special else cell
