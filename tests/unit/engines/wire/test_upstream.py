"""The client against servers that send good, odd and hostile bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from moorage.engines.wire.answer import Answer
from moorage.engines.wire.faults import Broken, Silent, Unreachable
from moorage.engines.wire.origin import Origin
from moorage.engines.wire.upstream import Upstream
from tests.unit.engines.wire.scripted import OK, Handler, Scripted, always, scripted

HEAD = b"HTTP/1.1 200 OK\r\n"
Body = Callable[[Upstream, Scripted], Awaitable[Any]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a body against a server with this handler, on either loop."""

    def runner(handler: Handler, body: Body, **options: Any) -> Any:
        async def main() -> Any:
            async with scripted(handler) as seen:
                upstream = Upstream(Origin.parse(seen.url), **options)
                try:
                    return await body(upstream, seen)
                finally:
                    await upstream.close()

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop:
            return loop.run(main())

    return runner


async def ask(upstream: Upstream, **options: Any) -> Answer:
    return await upstream.ask("POST", "/v1/x", [(b"x-a", b"1")], b'{"a": 1}', silence_s=options.get("silence_s", 30))


async def one(upstream: Upstream, seen: Scripted) -> Answer:
    return await ask(upstream)


async def streamed(upstream: Upstream, seen: Scripted) -> tuple[int, bytes]:
    answer = await upstream.open("POST", "/v1/x", (), b"{}", silence_s=30)
    return answer.status, await answer.read()


