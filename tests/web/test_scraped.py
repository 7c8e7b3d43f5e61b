"""`GET /metrics` in this process: counts of the moment, and a database that is down."""

import pytest
from conftest import both_engines
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from world import ACTOR, World

from provisioner.services import dhcp as wanted
from provisioner.services import tokens
from provisioner.services.site import Site
from provisioner.web import admin

pytestmark = pytest.mark.slow


@pytest.fixture
def client(site: Site) -> FlaskClient:
    """The admin plane."""
    return admin.create(site).test_client()


def bearer(site: Site, name: str = "prometheus") -> dict[str, str]:
    """The header that Prometheus sends."""
    made = tokens.add(site, ACTOR, "admin", name, {"role": "viewer", "scope": ["builds"]})
    return {"Authorization": f"Bearer {made['token']}"}


def gauges(client: FlaskClient, headers: dict[str, str]) -> dict[str, float]:
    """Samples that have at most a state."""
    reply = client.get("/metrics", headers=headers)
    assert reply.status_code == 200, reply.text
    families = text_string_to_metric_families(reply.text)
    return {" ".join((each.name, *each.labels.values())): each.value for one in families for each in one.samples}


@both_engines
def test_there_is_what_there_is(site: Site, world: World, client: FlaskClient) -> None:
    headers = bearer(site)
    found = gauges(client, headers)
    assert (found["provisioner_builds armed"], found["provisioner_machines building"]) == (0, 0)
    world.armed()
    found = gauges(client, headers)
    assert (found["provisioner_builds armed"], found["provisioner_machines building"]) == (1, 1)
    assert found["provisioner_database_up"] == 1
    assert found["provisioner_dhcp_changes_behind"] == wanted.generation(site) > 0
    wanted.acknowledge(site, wanted.generation(site))
    assert gauges(client, headers)["provisioner_dhcp_changes_behind"] == 0
    assert found["provisioner_discoveries_waiting"] == 0


def test_while_the_database_is_down_who_could_read_before_reads_on(site: Site, client: FlaskClient) -> None:
    headers, other = bearer(site), bearer(site, "other")
    assert gauges(client, headers)["provisioner_database_up"] == 1
    site.engine.dispose()
    database = site.settings.state_dir / "provisioner.db"
    database.rename(site.settings.state_dir / "away")
    database.mkdir()
    found = gauges(client, headers)
    assert found["provisioner_database_up"] == 0
    assert "provisioner_builds armed" not in found
    assert client.get("/metrics", headers=other).status_code == 503
    assert client.get("/metrics").status_code == 401


def test_a_revoked_token_reads_no_more(site: Site, client: FlaskClient) -> None:
    headers = bearer(site)
    assert client.get("/metrics", headers=headers).status_code == 200
    tokens.revoke(site, ACTOR, "prometheus")
    assert client.get("/metrics", headers=headers).status_code == 401
