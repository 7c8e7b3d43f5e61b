"""`provisioner simulate`."""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from provisioner.cli.common import Context, options, pass_context, print_rows
from provisioner.errors import InvalidInput

if TYPE_CHECKING:
    from provisioner.simulate import Plan, Result

_COLUMNS = ("step", "count", "p50", "p95", "p99", "max", "bytes", "retries", "failures")
_PLAIN_SECONDS = 5.0
_SHOWN = 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_PLAN_OPTIONS = options(
    click.option(
        "--firmware",
        type=click.Choice(("mixed", "bios", "uefi")),
        default="mixed",
        show_default=True,
        help="What the machines are; mixed: every second one is UEFI.",
    ),
    click.option("--arrival", type=float, default=0.0, metavar="SECONDS", help="Power them on within this time."),
    click.option("--think", type=float, default=0.0, metavar="SECONDS", help="What a machine takes between two steps."),
    click.option("--speed", type=float, default=1.0, metavar="FACTOR", help="Divide all pauses and think times."),
    click.option("--fail", multiple=True, metavar="STEP[:SHARE]", help="Installers report a failure after this step."),
    click.option("--power-cut", multiple=True, metavar="STEP[:SHARE]", help="Machines lose power after this step."),
    click.option("--never", multiple=True, metavar="STEP[:SHARE]", help="Machines stop dead after this step."),
    click.option("--cuts", type=int, default=1, show_default=True, help="How often the power is cut."),
    click.option("--outage", type=float, default=62.0, show_default=True, help="Seconds until the power is back."),
    click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same play."),
    click.option("--kernel-size", default="64K", show_default=True, help="Bytes; K, M and G are understood."),
    click.option("--initrd-size", default="256K", show_default=True, help="Likewise; real ones have 60M to 1G."),
    click.option("--subnet", default="127.64.0.0/16", show_default=True, metavar="CIDR", help="Where they live."),
    click.option("--dhcp", default="", metavar="INTERFACE", help="Also ask DHCP there, which is made `authoritative`."),
    click.option("--limit", type=float, default=1800.0, show_default=True, help="Seconds until a machine is given up."),
    click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="Wait so long for the service to start."),
)


@click.command()
@click.argument("machines", type=int, required=False)
@_PLAN_OPTIONS
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), help="Write what they saw, as JSON lines.")
@click.option("--keep", is_flag=True, help="Leave the machines, to look at; so it does when something is wrong.")
@click.option("--clean", is_flag=True, help="Only remove what earlier runs kept.")
@click.option(
    "--output", "-o", "form", type=click.Choice(("table", "json")), default="table", show_default=True, help="How."
)
@pass_context
def simulate(
    context: Context,
    /,
    machines: int | None,
    journal: Path | None,
    keep: bool,
    clean: bool,
    form: str,
    **chosen: Any,
) -> None:
    """Play MACHINES machines in software against the running `provisioner serve`, over real sockets.

    Each asks from an address of its own in loopback and goes the whole way: TFTP, boot scripts, kernel and initrd,
    answer file, secret, events, handoff, `configured`, local disk. Afterwards the database is held against what the
    machines were told. Exit code 1 if a machine did not end as it should.

    It makes the subnet, distro and profile `simulated` and machines sim-0001, sim-0002, ...; it arms and removes these
    alone. Their builds and the history of all that stay, as for any removed machine. It does put load on the server.

    \b
    Steps: dhcp loader first-script script kernel initrd answer installer secret disk packages handoff built configured
    SHARE: 5% of the machines, or 3 of them; all unless given.

    \b
    Examples:
      provisioner simulate 200
      provisioner simulate 50 --think 2 --arrival 30 --fail packages:2 --power-cut disk:1 --keep
      provisioner simulate 100 --kernel-size 13M --initrd-size 60M --output json
      provisioner simulate --clean
    """
    from provisioner import simulate as playing  # noqa: PLC0415 - no other command needs it

    if clean == (machines is not None):
        raise click.UsageError("give the number of machines, for example `provisioner simulate 20`, or --clean")
    if machines is None:
        with _bar() as progress:
            count = playing.clean(context.site, context.actor, progress)
        click.echo(f"{count} simulated machines removed" if count else "there are no simulated machines")
        return
    plan = _plan(machines, chosen)
    try:
        with _bar() as progress, _watch(machines) as watch:
            result = playing.run(
                context.site, plan, actor=context.actor, journal=journal, progress=progress, watch=watch
            )
    except KeyboardInterrupt:
        click.echo("stopped; `provisioner simulate --clean` removes the machines", err=True)
        raise click.Abort from None
    kept = keep or not result.ok
    if not kept:
        with _bar() as progress:
            playing.clean(context.site, context.actor, progress)
    if form == "json":
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        _summary(result, kept=kept)
    raise SystemExit(0 if result.ok else 1)