class TestReplies:
    def test_a_body_of_a_length(self, run: Any) -> None:
        answer = run(always(OK), one)
        assert (answer.status, answer.body) == (200, b"{}")
        assert answer.headers == [(b"content-type", b"application/json")]

    def test_what_is_sent(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> list[bytes]:
            await ask(upstream)
            return seen.requests

        (request,) = run(always(OK), body)
        head, _, content = request.partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0] == b"POST /v1/x HTTP/1.1"
        assert head.split(b"\r\n")[1].startswith(b"host: localhost:")
        assert head.split(b"\r\n")[2:] == [b"x-a: 1", b"content-length: 8"]
        assert content == b'{"a": 1}'

    @pytest.mark.parametrize("ask_for", [one, streamed])
    @pytest.mark.parametrize(
        ("reply", "body"),
        [
            (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n1;x=y\r\n \r\n0\r\n\r\n", b"{} "),
            (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: 1\r\n\r\n", b"{}"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"{}"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (HEAD + b"content-length: 0\r\n\r\n", b""),
            (b"HTTP/1.1 500 Oops\r\ncontent-length: 3\r\n\r\nbad", b"bad"),
        ],
    )
    def test_other_framings_and_the_connection_lives_on(
        self, run: Any, reply: bytes, body: bytes, ask_for: Any
    ) -> None:
        async def twice(upstream: Upstream, seen: Scripted) -> tuple[Any, Any, int]:
            return await ask_for(upstream, seen), await ask_for(upstream, seen), seen.connections

        first, second, connections = run(always(reply), twice)
        for answer in (first, second):
            assert (answer[1] if isinstance(answer, tuple) else answer.body) == body
        assert connections == 1

    @pytest.mark.parametrize("ask_for", [one, streamed])
    def test_a_body_that_ends_with_the_connection(self, run: Any, ask_for: Any) -> None:
        answer = run(always(HEAD + b"content-type: text/plain\r\n\r\nabc", keep=False), ask_for)
        assert (answer[1] if isinstance(answer, tuple) else answer.body) == b"abc"

    def test_byte_by_byte(self, run: Any) -> None:
        async def drip(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
            for at in range(len(OK)):
                writer.write(OK[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            return True

        assert run(drip, one).body == b"{}"

    def test_chunks_come_as_they_are_sent(self, run: Any) -> None:
        go_on = asyncio.Event()

        async def slow(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
            writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await writer.drain()
            await go_on.wait()
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
            return True

        async def body(upstream: Upstream, seen: Scripted) -> list[bytes]:
            answer = await upstream.open("POST", "/v1/x", (), b"{}", silence_s=30)
            pieces = []
            async for piece in answer.chunks():
                pieces.append(piece)
                go_on.set()
            return pieces

        assert run(slow, body) == [b"one", b"two"]

    def test_an_upstream_is_made_to_wait_for_a_slow_consumer(self, run: Any) -> None:
        size = 30_000_000
        sent = 0

        async def flood(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
            nonlocal sent
            writer.write(HEAD + b"content-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
            return True

        async def body(upstream: Upstream, seen: Scripted) -> tuple[int, int]:
            answer = await upstream.open("POST", "/v1/x", (), b"{}", silence_s=30)
            before = -1
            while before != sent:  # until the server is stuck: a third of a second without progress
                before = sent
                await asyncio.sleep(0.3)
            return before, len(await answer.read())

        stuck_at, received = run(flood, body)
        assert stuck_at < size
        assert received == size


class TestFaults:
    def test_nobody_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            upstream = Upstream(Origin.parse(f"http://127.0.0.1:{taken.getsockname()[1]}"))
            with pytest.raises(Unreachable) as caught:
                asyncio.run(ask(upstream))
        assert (caught.value.http_status, caught.value.code, caught.value.retryable) == (
            503,
            "upstream_unreachable",
            True,
        )

    def test_nobody_accepts_in_time(self) -> None:
        async def main() -> None:
            # A backlog of 1 that is full: the system answers no more connections.
            with socket.socket() as full:
                full.bind(("127.0.0.1", 0))
                full.listen(0)
                port = full.getsockname()[1]
                waiting = [socket.socket() for _ in range(4)]
                for one in waiting:
                    one.setblocking(False)
                    one.connect_ex(("127.0.0.1", port))
                with pytest.raises(Unreachable, match=r"0\.2 s"):
                    await ask(Upstream(Origin.parse(f"http://127.0.0.1:{port}"), connect_timeout_s=0.2))
                for one in waiting:
                    one.close()

        asyncio.run(main())

    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"HTTP/1.1 200",
            HEAD + b"content-length: 9\r\n\r\nabc",
            HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    def test_closed_before_the_reply_was_whole(self, run: Any, reply: bytes) -> None:
        with pytest.raises(Broken) as caught:
            run(always(reply, keep=False), one)
        assert (caught.value.http_status, caught.value.nothing_came) == (502, reply == b"")

    @pytest.mark.parametrize(
        "reply",
        [
            HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
            HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            HEAD + b"transfer-encoding: identity\r\n\r\n{}",
            HEAD + b"content-length: -2\r\n\r\n{}",
            HEAD + b"content-length: 2x\r\n\r\n{}",
            HEAD + b"content-length : 2\r\n\r\n{}",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            HEAD + b"x: " + b"y" * 70_000,
        ],
    )
    def test_what_cannot_be_trusted_closes_the_connection(self, run: Any, reply: bytes) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> None:
            with pytest.raises(Broken) as caught:
                await ask(upstream)
            assert not caught.value.nothing_came
            await seen.until(lambda: seen.lost == 1)

        run(always(reply), body)

    def test_a_second_reply_is_nobodys(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> tuple[bytes, bytes, int]:
            first = await ask(upstream)
            await seen.until(lambda: seen.lost == 1)
            second = await ask(upstream)
            return first.body, second.body, seen.connections

        smuggled = OK + HEAD + b"content-length: 5\r\n\r\nother"
        assert run(always(smuggled), body) == (b"{}", b"{}", 2)

    def test_a_body_above_the_cap(self, run: Any) -> None:
        for head in (b"content-length: 5000\r\n\r\n", b"\r\n"):
            with pytest.raises(Broken) as caught:
                run(always(HEAD + head + b"x" * 5000, keep=False), one, body_cap_bytes=1000)
            assert caught.value.code == "upstream_reply_too_big"

    def test_a_stream_that_breaks_gives_what_came(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> list[bytes]:
            answer = await upstream.open("POST", "/v1/x", (), b"{}", silence_s=30)
            pieces = []
            with pytest.raises(Broken):
                async for piece in answer.chunks():
                    pieces.append(piece)
            return pieces

        assert run(always(HEAD + b"content-length: 9\r\n\r\nabc", keep=False), body) == [b"abc"]

    @pytest.mark.parametrize("reply", [b"", HEAD, HEAD + b"content-length: 9\r\n\r\nabc"])
    def test_silence(self, run: Any, reply: bytes) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(Silent) as caught:
                await ask(upstream, silence_s=0.2)
            assert caught.value.http_status == 504
            assert loop.time() - began >= 0.19
            await seen.until(lambda: seen.lost == 1)

        run(always(reply), body)

    def test_whoever_sends_now_and_then_is_not_silent(self, run: Any) -> None:
        async def drip(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
            writer.write(HEAD + b"content-length: 8\r\n\r\n")
            for _ in range(8):
                await asyncio.sleep(0.2)
                writer.write(b"x")
            return True

        async def body(upstream: Upstream, seen: Scripted) -> bytes:
            return (await ask(upstream, silence_s=1)).body

        assert run(drip, body) == b"x" * 8


class TestConnections:
    def test_one_after_the_other_uses_one(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> int:
            for _ in range(20):
                await ask(upstream)
            return seen.connections

        assert run(always(OK), body) == 1

    def test_at_once_uses_as_many(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> tuple[int, int]:
            await asyncio.gather(*(ask(upstream) for _ in range(20)))
            first = seen.connections
            await asyncio.gather(*(ask(upstream) for _ in range(20)))
            return first, seen.connections

        first, second = run(always(OK), body)
        assert first == second <= 20

    def test_connection_close_is_heeded(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> int:
            for _ in range(3):
                await ask(upstream)
            return seen.connections

        closing = HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
        assert run(always(closing), body) == 3

    def test_a_stale_connection_costs_nothing(self, run: Any) -> None:
        """The server ends every connection when its second request comes, as one does whose keep-alive ran out."""

        async def stale(request: bytes, writer: asyncio.StreamWriter, number: int) -> bool:
            if number % 2 == 1:
                return False
            writer.write(OK)
            return True

        async def body(upstream: Upstream, seen: Scripted) -> tuple[int, int]:
            for _ in range(3):
                assert (await ask(upstream)).body == b"{}"
            return len(seen.requests), seen.connections

        assert run(stale, body) == (5, 3)

    def test_a_fresh_connection_is_tried_once(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> int:
            with pytest.raises(Broken):
                await ask(upstream)
            return len(seen.requests)

        assert run(always(b"", keep=False), body) == 1

    def test_an_idle_one_is_closed(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> None:
            await ask(upstream)
            await seen.until(lambda: seen.lost == 1)

        run(always(OK), body, idle_s=0.1)

    @pytest.mark.parametrize("reply", [b"", HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"])
    def test_who_is_cancelled_hangs_up(self, run: Any, reply: bytes) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> None:
            task = asyncio.create_task(ask(upstream))
            await seen.until(lambda: len(seen.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await seen.until(lambda: seen.lost == 1)

        run(always(reply), body)

    def test_who_leaves_a_stream_hangs_up(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> int:
            ended = 0

            def count() -> None:
                nonlocal ended
                ended += 1

            answer = await upstream.open("POST", "/v1/x", (), b"{}", silence_s=30)
            answer.call_at_end(count)
            chunks = answer.chunks()
            assert await anext(chunks) == b"abc"
            await chunks.aclose()
            answer.abort()
            await seen.until(lambda: seen.lost == 1)
            return ended

        assert run(always(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"), body) == 1

    def test_a_closed_client_asks_no_more(self, run: Any) -> None:
        async def body(upstream: Upstream, seen: Scripted) -> None:
            await ask(upstream)
            await upstream.close()
            await seen.until(lambda: seen.lost == 1)
            with pytest.raises(Exception, match="closed"):
                await ask(upstream)

        run(always(OK), body)
