"""docs/metrics.md holds to the code."""

import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from provisioner import metrics
from provisioner.services.gauges import Gauges
from provisioner.web import scraped

PAGE = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()


def test_the_page_has_every_metric_and_no_other() -> None:
    meters = metrics._Meters(CollectorRegistry())
    known = {family.name: family for meter in vars(meters).values() for family in meter.collect()}
    names = {name + ("_total" if family.type == "counter" else "") for name, family in known.items()}
    names |= {family.name for family in scraped._moment(Gauges(True, 0, 0))} | {"provisioner_build_info"}
    rows = dict(re.findall(r"^\| `(provisioner_\w+)` \| ([^|]*)\|", PAGE, re.MULTILINE))
    assert set(rows) == names
    for meter in vars(meters).values():
        told = next(iter(meter.collect()))
        name = told.name + ("_total" if told.type == "counter" else "")
        assert re.findall(r"`(\w+)`", rows[name]) == list(meter._labelnames), name


def test_the_outcomes_are_those_of_the_page() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `provisioner_tftp_transfers_total`"))
    assert set(metrics.OUTCOMES) <= set(re.findall(r"`([a-z-]+)`", row))


def test_alarms_name_metrics_that_exist() -> None:
    alarms = PAGE[PAGE.index("Worth an alarm") : PAGE.index("Each transfer")]
    rows = set(re.findall(r"^\| `(provisioner_\w+)`", PAGE, re.MULTILINE))
    assert set(re.findall(r"provisioner_\w+", alarms)) <= rows


def test_the_scrape_configuration_is_one() -> None:
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "scrape_configs" in text)
    [job] = yaml.safe_load(block)["scrape_configs"]
    # The names are Prometheus': https://prometheus.io/docs/prometheus/latest/configuration/configuration/
    assert set(job) == {"job_name", "scheme", "authorization", "tls_config", "static_configs"}
    assert (job["scheme"], set(job["authorization"])) == ("https", {"credentials_file"})
    assert set(job["tls_config"]) == {"ca_file", "server_name"}
    assert job["static_configs"] == [{"targets": ["provisioner.example.com:8443"]}]
