#!/usr/bin/env python3
"""A Hansa client that knows the service only by server reflection: no .proto files, no generated code.

    pip install grpcio grpcio-reflection
    deploy/client.py 127.0.0.1:7101 127.0.0.1:7102

It asks the first endpoint what `hansa.v1.Kv` looks like, then puts and gets at every level, compares and sets,
increments a counter at most once although it asks twice, and moves a session from the first endpoint to the
second with its token. Every step checks what came back. Ends with 0 when all of it held, with 1 when something
did not, with 2 when it could not begin.

The keyspaces are those of deploy/compose/topology.toml and of `hansa demo`: profiles (register) and stock
(counter).
"""

import argparse
import queue
import random
import sys
import time

try:
    import grpc
    from google.protobuf import descriptor_pool, message_factory
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )
except ImportError as error:
    print(f"client: {error.name} is missing: pip install grpcio grpcio-reflection", file=sys.stderr)
    sys.exit(2)

SERVICE = "hansa.v1.Kv"
LEVELS = ("eventual", "session", "strong")
# Seconds a call may take. The server is told the same by gRPC itself.
TIMEOUT = 10
# Without the first a call fails long after a broken connection; the second keeps the socket in one process.
CHANNEL_OPTIONS = [("grpc.keepalive_time_ms", 10_000), ("grpc.use_local_subchannel_pool", 1)]


class Service:
    """What reflection tells of the service, and messages made from it."""

    def __init__(self, channel):
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.methods = pool.FindServiceByName(SERVICE).methods_by_name
        self.levels = pool.FindEnumTypeByName("hansa.v1.Level")
        self.paths = pool.FindEnumTypeByName("hansa.v1.Path")

    def message(self, descriptor):
        """The class of a message."""
        return message_factory.GetMessageClass(descriptor)

    def level(self, name):
        """A level's number."""
        return self.levels.values_by_name["LEVEL_" + name.upper()].number

    def level_name(self, number):
        """A level's name."""
        return self.levels.values_by_number[number].name.removeprefix("LEVEL_").lower()

    def path_name(self, number):
        """How a strong operation was decided."""
        return self.paths.values_by_number[number].name.removeprefix("PATH_").lower()


class Endpoint:
    """One node, and calls to it by name."""

    def __init__(self, service, address):
        self.service = service
        self.address = address
        self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)

    def call(self, name, **fields):
        """A unary call: fields of the request in, reply out. Raises grpc.RpcError when refused."""
        method = self.service.methods[name]
        request = self.service.message(method.input_type)(**fields)
        reply = self.service.message(method.output_type)
        unary = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return unary(request, timeout=TIMEOUT)

    def pipe(self):
        """A Pipe: many requests over one stream."""
        return Pipe(self)


class Pipe:
    """One stream that carries requests of all kinds. This one waits for each reply before it goes on."""

    def __init__(self, endpoint):
        method = endpoint.service.methods["Pipe"]
        self.request = endpoint.service.message(method.input_type)
        self.outbox = queue.SimpleQueue()
        self.last_id = 0
        stream = endpoint.channel.stream_stream(
            f"/{SERVICE}/Pipe",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=endpoint.service.message(method.output_type).FromString,
        )
        # `None` ends the sending side.
        self.replies = stream(iter(self.outbox.get, None), timeout=TIMEOUT)
        self.hello = next(self.replies).hello

    def ask(self, **body):
        """One request; its reply, which may be an error."""
        self.last_id += 1
        self.outbox.put(self.request(id=self.last_id, **body))
        reply = next(self.replies)
        check(reply.id == self.last_id, f"reply {reply.id} to request {self.last_id}")
        return reply

    def close(self):
        """Ends the stream and waits for its end."""
        self.outbox.put(None)
        check(not list(self.replies), "replies nobody asked for")


class Failed(Exception):
    """Something did not hold."""


def check(holds, what):
    """Fails the run when something does not hold."""
    if not holds:
        raise Failed(what)


def say(service, what, header):
    """Prints what happened and the receipt: what the reply is worth and what it cost."""
    receipt = header.receipt
    parts = [f"level {service.level_name(header.level)}", f"by {receipt.served_by} in {receipt.served_in}"]
    if receipt.HasField("staleness_ms"):
        parts.append(f"at most {receipt.staleness_ms} ms stale")
    if receipt.durable_regions:
        parts.append("durable in " + "+".join(receipt.durable_regions))
    parts.append(f"{receipt.wan_round_trips} WAN round trips")
    if receipt.path:
        parts.append(service.path_name(receipt.path))
    parts += [word for word in ("absorbed", "merged") if getattr(receipt, word)]
    if receipt.forwarded_to:
        parts.append(f"forwarded to {receipt.forwarded_to}")
    print(f"{what}\n    {', '.join(parts)}")


def every_level(service, first, run):
    """A put and a get at each level; each with the level in the request and in the reply."""
    for name in LEVELS:
        key, value = f"{run}/{name}".encode(), f"written at {name}".encode()
        token, level = b"", service.level(name)
        put = first.call(
            "Put", keyspace="profiles", key=key, value=value, options={"level": level, "session_token": token}
        )
        say(service, f"{name}: put", put.header)
        token = put.header.session_token
        got = first.call("Get", keyspace="profiles", key=key, options={"level": level, "session_token": token})
        say(service, f"{name}: get", got.header)
        check(got.found and got.value == value, f"{name} get gave {got.value!r}")
        check(got.header.level == level and put.header.level == level, f"{name} was served at another level")
    absent = first.call("Get", keyspace="profiles", key=b"nobody/" + run.encode())
    check(not absent.found and not absent.HasField("value"), "an absent key was found")


