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
from .errors import Code, ConnectionClosed, Error, ProtocolError, RemoteError


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
    _channel_parser(commands.add_parser("channel"))
    return parser


def _channel_parser(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True)
    commands.add_parser("ls")
    create = commands.add_parser("create")
    create.add_argument("target", metavar="name")
    create.add_argument("--capacity", type=int, default=65_536, help="bytes")
    create.add_argument("--drop", action="store_true", help="drop messages for which there is no room")
    for name in ("inspect", "drain", "delete", "share"):
        commands.add_parser(name).add_argument("target")
    publish = commands.add_parser("pub", help="each line of the standard input is a message")
    publish.add_argument("target")
    subscribe = commands.add_parser("sub", help="messages to the standard output, one behind the other")
    subscribe.add_argument("target")
    subscribe.add_argument("--lossless", action="store_true")
    subscribe.add_argument("--since", type=int, metavar="SEQUENCE")
    subscribe.add_argument("--tail", type=int, metavar="COUNT")
    subscribe.add_argument("--count", type=int, help="end after so many messages")


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
            case "channel":
                await _channel(client, arguments)


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


async def _channel(client: Client, arguments: argparse.Namespace) -> None:
    match arguments.action:
        case "ls":
            for channel in await client.channels():
                print(f"{channel.id:016x} {channel.name} {channel.capacity} {channel.backpressure} {channel.state}")
        case "create":
            backpressure = ops.Backpressure.DROP if arguments.drop else ops.Backpressure.PARK
            print(await client.create_channel(ops.CreateChannel(arguments.capacity, backpressure, arguments.target)))
        case "inspect":
            print(await client.channel(arguments.target))
        case "drain":
            print(await client.drain_channel(arguments.target))
        case "delete":
            print(await client.delete_channel(arguments.target))
        case "share":
            print(await client.share_channel(arguments.target))
        case "pub":
            await _publish(client, arguments.target)
        case "sub":
            await _subscribe(client, arguments)


async def _publish(client: Client, target: str) -> None:
    publishing = await client.publish(ops.Publish(target, client.publication()))
    while not publishing.over and (line := await asyncio.to_thread(sys.stdin.buffer.readline)):
        publishing.send(line)
        await publishing.sent()
    if not publishing.over:
        await publishing.end()
    if publishing.pending or publishing.reason is not None:
        raise RemoteError(publishing.reason or Error(Code.OUTCOME_UNKNOWN))


async def _subscribe(client: Client, arguments: argparse.Namespace) -> None:
    wanted = ops.Subscribe(arguments.target, arguments.lossless, arguments.since, arguments.tail)
    _, stream = await client.subscribe(wanted)
    left = arguments.count
    async for item in stream:
        if isinstance(item, Missing):
            print(f"... {'some' if item.count is None else item.count} messages are missing ...", file=sys.stderr)
            continue
        sys.stdout.buffer.write(item.payload)
        sys.stdout.buffer.flush()
        if left is not None and (left := left - 1) <= 0:
            return
    if stream.reason is not None:
        print(f"ended: {stream.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
