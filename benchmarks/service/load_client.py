"""A client process that loads a gRPC server: `python -m benchmarks.service.load_client` with a plan
on standard input and what came of it on standard output, both JSON.

It sends one request, serialised beforehand, again and again, and does not read the answers' bytes,
so that it takes little of the cores that it shares with the server; what it takes is counted.

Closed loop: so many callers, each of which waits for its answer. Open loop: requests leave at
random times (a Poisson process) at a given rate whatever becomes of the others, and their latency
counts from the time at which they were due. A stream has so many messages under way.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc

OK = "OK"
TIMEOUT_SECONDS = 60.0
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection for each channel
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True)
class Plan:
    """What a client process is to do.

    request: file with the serialised request. callers: of a closed loop, or the streams. rate:
    requests a second of an open loop, 0 for a closed one. depth: messages under way on a stream, 0
    for unary calls. warm: seconds before the measurement begins. series: whether to say for every
    second when its answers came.
    """

    address: str
    method: str
    request: str
    seconds: float
    warm: float = 0.5
    callers: int = 1
    channels: int = 1
    rate: float = 0.0
    depth: int = 0
    seed: int = 0
    series: bool = False


class Answer(NamedTuple):
    """Status of an answer, its bytes, and what it says of an error."""

    status: str
    size: int = 0
    details: str = ""


@dataclass
class Outcome:
    """Answers by status, with latencies in seconds of those that were OK, in the order of their
    ends, and when these were, from the beginning of the measurement; what the first of each other
    status said.
    """

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    response_bytes: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, due: float, began: float, answer: Answer) -> None:
        """Count an answer to what was due at a time of `time.perf_counter`."""
        end = time.perf_counter()
        self.answers[answer.status] += 1
        if answer.status == OK:
            self.latencies.append(end - due)
            self.ends.append(end - began)
            self.response_bytes = answer.size
        else:
            self.examples.setdefault(answer.status, answer.details)


Call = Callable[[bytes], Awaitable[bytes]]


async def _answer(call: Call, request: bytes) -> Answer:
    """What a call came to."""
    try:
        return Answer(OK, len(await call(request)))
    except grpc.aio.AioRpcError as error:
        return _refusal(error)


def _refusal(error: grpc.aio.AioRpcError) -> Answer:
    return Answer(error.code().name, details=f"{error.details()}")


async def _closed(plan: Plan, calls: list[Call], request: bytes, began: float) -> Outcome:
    """Callers that wait for their answers; what was sent before `began` is not counted."""
    outcome = Outcome()
    end = began + plan.seconds

    async def caller(call: Call) -> None:
        while (sent := time.perf_counter()) < end:
            answer = await _answer(call, request)
            if sent >= began:
                outcome.sent += 1
                outcome.add(sent, began, answer)

    await asyncio.gather(*(caller(calls[i % len(calls)]) for i in range(plan.callers)))
    return outcome


async def _open(plan: Plan, calls: list[Call], request: bytes, began: float) -> Outcome:
    """Requests at random times; all are waited for. What is late when the time is over stays
    unsent.
    """
    outcome = Outcome()
    draw = random.Random(plan.seed)
    due = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one(call: Call, due: float) -> None:
        answer = await _answer(call, request)
        if due >= began:
            outcome.add(due, began, answer)

    number = 0
    while (due := due + draw.expovariate(plan.rate)) < began + plan.seconds:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # behind its time: still hear of answers
        if time.perf_counter() >= began + plan.seconds:
            break  # what it cannot send in time is no load
        task = asyncio.create_task(one(calls[number % len(calls)], due))
        number += 1
        outcome.sent += due >= began
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return outcome


async def _stream(plan: Plan, streams: list[Any], request: bytes, began: float) -> Outcome:
    """Streams with so many messages under way on each."""
    outcome = Outcome()
    end = began + plan.seconds

    async def run(stream: Any) -> None:
        room = asyncio.Semaphore(plan.depth)
        sent: list[float] = []

        async def messages() -> AsyncIterator[bytes]:
            while time.perf_counter() < end:
                await room.acquire()
                sent.append(time.perf_counter())
                yield request

        answered = 0
        end_of_stream = Answer("LOST", details="the stream ended without an answer")
        try:
            async for answer in stream(messages(), timeout=plan.seconds + TIMEOUT_SECONDS):
                room.release()
                if sent[answered] >= began:
                    outcome.add(sent[answered], began, Answer(OK, len(answer)))
                answered += 1
        except grpc.aio.AioRpcError as error:
            end_of_stream = _refusal(error)
        outcome.sent += sum(time >= began for time in sent)
        if (unanswered := len(sent) - answered) > 0:
            outcome.answers[end_of_stream.status] += unanswered
            outcome.examples.setdefault(end_of_stream.status, end_of_stream.details)

    await asyncio.gather(*(run(streams[i % len(streams)]) for i in range(plan.callers)))
    return outcome


async def measure(plan: Plan) -> dict[str, Any]:
    """Do as the plan says; what came of it."""
    request = Path(plan.request).read_bytes()
    channels = [
        grpc.aio.insecure_channel(plan.address, options=[*OPTIONS, ("benchmark.channel", number)])
        for number in range(plan.channels)
    ]
    try:
        for channel in channels:
            await channel.channel_ready()
        began = time.perf_counter() + plan.warm
        cpu_at: list[float] = []
        asyncio.get_running_loop().call_later(plan.warm, lambda: cpu_at.append(time.process_time()))
        if plan.depth:
            streams = [channel.stream_stream(plan.method, None, None) for channel in channels]
            outcome = await _stream(plan, streams, request, began)
        else:
            calls = [_unary(channel, plan.method) for channel in channels]
            loop = _open if plan.rate else _closed
            outcome = await loop(plan, calls, request, began)
        cpu = time.process_time() - (cpu_at[0] if cpu_at else 0.0)
        return _summary(plan, outcome, cpu)
    finally:
        for channel in channels:
            await channel.close(None)


def _unary(channel: grpc.aio.Channel, method: str) -> Call:
    stub: Any = channel.unary_unary(method, None, None)

    async def call(request: bytes) -> bytes:
        answer: bytes = await stub(request, timeout=TIMEOUT_SECONDS)
        return answer

    return call


def _summary(plan: Plan, outcome: Outcome, cpu: float) -> dict[str, Any]:
    """Requests a second, quantiles in milliseconds, statuses."""
    span = max([plan.seconds, *outcome.ends])
    within = sum(end <= plan.seconds for end in outcome.ends)
    result: dict[str, Any] = {
        # Of a closed loop all answers, over the time that the last one took; an open loop's tail
        # is not the rate at which it was served.
        "requests_per_second": within / plan.seconds if plan.rate else len(outcome.ends) / span,
        "milliseconds": {
            name: 1000.0 * quantile(outcome.latencies, share)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "sent": outcome.sent,
        "answers": dict(outcome.answers),
        "examples": outcome.examples,
        "client_cpu_seconds": cpu,
        "seconds": span,
        "response_bytes": outcome.response_bytes,
    }
    if plan.series:
        counts = Counter(int(end) for end in outcome.ends)
        result["per_second"] = [counts[second] for second in range(int(plan.seconds))]
    return result


def quantile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def plan_text(plan: Plan) -> str:
    """What to write to a client process's standard input."""
    return json.dumps(asdict(plan))


def main() -> None:
    """Measure as standard input says."""
    plan = Plan(**json.load(sys.stdin))
    json.dump(asyncio.run(measure(plan)), sys.stdout)


if __name__ == "__main__":
    main()
