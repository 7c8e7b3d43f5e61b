"""The API in this process."""

import pytest
from asking import Api

from provisioner.services.site import Site


@pytest.fixture
def api(site: Site) -> Api:
    """Asks the API of a fresh installation."""
    return Api(site)
