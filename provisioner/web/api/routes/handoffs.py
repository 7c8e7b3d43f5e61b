"""What tools' servers ask."""

from typing import Any

from provisioner.services import puppet
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.handoffs import AutosignBody, AutosignView

operations = Operations()


@operations.add(
    "POST", "/handoffs/puppet:autosign", noun="handoffs", body=AutosignBody, answer=AutosignView, lasting=True
)
def autosign_puppet(call: Call) -> Any:
    """Ask whether Puppet's CA may sign a certificate request.

    It may for the certname, the challenge and the extensions that a build was sealed with, while that build installs or
    waits for its handoff, once. `provisioner puppet-autosign` asks this.
    """
    return puppet.answer(call.site, call.body.certname, call.body.csr, call.source)
