"""Faults, each with the outcome that is promised."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tamis.probes.errors import ProxyMissing
from tamis.probes.hub.zoo import load_proxy
from tamis.probes.kv_cache.disk import CacheFiles
from tamis.service.engine.engine import Engine
from tamis.service.engine.errors import Unavailable
from tamis.service.http.runtime.executor import RequestExecutor
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import ServiceState, begin_loading
from tamis.service.http.runtime.telemetry import Metrics
from tests.probes.tiny import proxy as tiny_proxy
from tests.probes.tiny import save as tiny_save
from tests.service.http.app_kit import (
    BODY,
    DOCUMENTS,
    NEEDLE,
    Gated,
    Running,
    hold_until_end,
    pointing,
    served,
    wait_until,
)

PLAIN = {
    "question": "why the cat?",
    "documents": ["the cat in. a bat. the hat is in."],
    "max_tokens": 12,
}


def kill(thread_id: int) -> None:
    """Ends a thread of this process where it stands, as a fault of the runtime would."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), ctypes.py_object(SystemExit)
    )


def test_a_killed_worker_is_one_clear_503_unready_and_then_replaced():
    gated = Gated(pointing())
    with served(gated, warmup=False) as service, ThreadPoolExecutor(2) as pool, gated:
        in_flight = pool.submit(service.post, "/v1/compress", **BODY)
        wait_until(lambda: gated.calls == 1)
        engine = service.service_state.engine
        dead = engine._worker
        kill(engine._worker.ident)
        gated.gate.release()  # a thread that waits for a lock dies when it gets it
        answer = in_flight.result()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "worker_died"
        assert int(answer.headers["retry-after"]) >= 1
        gated.open()
        wait_until(lambda: engine.ready)
        assert engine._worker is not dead
        assert engine.restarts == 1
        assert service.post("/v1/compress", **BODY).status_code == 200
        assert "tamis_worker_restarts_total 1.0" in service.http.get("/metrics").text
        assert engine.queue_load().tokens == 0


def test_while_the_model_is_away_readyz_says_so_and_requests_wait():
    gated = Gated(pointing(), batches=1000)
    with (
        served(gated, warmup=False) as service,
        ThreadPoolExecutor(2) as pool,
        hold_until_end() as blocked,
    ):
        engine = service.service_state.engine
        engine._load, load = lambda: blocked.wait() and load(), engine._load
        kill(engine._worker.ident)
        first = pool.submit(service.post, "/v1/compress", **BODY)  # wakes the thread, to die
        wait_until(lambda: not engine.ready)
        unready = service.http.get("/readyz")
        assert unready.status_code == 503
        assert unready.json()["status"] == "unready"
        assert service.http.get("/livez").status_code == 200
        waiting = pool.submit(service.post, "/v1/compress", **BODY)
        wait_until(lambda: engine.queue_load().requests == 2)
        blocked.set()
        assert [f.result().status_code for f in (first, waiting)] == [200, 200]
        assert service.http.get("/readyz").status_code == 200


