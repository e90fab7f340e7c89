"""Many clients, slow clients, clients that leave, and more than a server can do."""

import socket
import threading
import time
from contextlib import suppress

import psutil
import pytest

from enlca.serve.limits import Limits, Patience

HASTY = Patience(headers=0.3, body=0.3, rate=1e6, stalled=0.3)


def in_threads(count, call):
    """Results of `count` calls at the same time."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def was_closed(client: socket.socket) -> bool:
    """Whether the server closes a connection, at once or with a response."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_fifty_clients_get_results_or_503_and_memory_stays_flat_over_five_rounds(start, png, scratch):
    served = start(limits=Limits(queue=2, admitted=2))
    expected, memory = served.post(png).body, []
    for _ in range(5):
        answers = in_threads(50, lambda: served.post(png))
        assert len(answers) == 50
        assert {answer.status for answer in answers} <= {200, 503}
        good = [answer.body for answer in answers if answer.status == 200]
        assert good
        assert set(good) == {expected}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status == 503)
        memory.append(psutil.Process().memory_info().rss)
    assert memory[-1] - memory[0] < 20 << 20
    assert list(scratch.iterdir()) == []


def test_a_full_queue_is_503_before_the_body_is_sent(hold, png, eventually):
    served, engine = hold(limits=Limits(queue=1))
    answers: list = []
    senders = [threading.Thread(target=lambda: answers.append(served.post(png))) for _ in range(2)]
    for sender in senders:
        sender.start()
    assert eventually(lambda: served.service.pool.waiting == 1)
    client = served.send_head(b"", length=10)
    assert client.recv(100).startswith(b"HTTP/1.1 503")
    client.close()
    engine.released.set()
    for sender in senders:
        sender.join(10)
    assert [answer.status for answer in answers] == [200, 200]


def test_a_client_that_leaves_frees_its_worker_and_its_place_within_two_seconds(
    hold, png, eventually, scratch
):
    served, engine = hold(limits=Limits(queue=1))
    pool = served.service.pool
    working = served.send_head(png)
    assert engine.begun.acquire(timeout=5)
    waiting = served.send_head(png)
    assert eventually(lambda: pool.waiting == 1)
    waiting.close()
    assert eventually(lambda: pool.waiting == 0)
    working.close()
    assert eventually(lambda: pool.working == 0)
    assert engine.stopped == 1
    assert eventually(lambda: served.service.admission.inside == 0 and served.service.counts.left == 2)
    assert list(scratch.iterdir()) == []


def test_a_result_that_takes_too_long_is_504_and_its_work_stops(hold, png, eventually):
    served, engine = hold(limits=Limits(timeout=0.2))
    answer = served.post(png)
    assert answer.status == 504
    assert answer.error == "not done within 0.2 s, which is this server's limit"
    assert eventually(lambda: engine.stopped == 1)


def test_a_body_of_a_gigabyte_is_refused_after_its_first_bytes(start):
    served = start()
    client = served.send_head(b"x" * 1000, length=1 << 30)
    assert client.recv(100).startswith(b"HTTP/1.1 413")
    assert was_closed(client)
    assert served.service.counts.received == 0


def test_a_body_without_a_length_is_refused_at_the_limit(start):
    served = start(limits=Limits(max_body=100_000))
    client = served.connect()
    client.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    with suppress(ConnectionError):
        while sent < 1 << 30:
            client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    assert sent < 8 << 20
    client.close()


@pytest.mark.parametrize("begun", [b"", b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_closes_the_connection(start, begun):
    client = start(patience=HASTY).connect()
    started = time.monotonic()
    client.sendall(begun)
    assert was_closed(client)
    assert time.monotonic() - started < 2


def test_a_second_head_that_does_not_come_closes_the_connection(start):
    client = start(patience=HASTY).connect()
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    started = time.monotonic()
    client.sendall(b"GET /healthz")
    assert was_closed(client)
    assert time.monotonic() - started < 2


def test_bytes_that_trickle_in_are_408(start, eventually):
    served = start(patience=HASTY)
    client = served.send_head(b"x", length=1000)
    received = b""
    for _ in range(200):
        try:
            client.sendall(b"x")
            client.settimeout(0.02)
            received += client.recv(1000)
            break
        except TimeoutError:
            continue
    assert received.startswith(b"HTTP/1.1 408")
    assert eventually(lambda: served.service.admission.inside == 0)


def test_a_client_that_does_not_read_its_response_is_cut_off(hold, eventually):
    served, engine = hold(patience=HASTY)
    engine.released.set()
    # More than the buffers of both ends hold.
    body = b"P5 4000 4000 255\n" + bytes(4000 * 4000)
    with served.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert eventually(lambda: served.service.counts.pictures == 1, within=5)
        assert eventually(lambda: served.service.admission.inside == 0)


def test_a_client_that_does_not_read_the_last_bytes_is_cut_off(hold, eventually):
    served, engine = hold(patience=HASTY)
    engine.released.set()
    # Less than asyncio's high-water mark, more than the system's buffers of both ends.
    served.running.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    body = b"P5 240 240 255\n" + bytes(240 * 240)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((served.host, served.port))
        head = f"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert eventually(lambda: served.service.counts.pictures == 1, within=5)
        assert eventually(lambda: not served.running.server_state.connections)


def test_bytes_of_requests_at_the_same_time_are_all_counted(hold, png, eventually):
    served, engine = hold()
    engine.released.set()
    counts, large = served.service.counts, b"P5 4000 4000 255\n" + bytes(4000 * 4000)
    with served.send_head(large[:9], length=len(large)) as slow:
        assert eventually(lambda: served.service.admission.inside == 1)
        served.post(png)
        slow.sendall(large[9:])
        assert eventually(lambda: counts.pictures == 2, within=5)
        served.post(png)
        left = len(large)
        while left > 0:
            left -= len(slow.recv(1 << 16))
        # The engine returns what it gets.
        expected = 2 * len(png) + len(large)
        assert eventually(lambda: counts.received == counts.sent == expected)


def test_more_connections_than_allowed_are_closed_at_once(start):
    served = start(patience=Patience(connections=2))
    clients = [served.connect() for _ in range(3)]
    assert was_closed(clients[2])
    for client in clients:
        client.close()


def test_work_at_hand_is_finished_at_the_end_and_what_waits_is_refused(hold, png, eventually):
    served, engine = hold()
    answers: dict = {}
    first = threading.Thread(target=lambda: answers.update(first=served.post(png)))
    second = threading.Thread(target=lambda: answers.update(second=served.post(png)))
    first.start()
    assert engine.begun.acquire(timeout=5)
    second.start()
    assert eventually(lambda: served.service.pool.waiting == 1)
    served.running.should_exit = True
    second.join(5)
    assert answers["second"].status == 503
    engine.released.set()
    first.join(5)
    assert answers["first"].status == 200
