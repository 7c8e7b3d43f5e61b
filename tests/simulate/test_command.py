"""`provisioner simulate` as people run it, and the demo."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Served, free_port

from provisioner.cli.root import cli
from provisioner.services import machines
from provisioner.services.site import Site
from provisioner.simulate import read_journal


@pytest.mark.slow
def test_a_run_its_summary_and_nothing_left(served: Served, tmp_path: Path) -> None:
    done = served.cli("simulate", "4", "--speed", "20", "--journal", str(tmp_path / "journal"))
    for text in ("loader", "P99", "4 configured", "machines a minute", "all ended as they should"):
        assert text in done.stdout
    assert "arming builds: 4" in done.stderr
    assert "removing machines: 4" in done.stderr
    assert served.cli("machine", "find", "sim-", code=3).stdout
    assert len(read_journal((tmp_path / "journal").read_text().splitlines())) > 40


@pytest.mark.slow
def test_json_for_programs(served: Served) -> None:
    result = served.cli_json("simulate", "4", "--speed", "20", "--fail", "packages:1", "--firmware", "uefi")
    assert result["ok"] is True
    assert result["ends"] == {"configured": 3, "halted": 1}
    loader = next(row for row in result["steps"] if row["step"] == "loader")
    assert loader["count"] == result["boots"] == 11
    assert loader["bytes"] > 11 * 100_000
    assert 0 < loader["p50"] <= loader["p95"] <= loader["p99"] <= loader["max"]


@pytest.mark.slow
def test_kept_machines_are_there_to_look_at_and_go_by_clean(served: Served) -> None:
    done = served.cli("simulate", "3", "--speed", "20", "--keep", "--never", "disk:1")
    assert "2 configured, 1 off" in done.stdout
    assert "provisioner simulate --clean" in done.stdout
    assert [each["name"] for each in served.cli_json("machine", "find", "sim-")] == ["sim-0001", "sim-0002", "sim-0003"]
    assert "built" in served.cli("build", "show", "sim-0002").stdout + served.cli("build", "show", "sim-0001").stdout
    assert served.cli("simulate", "--clean").stdout == "3 simulated machines removed\n"
    assert served.cli("simulate", "--clean").stdout == "there are no simulated machines\n"


@pytest.mark.slow
def test_a_machine_that_does_not_get_there_is_exit_code_1_and_kept(served: Served) -> None:
    done = served.cli(
        "simulate", "2", "--speed", "20", "--power-cut", "disk:1", "--outage", "600", "--limit", "8", code=1
    )
    assert "ended given-up" in done.stdout
    assert "power-cut at disk" in done.stdout
    assert "remove them" in done.stdout
    served.cli("simulate", "--clean")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "provisioner simulate 20"),
        (("3", "--clean"), 2, "--clean"),
        (("x",), 2, "not a valid integer"),
        (("0",), 1, "has room for"),
        (("3", "--fail", "nowhere"), 1, "choose one of"),
        (("3", "--power-cut", "disk:x%"), 1, "disk:5%"),
        (("3", "--kernel-size", "many"), 1, "64K"),
        (("3", "--subnet", "10.0.0.0/8"), 1, "127.64.0.0/16"),
        (("3", "--fail", "disk", "--never", "built"), 1, "one fault a machine"),
        (("3",), 1, "provisioner serve"),
    ],
)
def test_mistakes_are_refused_with_the_next_step(site: Site, words: tuple[str, ...], code: int, said: str) -> None:
    """Nothing runs here, so the last is no mistake in the words: the service is not there."""
    ports = {f"PROVISIONER_{name}_BIND": f"127.0.0.1:{free_port()}" for name in ("BOOT", "MEDIA", "TFTP")}
    words = ("--state-dir", str(site.settings.state_dir), "simulate", *words)
    done = CliRunner().invoke(cli, words, prog_name="provisioner", env=ports)
    assert done.exit_code == code, done.output
    assert said in " ".join(done.stderr.split())
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert machines.search(site, "sim-") == []