def test_what_a_client_that_hung_up_asked_for_is_never_read():
    gated = Gated(pointing())
    with served(gated, warmup=False) as service, ThreadPoolExecutor(1) as pool, gated:
        first = pool.submit(service.post, "/v1/compress", **BODY)
        wait_until(lambda: gated.calls == 1)
        host, port = service.url.removeprefix("http://").split(":")
        data = json.dumps({**BODY, "documents": ["Zebra. Crossing."], "max_tokens": 9}).encode()
        head = (
            "POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        gone = socket.create_connection((host, int(port)))
        gone.sendall(head.encode() + data)
        engine = service.service_state.engine
        wait_until(lambda: len(engine.queue._jobs) == 1)
        gone.close()
        wait_until(lambda: not engine.queue._jobs)
        gated.open()
        assert first.result().status_code == 200
        assert service.post("/v1/compress", **BODY).status_code == 200
        wait_until(lambda: engine.queue_load().requests == 0)
    assert not any("Zebra" in text for batch in gated.reads for text in batch)


def test_a_model_that_fails_is_500_without_a_word_of_the_text(capfd):
    class Broken(Gated):
        def read(self, prompts, want):
            raise RuntimeError(f"cannot read {prompts}")

    with served(Broken(pointing()), warmup=False, log_format="json") as service:
        answer = service.post("/v1/compress", **BODY, on_error="fail")
        passed = service.post("/v1/compress", **BODY, on_error="passthrough")
        items = service.post("/v1/compress/batch", inputs=[BODY, BODY]).json()["data"]
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"]
    assert "Keys" not in answer.text
    logged = capfd.readouterr().err
    assert logged.count("RuntimeError") == 4  # alone, passed over, and both of the batch
    assert "Keys" not in logged
    assert passed.status_code == 200
    assert passed.json()["text"] == "\n\n".join(BODY["documents"])
    assert "the service failed" in " ".join(passed.json()["warnings"])
    assert [item["error"]["code"] for item in items] == ["internal_error"] * 2


def test_a_proxy_that_is_not_here_stops_the_start_with_the_way_out(tmp_path):
    with pytest.raises(ProxyMissing, match="tamis models pull"):
        ServiceState.start(Settings(home=tmp_path), Metrics())
    settings = Settings(home=tmp_path)
    with pytest.raises(ProxyMissing, match="tamis models pull"):
        ServiceState.start(settings, Metrics(), begin_loading(settings))


def test_a_model_that_is_being_loaded_is_not_loaded_again(tmp_path):
    folder = tiny_save("llama", tmp_path)
    settings = Settings(proxy=str(folder), method="lexical", methods=("lexical",), warmup=False)
    loading = begin_loading(settings)
    loading.result()
    (folder / "model.safetensors").unlink()
    state = ServiceState.start(settings, Metrics(), loading)
    try:
        assert state.engine.ready
        assert state.methods.reader.layout is loading.result().layout
    finally:
        state.close()


def ask(service: Running) -> dict:
    answer = service.post("/v1/compress", **PLAIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_passage_is_read_once_and_the_answer_stays_the_same(one_thread):
    with served(tiny_proxy(), cache_bytes=10_000_000) as service:
        cold, warm = ask(service), ask(service)
        page = service.http.get("/metrics").text
    assert cold["text"] == warm["text"]
    assert cold["usage"]["cached_tokens"] == 0
    assert warm["usage"]["cached_tokens"] > 0
    assert "tamis_cache_hits_total 1.0" in page


def test_a_scrape_does_not_walk_the_folder_of_kept_passages(tmp_path, monkeypatch, one_thread):
    with served(_versioned(), cache_bytes=1, cache_folder=tmp_path) as service:
        ask(service)
        walks = []
        monkeypatch.setattr(CacheFiles, "size", lambda self: walks.append(1) or (0, 0))
        assert "tamis_cache_misses_total" in service.http.get("/metrics").text
    assert walks == []


def _versioned():
    from dataclasses import replace

    made = tiny_proxy()
    made.card = replace(made.card, revision="r1")
    return made


def test_a_full_disk_costs_the_disk_cache_and_no_answer(tmp_path, one_thread):
    """A file where the folder of entries would go is a disk that takes nothing."""
    with served(_versioned(), cache_bytes=1, cache_folder=tmp_path / "c") as service:
        for name in map("{:02x}".format, range(256)):
            (tmp_path / "c" / name).write_text("taken")
        assert ask(service)["text"] == ask(service)["text"]
        page = service.http.get("/metrics").text
    unwritten = next(r for r in page.splitlines() if r.startswith("tamis_cache_unwritten_total"))
    assert float(unwritten.split()[1]) >= 1


def test_a_corrupted_cache_file_is_dropped_and_read_anew(tmp_path, one_thread):
    with served(_versioned(), cache_bytes=1, cache_folder=tmp_path) as service:
        first = ask(service)
        files = [f for f in tmp_path.rglob("*.safetensors") if f.is_file()]
        assert files
        for file in files:
            data = bytearray(file.read_bytes())
            data[-20] ^= 0xFF
            os.chmod(file, 0o600)
            file.write_bytes(data)
        again = ask(service)
        page = service.http.get("/metrics").text
        warm = ask(service)
    assert again["text"] == first["text"] == warm["text"]
    assert again["usage"]["cached_tokens"] == 0
    assert warm["usage"]["cached_tokens"] > 0
    assert "tamis_cache_dropped_total 0.0" not in page


@pytest.mark.model
def test_sixteen_clients_get_what_one_gets(proxy_folder):
    """Same sentences, scores within 1e-5: packing changes no answer."""
    bodies = [
        {**BODY, "documents": [*DOCUMENTS[:1], f"{NEEDLE[:-1]} or {i}. The {i}th room is grey."]}
        for i in range(8)
    ]
    with served(load_proxy(dtype="float32"), timeout_s=600.0) as service:
        alone = [service.post("/v1/explain", **body).json() for body in bodies]
        with ThreadPoolExecutor(16) as pool:
            together = list(
                pool.map(lambda i: service.post("/v1/explain", **bodies[i % 8]).json(), range(16))
            )
    for i, found in enumerate(together):
        assert found["text"] == alone[i % 8]["text"]
        for mine, theirs in zip(found["results"], alone[i % 8]["results"], strict=True):
            scores = [u["score"] for u in mine["units"]]
            assert scores == pytest.approx([u["score"] for u in theirs["units"]], abs=1e-5)


def test_requests_that_wait_for_a_thread_when_the_service_closes_are_told_so():
    """Neither a fault (500) nor a cancellation, which would be no answer at all."""

    async def run() -> list[Any]:
        engine = Engine(pointing)
        await asyncio.to_thread(engine.start)
        executor = RequestExecutor(engine, 60.0)
        with hold_until_end() as end:
            asked = [
                asyncio.create_task(executor.run_prepared(end.wait, lambda _: None, lambda p, _: p))
                for _ in range(6)
            ]
            while executor._computing.pieces < len(asked):
                await asyncio.sleep(0.01)
            executor.close()
        found = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(engine.drain, 1.0)
        return found

    assert [type(answer) for answer in asyncio.run(run())] == [Unavailable] * 6