def _plan(machines: int, chosen: dict[str, Any]) -> "Plan":
    from provisioner.simulate import Plan, fault  # noqa: PLC0415 - see above

    faults = [fault("fail", text) for text in chosen.pop("fail")]
    faults += [fault("power-cut", text) for text in chosen.pop("power_cut")]
    faults += [fault("never", text) for text in chosen.pop("never")]
    return Plan(
        machines,
        faults=faults,
        cidr=chosen.pop("subnet"),
        kernel_bytes=_bytes(chosen.pop("kernel_size"), "--kernel-size"),
        initrd_bytes=_bytes(chosen.pop("initrd_size"), "--initrd-size"),
        **chosen,
    )


def _bytes(text: str, where: str) -> int:
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in {"K", "M", "G"} else (text, "")
    if not number.isdigit():
        raise InvalidInput(f"{text!r} is not a size", where=where, hint="write bytes, or for example 64K or 60M")
    return int(number) * _UNITS[unit]


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of making and removing the world: a bar on a terminal, a line for each thing done elsewhere."""
    console = Console(stderr=True, emoji=False)
    if not console.is_terminal:
        yield _line_when_done
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield show


def _line_when_done(what: str, done: int, total: int) -> None:
    if done == total:
        click.echo(f"{what}: {done}", err=True)


@contextmanager
def _watch(machines: int) -> Iterator[Callable[[Counter[str], float], None]]:
    """The machines as they go: one line that changes on a terminal, a line every few seconds elsewhere."""
    terminal = sys.stderr.isatty()
    said = [time.monotonic()]

    def show(phases: Counter[str], seconds: float) -> None:
        done = sum(count for phase, count in phases.items() if phase.startswith("ended"))
        text = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()) if count)
        line = f"{seconds:6.1f} s  {done}/{machines} done: {text}"
        if terminal:
            # A line that the terminal wraps could not be taken back.
            width = shutil.get_terminal_size().columns - 1
            click.echo(f"\r\x1b[2K{line[:width]}", nl=False, err=True)
        elif time.monotonic() - said[0] >= _PLAIN_SECONDS:
            said[0] = time.monotonic()
            click.echo(line, err=True)

    yield show
    if terminal:
        click.echo("", err=True)


def _summary(result: "Result", *, kept: bool) -> None:
    shown = [row | {"bytes": _size(row["bytes"])} for row in result.steps]
    print_rows(shown, "table", _COLUMNS, "no step was reached")
    click.echo("(p50, p95, p99, max: milliseconds of the try that was answered)")
    click.echo("")
    click.echo(f"machines   {result.machines}: " + ", ".join(f"{count} {end}" for end, count in result.ends.items()))
    click.echo(f"boots      {result.boots}, of them after a power cut {result.power_cuts}")
    click.echo(
        f"time       {result.seconds} s, {result.per_minute} machines a minute; making them {result.prepared_seconds} s"
    )
    whole = result.machine_seconds
    click.echo(f"a machine  {whole['p50']} s (p50), {whole['p95']} s (p95), {whole['p100']} s (max) to `configured`")
    click.echo(f"processor  {result.cpu_seconds} s went into playing them")
    for message in result.wrong[:_SHOWN]:
        click.secho(f"wrong      {message}", fg="red")
    if len(result.wrong) > _SHOWN:
        click.echo(f"           and {len(result.wrong) - _SHOWN} more: --output json has them all")
    if result.ok:
        click.secho("all ended as they should, and the database agrees", fg="green")
    if kept:
        click.echo("look at them: provisioner build list; provisioner build show sim-0001; provisioner check")
        click.echo("remove them:  provisioner simulate --clean")


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"
