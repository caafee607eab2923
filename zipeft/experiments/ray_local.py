"""A Ray cluster for one command. Who reaches a port of Ray can run code, so nobody else is to reach one of this."""

from __future__ import annotations

import os
import secrets


def close() -> None:
    """Have the cluster that this process starts listen on the loopback interface alone, and ask for a token.

    Ray looks at the first variable when it is imported. It is the one by which it stays away from the network on macOS
    and Windows; ``ray.init`` turns an address of loopback back into that of the machine. The second ones keep out other
    users of this machine, by versions of Ray from 2.52 on; the token is in no file.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
