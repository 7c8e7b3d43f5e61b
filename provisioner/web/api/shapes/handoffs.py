"""The shapes of what tools' servers ask and report."""

from typing import Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Body, View


class AutosignBody(Body):
    """A certificate request that Puppet's CA has got."""

    certname: str = Field(min_length=1, max_length=253, examples=["web01.example.com"])
    csr: str = Field(max_length=32_768, description="PEM", examples=["-----BEGIN CERTIFICATE REQUEST-----\n..."])


class AutosignView(View):
    """Whether to sign it."""

    verdict: Literal["sign", "later", "refuse"] = Field(
        description="`sign` is said once; `later`: ask again in a few seconds; why it is refused stands in the build's "
        "events and in the log, not here"
    )
