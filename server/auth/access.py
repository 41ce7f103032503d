"""Who may call: bearer tokens, and the quota of each."""

from typing import Any, Final

from grpc_health.v1 import health

from ..errors import UnauthenticatedError
from ..observability.calls import current_call
from .quota import TokenQuota
from .token_file import TokenFile
from .tokens import Token

_OPEN_SERVICES: Final = (f"/{health.SERVICE_NAME}/",)
"""Methods that need no token: probes have none."""

_NO_TOKEN: Final = (
    "this server wants a token that it knows: send the metadata `authorization: Bearer TOKEN`"
)


class Access:
    """Finds the token of a call, and keeps what each has in use, whatever else the file changes."""

    def __init__(self, file: TokenFile) -> None:
        self._file = file
        self._quotas: dict[str, TokenQuota] = {}

    def check(self, method: str, metadata: Any) -> None:
        """Note the token of the call that this task answers. Health needs none.

        Raises:
            UnauthenticatedError: as `token_of`.
        """
        if not method.startswith(_OPEN_SERVICES):
            token = self.token_of([value for key, value in metadata if key == "authorization"])
            call = current_call()
            call.token, call.quota = token.name, self.quota_of(token)

    def token_of(self, authorizations: list[str]) -> Token:
        """The token of a call with these values of `authorization`.

        Raises:
            UnauthenticatedError: there is none, more than one, or the server does not know it.
        """
        # A call without any is compared like the others.
        value = authorizations[0] if len(authorizations) == 1 else ""
        scheme, _, presented = value.partition(" ")
        token = self._file.value.find(presented.strip())
        if token is None or scheme.lower() != "bearer":
            raise UnauthenticatedError(_NO_TOKEN)
        return token

    def quota_of(self, token: Token) -> TokenQuota:
        """The quota of the token; its limits are those of the file's last reading."""
        quota = self._quotas.setdefault(token.name, TokenQuota(token))
        quota.token = token
        return quota
