"""Exception classes of popular packages: how many come back from a pool, and how.

    python -m benchmarks.exceptions                 # those of PACKAGES that are installed
    python -m benchmarks.exceptions openai httpx    # these
    python -m benchmarks.exceptions --json out.json --short short.txt

Each package has a process of its own. safemp is a real pool; the others pickle and load
in one process, which is kinder than theirs: a pool that breaks takes other tasks with it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.exception_ways import ways
from safemp.audit.look import SAFEMP, Audit
from safemp.audit.packages import audit
from safemp.audit.samples import VARIANTS
from safemp.audit.task import Options
from safemp.audit.verdict import CLASS, FAITHFUL, KINDS, LINKS, STATE

__all__ = ["PACKAGES", "main", "table"]

PACKAGES = (
    "openai anthropic httpx httpx2 httpcore h11 requests urllib3 aiohttp botocore boto3 google.api_core google.auth "
    "google.cloud.storage google.genai grpc sqlalchemy pydantic pydantic_core jsonschema django click redis pymongo "
    "docker kubernetes pandas sklearn scipy numpy langchain_core langchain langgraph litellm huggingface_hub mlflow "
    "celery kombu amqp billiard pika elasticsearch opensearchpy neo4j psycopg psycopg2 pymysql asyncpg aiomysql "
    "clickhouse_connect azure.core azure.identity azure.storage.blob stripe twilio slack_sdk github gitlab jira flask "
    "werkzeug jinja2 fastapi starlette uvicorn marshmallow cerberus voluptuous cattrs attrs msgspec fastjsonschema dask "
    "distributed joblib loky xarray networkx sympy matplotlib PIL polars pyarrow h5py zarr lark pyparsing ruamel.yaml "
    "yaml toml tomlkit docutils sphinx pylint pytest hypothesis tox virtualenv paramiko invoke scrapy twisted selenium "
    "lxml bs4 html5lib jwt trio gevent tornado zeroconf ldap3 asyncssh web3 ccxt telegram discord tweepy cohere groq "
    "replicate pinecone qdrant_client weaviate llama_index.core luigi wandb sentry_sdk typer rich pexpect sh plumbum git "
    "jupyter_client nbconvert nbclient papermill zeep rpyc zmq nats aiokafka peewee tortoise mongoengine alembic sqlglot "
    "rasterio fiona pyproj transformers snowflake.connector msal prefect dvc ray cryptography filelock fsspec tenacity "
    "websockets websocket anyio packaging builtins asyncio concurrent http json email subprocess xml zipfile tarfile "
    "configparser smtplib ftplib imaplib sqlite3 ssl socket unittest multiprocessing ctypes shutil decimal"
).split()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exceptions", description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", help="default: those of PACKAGES that are installed")
    parser.add_argument("--deadline", type=float, default=600.0, metavar="SECONDS", help="for each package")
    parser.add_argument("--workers", type=int, default=1, help="packages at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every verdict")
    parser.add_argument("--short", type=Path, metavar="FILE", help="also write where safemp falls short")
    options = parser.parse_args(argv)
    names = options.packages or [name for name in PACKAGES if _is_there(name)]
    found: list[Audit] = []
    targets = [Options(name) for name in names]
    for target, audited in audit(targets, deadline=options.deadline, ways=ways(), workers=options.workers):
        if isinstance(audited, Exception):
            line = str(audited).partition("\n")[0]
        else:
            found.append(audited)
            line = f"{len(audited.looked) // len(VARIANTS)} classes, {len(audited.unmade)} cannot be made, {audited.left} left"
        print(f"{target.package}: {line}", flush=True)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(audited) for audited in found], indent=1))
    if options.short:
        options.short.write_text("\n".join(_short_of(found)) + "\n")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is not, or has no spec
        return False


def table(audits: Sequence[Audit]) -> str:
    """Return the table of the documentation."""
    rows = ["| | | arrives | caught | same class, text | args, attributes | cause, notes, too |", "|---|---|---|---|---|---|---|"]
    looked = [each for audited in audits for each in audited.looked]
    for variant in VARIANTS:
        some = [each.verdicts for each in looked if each.variant == variant]
        for way in some[0] if some else ():
            kinds = Counter(verdicts[way].kind for verdicts in some)
            caught = sum(verdicts[way].caught for verdicts in some)
            counts = [
                sum(kinds[kind] for kind in KINDS[: KINDS.index(CLASS) + 1]),
                caught,
                kinds[FAITHFUL] + kinds[LINKS] + kinds[STATE],
                kinds[FAITHFUL] + kinds[LINKS],
                kinds[FAITHFUL],
            ]
            rows.append(f"| {variant} | {way} | {' | '.join(_share(count, len(some)) for count in counts)} |")
    classes = len(looked) // len(VARIANTS)
    return f"{classes} classes of {len(audits)} packages\n\n" + "\n".join(rows)


def _share(count: int, of: int) -> str:
    share = 100 * count / of
    return f"{share:.0f} %" if count in (0, of) else f"{min(max(share, 0.1), 99.9):.1f} %"


def _short_of(audits: Sequence[Audit]) -> list[str]:
    lines: list[str] = []
    for audited in audits:
        for each in audited.looked:
            verdict: Any = each.verdicts[SAFEMP]
            if verdict.kind != FAITHFUL or not verdict.caught:
                lines.append(f"{'.'.join(each.name)} {each.variant}: {verdict.kind}: {verdict.why}\n    {each.call}")
        lines += [f"{name}: cannot be made: {why}" for name, why in audited.unmade.items()]
    return lines


if __name__ == "__main__":
    main()
