"""A few commands by hand: ``python -m selium_remote --port 7000 --ca certs/ca.crt list``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from . import log_record
from . import operations as ops
from .certificate import CertificateError
from .client import Client, Endpoint, connect
from .connection import Missing
from .errors import ConnectionClosed, ProtocolError, RemoteError


def main() -> int:
    """The program."""
    arguments = _parser().parse_args()
    endpoint = Endpoint(arguments.port, arguments.ca, arguments.host, arguments.server_name)
    try:
        asyncio.run(asyncio.wait_for(_run(endpoint, arguments), arguments.timeout))
    except (RemoteError, ConnectionClosed, ProtocolError, CertificateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except asyncio.TimeoutError:
        print("error: it took too long", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m selium_remote", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--ca", type=Path, default=Path("certs/ca.crt"), help="the CA's certificate")
    parser.add_argument("--server-name", default="localhost", help="the SNI, by which the runtime routes")
    parser.add_argument("--timeout", type=float, help="seconds for all of it")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ping", "info", "list"):
        commands.add_parser(name)
    start = commands.add_parser("start")
    start.add_argument("module")
    start.add_argument("entrypoint")
    for name in ("inspect", "stop"):
        commands.add_parser(name).add_argument("target")
    logs = commands.add_parser("logs")
    logs.add_argument("target")
    logs.add_argument("--follow", action="store_true")
    return parser


async def _run(endpoint: Endpoint, arguments: argparse.Namespace) -> None:
    async with connect(endpoint) as client:
        match arguments.command:
            case "ping":
                await client.ping()
            case "info":
                print(client.server)
                print(await client.server_info())
            case "list":
                for process in await client.processes():
                    print(f"{process.id:016x} {process.name} {process.module} {process.entrypoint} {process.state}")
            case "start":
                started = await client.start(ops.Start.of(arguments.module, arguments.entrypoint))
                print(f"{started.id:016x} {started.name}")
            case "inspect":
                print(await client.inspect(arguments.target))
            case "stop":
                stopped = await client.stop(arguments.target)
                print(f"{stopped.id:016x} {stopped.name}")
            case "logs":
                await _logs(client, arguments.target, follow=arguments.follow)


async def _logs(client: Client, target: str, *, follow: bool) -> None:
    _, stream = await client.follow(ops.Follow(target, until_now=not follow))
    async for item in stream:
        if isinstance(item, Missing):
            print(f"... {'some' if item.count is None else item.count} records are missing ...")
            continue
        try:
            record = log_record.decode(item.payload)
        except log_record.RecordError as error:
            print(f"{item.sequence} (torn: {error})")
            continue
        print(f"{item.sequence} {record.level.name} {record.target}: {record.message!r} {dict(record.fields)}")
    if stream.reason is not None:
        print(f"ended: {stream.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
