"""boto3 and botocore: a client is made again from its service, region, endpoint, options and keys.

Keys that were given go along, as they do in any pickle of what holds them. Keys that
have to be renewed (of a role, say) belong to the process that renews them, so such a
client is refused. Handlers that a program has added to ``client.meta.events`` are not
in the copy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_FIX = "make it in the task or in an initializer: boto3.{}({!r})"


def _keys(credentials: Any, what: str, service: str) -> dict[str, Any]:
    if credentials is None:
        return {}
    if type(credentials) is not loaded("botocore.credentials", "Credentials"):
        raise RefusedError(
            f"cannot pickle a {what} whose keys are renewed: {type(credentials).__name__}", _FIX.format(what, service)
        )
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key,
        "aws_session_token": credentials.token,
    }


def _session_with(keys: dict[str, Any], region: str | None) -> Any:
    """Return what makes a session of boto3, or of botocore where boto3 is not used."""
    boto3 = loaded("boto3.session", "Session")
    return None if boto3 is None else Made(partial(boto3, region_name=region, **keys))


def _client(client: Any) -> Any:
    service, region = client.meta.service_model.service_name, client.meta.region_name
    keys = _keys(client._request_signer._credentials, "client", service)
    config = loaded("botocore.config", "Config")
    user = dict(client._client_config._user_provided_options)
    builtins = getattr(getattr(client, "_ruleset_resolver", None), "_builtins", None) or {}
    options = {
        "region_name": region,
        "endpoint_url": builtins.get("SDK::Endpoint"),
        "use_ssl": not client._endpoint.host.startswith("http:") or bool(builtins.get("SDK::Endpoint")),
        "verify": client._endpoint.http_session._verify,
        "config": Made(partial(config, **user)),
    }
    session = _session_with({}, region)
    if session is None:
        create = Made(getattr, Made(loaded("botocore.session", "Session")), "create_client")
    else:
        create = Made(getattr, session, "client")
    return called(_Callable(create), service, **options, **keys)


def _Callable(made: Made) -> Any:
    return made


def _resource(resource: Any) -> Any:
    """Make the service's root resource, and from it the one with these identifiers."""
    meta = resource.meta
    service = meta.service_name
    client = meta.client
    keys = _keys(client._request_signer._credentials, "resource", service)
    session = _session_with({}, client.meta.region_name)
    builtins = getattr(getattr(client, "_ruleset_resolver", None), "_builtins", None) or {}
    config = Made(partial(loaded("botocore.config", "Config"), **client._client_config._user_provided_options))
    options = {"region_name": client.meta.region_name, "endpoint_url": builtins.get("SDK::Endpoint"), "config": config}
    root = Made(partial(_Callable(Made(getattr, session, "resource")), service, **options, **keys))
    name = type(resource).__name__.partition(".")[2]
    if name == "ServiceResource":
        return root._reduced
    return Made(getattr, root, name), tuple(getattr(resource, identifier) for identifier in meta.identifiers)


def _session(session: Any) -> Any:
    inner = session._session
    keys = _keys(inner._credentials, "session", "") if inner._credentials is not None else {}
    return called(type(session), region_name=session.region_name, profile_name=inner.profile, **keys)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it has the same service, region, endpoint, options and keys, and connections of its own"
    return {
        loaded("botocore.client", "BaseClient"): Repair(RECONSTRUCT, why, _client, family=True),
        loaded("boto3.resources.base", "ServiceResource"): Repair(RECONSTRUCT, why, _resource, family=True),
        loaded("boto3.session", "Session"): Repair(
            RECONSTRUCT, "it has the same profile, region and keys; others are looked up there", _session
        ),
    }