def compare_and_set(service, first, run):
    """Of two that expect absence one wins; the loser learns the version, and sets on it. Over a Pipe."""
    pipe = first.pipe()
    print(f"pipe: {pipe.hello.node} in {pipe.hello.region}, cluster {pipe.hello.cluster_id}")
    where = {"keyspace": "profiles", "key": f"{run}/cas".encode()}
    won = pipe.ask(compare_and_set={**where, "expect_absent": True, "value": b"first"})
    check(won.WhichOneof("body") == "compare_and_set", f"the first was refused: {won.error.reason}")
    say(service, "cas if absent: won", won.compare_and_set.header)
    lost = pipe.ask(compare_and_set={**where, "expect_absent": True, "value": b"second"})
    check(lost.error.reason == "CONDITION_FAILED", f"the second was answered {lost.WhichOneof('body')}")
    check(lost.error.code == grpc.StatusCode.ABORTED.value[0], f"code {lost.error.code}")
    check(lost.error.etag == won.compare_and_set.etag, "the loser was told another version")
    print(f"cas if absent: refused, {lost.error.reason}, version {lost.error.etag.hex()}")
    won = pipe.ask(compare_and_set={**where, "expect_etag": lost.error.etag, "value": b"second"})
    check(won.WhichOneof("body") == "compare_and_set", f"refused on its own version: {won.error.reason}")
    say(service, "cas on that version: won", won.compare_and_set.header)
    got = pipe.ask(get={**where, "options": {"level": service.level("strong")}}).get
    check(got.value == b"second", f"strong get gave {got.value!r}")
    pipe.close()


def refused(first, run):
    """The same refusal as a unary call says it: a status code, and words without keys and values."""
    try:
        where = {"keyspace": "profiles", "key": f"{run}/cas".encode()}
        first.call("CompareAndSet", **where, expect_absent=True, value=b"third")
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.ABORTED, f"refused with {error.code()}")
        print(f"cas as a unary call: refused, {error.code().name}")
        return
    raise Failed("a condition that does not hold was let through")


def count_once(service, first, second, run):
    """Increments everywhere add up, and one asked for twice under one request id counts once."""
    where = {"keyspace": "stock", "key": f"{run}/once".encode()}
    strong = service.level("strong")
    start = first.call("Get", **where, options={"level": strong})
    check(not start.found, "a fresh counter was found")
    name = {"session": random.getrandbits(64) | 1, "seq": 1, "issued_hlc": start.header.server_hlc}
    added = first.call("Update", **where, increment=5, options={"level": strong, "request_id": name})
    say(service, f"increment by 5: {added.total}", added.header)
    again = {**name, "attempt": 1, "first_node": added.header.receipt.served_by, "first_level": strong}
    repeated = second.call("Update", **where, increment=5, options={"level": strong, "request_id": again})
    say(service, f"the same request again, elsewhere: {repeated.total}", repeated.header)
    check(added.total == 5 and repeated.total == 5, f"totals {added.total} and {repeated.total}")
    options = {"level": service.level("eventual")}
    first.call("Update", **where, increment=2, options=options)
    second.call("Update", **where, increment=-1, options=options)
    # Eventual: it is on its way for a while, and nothing is lost or counted twice.
    until, total = time.monotonic() + TIMEOUT, None
    while total != 6 and time.monotonic() < until:
        total = first.call("Get", **where, options=options).total
    check(total == 6, f"5 + 2 - 1 gave {total}")
    print(f"increments of both endpoints at eventual: {total}")


def move_a_session(service, first, second, run):
    """A session writes here and reads there: its token says what it has seen, and nothing older is shown."""
    where, level = {"keyspace": "profiles", "key": f"{run}/session".encode()}, service.level("session")
    token = b""
    for turn in range(10):
        here, there = (first, second) if turn % 2 == 0 else (second, first)
        value = f"turn {turn}".encode()
        put = here.call("Put", **where, value=value, options={"level": level, "session_token": token})
        # A reply's token has everything of the request's: it takes its place.
        token = put.header.session_token
        got = there.call("Get", **where, options={"level": level, "session_token": token})
        check(got.value == value, f"turn {turn}: the session saw {got.value!r} at {there.address}")
        token = got.header.session_token
    say(service, f"session: 10 writes, each read at the other endpoint; token of {len(token)} bytes", got.header)
    check(0 < len(token) <= 160, f"a token of {len(token)} bytes")


def main():
    """Runs every part against two endpoints of one cluster."""
    parser = argparse.ArgumentParser(description="Every level of a Hansa cluster, by server reflection only.")
    parser.add_argument("first", metavar="HOST:PORT", help="a node's client address")
    parser.add_argument("second", metavar="HOST:PORT", help="another's, or the same")
    arguments = parser.parse_args()
    # Keys of their own, so that it can be run again.
    run = f"client-py/{random.getrandbits(64):016x}"
    try:
        service = Service(grpc.insecure_channel(arguments.first, options=CHANNEL_OPTIONS))
        print(f"{SERVICE} has {', '.join(service.methods)}")
        first, second = Endpoint(service, arguments.first), Endpoint(service, arguments.second)
        every_level(service, first, run)
        compare_and_set(service, first, run)
        refused(first, run)
        count_once(service, first, second, run)
        move_a_session(service, first, second, run)
    except Failed as failed:
        print(f"client: FAILED: {failed}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"client: FAILED: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    print("client: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
