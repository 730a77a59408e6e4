"""What comes in from a Dask scheduler is read, and nothing of it is executed."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from distributed import protocol
from hypothesis import given
from hypothesis import strategies as st

from jobledger_schedulers.adapters.dask import wire
from jobledger_schedulers.adapters.dask.session import error_text
from jobledger_schedulers.adapters.dask.wire import Closed, Connection, Opaque, Rpc, decode, words_in_pickle
from jobledger_schedulers.adapters.port import Unreachable

pytestmark = pytest.mark.anyio

DASK: Any = protocol  # its functions have no types
Serialize, ToPickle = DASK.Serialize, DASK.ToPickle


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that must never be there."""
    return tmp_path / "it-went-off"


def frames_of(message: Any) -> list[bytes]:
    return [bytes(frame) for frame in DASK.dumps(message)]


def test_the_bomb_goes_off_in_dasks_own_decoder(mark: Path) -> None:
    DASK.loads(frames_of({"op": "event", "event": ToPickle(Bomb(mark))}), deserialize=False, deserializers=["dask", "msgpack"])
    assert mark.exists(), "this bomb proves nothing"


@pytest.mark.parametrize("wrap", [ToPickle, Serialize], ids=["pickled", "serialized"])
def test_pickles_stay_closed(mark: Path, wrap: Callable[[Any], Any]) -> None:
    message = decode(frames_of([{"op": "event", "event": wrap(Bomb(mark))}, {"op": "next"}]))
    assert isinstance(message[0]["event"], Opaque)
    assert message[1] == {"op": "next"}
    assert not mark.exists()


def test_an_exception_is_read_off_without_being_made(mark: Path) -> None:
    pickled = pickle.dumps((KeyError("lost key"), Bomb(mark)))
    assert "lost key" in words_in_pickle(pickled)
    assert "lost key" in error_text(decode(frames_of({"op": "task-erred", "key": "k", "exception": Serialize(pickled)})))
    assert words_in_pickle(pickled[:7] + b"\xff garbage") is not None
    assert not mark.exists()


def test_bytes_come_as_they_were() -> None:
    value = decode(frames_of({"data": Serialize(b"JLR1J3")}))["data"]
    assert value.raw() == b"JLR1J3"
    with pytest.raises(ValueError, match="plain bytes"):
        decode(frames_of({"data": Serialize({1, 2})}))["data"].raw()


def test_compressed_bytes_are_not_taken_for_plain_ones() -> None:
    with pytest.raises(ValueError, match="compressed"):
        Opaque({"serializer": "dask", "compression": ("lz4",)}, [b"x"]).raw()


def test_sets_and_enums_need_no_import() -> None:
    assert decode(frames_of({"a": {1, 2}})) == {"a": frozenset({1, 2})}
    evil = msgpack.packb({"a": {"__Enum__": True, "name": "x", "__module__": "antigravity", "__name__": "y"}})
    assert decode([evil]) == {"a": "x"}


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_garbage_gives_only_known_errors(frames: list[bytes]) -> None:
    async def read() -> None:
        prelude = struct.pack(f"<{len(frames) + 1}Q", len(frames), *map(len, frames))
        body = prelude + b"".join(frames)
        reader = asyncio.StreamReader()
        reader.feed_data(struct.pack("<Q", len(body)) + body)
        reader.feed_eof()
        with contextlib.suppress(Closed):
            await Connection(reader, None).read()  # type: ignore[arg-type]

    asyncio.run(read())


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x01", struct.pack("<Q", 2**62), struct.pack("<QQ", 8, 2**40), struct.pack("<QQQ", 16, 1, 2**50)],
    ids=["nothing", "half", "huge", "many-frames", "huge-frame"],
)
async def test_a_peer_that_is_no_scheduler_is_unreachable(sent: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        rpc = Rpc(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=5)
        with pytest.raises(Unreachable):
            await rpc.call("identity")
        await rpc.close()


async def test_a_peer_that_never_answers_is_unreachable_in_time() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        rpc = Rpc(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(Unreachable, match="no answer within"):
            await rpc.call("identity")
        await rpc.close()


def test_wire_holds_no_way_to_open_a_pickle() -> None:
    text = Path(wire.__file__).read_text()
    assert "pickle.loads" not in text
    assert "import pickle\n" not in text
    assert "import loads" not in text
