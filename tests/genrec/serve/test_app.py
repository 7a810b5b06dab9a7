"""The application over the toy run: the same answers as `recommend`, live events and items, keys, limits, a new run."""

import asyncio
import json
import logging
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from genrec import History, Item, Recommender, Settings
from genrec.data.prepared import load_prepared
from genrec.errors import ArtefactError
from genrec.ranking.filters import Filters
from genrec.ranking.reranking import Reranking
from genrec.serve.access import ApiKeys, make_key
from genrec.serve.app import Options, create_app
from genrec.serve.batching import Batcher, Limits, OverloadedError, TooLateError
from genrec.serve.metrics import Metrics
from genrec.serve.sql_store import open_store


@pytest.fixture(scope="module")
def recommender(toy_run):
    return Recommender.from_pretrained(toy_run, "cpu", "fp32")


@pytest.fixture(scope="module")
def data(toy_data):
    return load_prepared(toy_data)


@pytest.fixture
def store(tmp_path, data):
    store = open_store(str(tmp_path / "store.db"))
    store.fill(data.catalog.items, data.histories)
    return store


@pytest.fixture
def client(recommender, store):
    with TestClient(create_app(recommender, store)) as client:
        yield client


def items_of(answer):
    assert answer.status_code == 200, answer.text
    return [entry["item"] for entry in answer.json()["recommendations"]]


def same(answer, recommendations):
    """Say whether the service gives what `recommend` gives; the last digit depends on what was computed together."""
    assert answer.status_code == 200, answer.text
    given = [pytest.approx(flat(entry), abs=1e-4) for entry in answer.json()["recommendations"]]
    return given == [flat(entry.to_json()) for entry in recommendations]


def flat(entry):
    others = {name: entry.get(name) or "" for name in ("item", "title", "how", "generated", "explanation")}
    numbers = {"rank": entry["rank"], "score": entry["score"], **entry["signals"]}
    return others | {name: value for name, value in numbers.items() if value is not None}


def test_users_get_what_recommend_gives(client, recommender, data):
    for history in data.histories[:6]:
        (wanted,) = recommender.recommend_many([history], Settings(k=5, explain="sentence"))
        assert same(client.post("/recommend", json={"user": history.user, "k": 5, "explain": "sentence"}), wanted)


def test_sessions_tastes_filters_and_wishes_do_too(client, recommender):
    filters = Filters(only=(("category", "Red Harbour"), ("category", "Night Train")))
    asked = {"items": ["Red Harbour 1", "red2"], "filters": {"only": {"category": ["Red Harbour", "Night Train"]}}}
    wanted = recommender.recommend(["red1", "red2"], 4, filters=filters, explain="none")
    assert same(client.post("/recommend", json={**asked, "k": 4}), wanted)
    wanted = recommender.recommend(taste="the sea", k=4, reranking=Reranking(diversity=0.5), explain="none")
    asked = {"taste": "the sea", "k": 4, "reranking": {"diversity": 0.5}}
    assert same(client.post("/recommend", json=asked), wanted)
    wanted = recommender.recommend(k=3, explain="none")
    assert same(client.post("/recommend", json={"k": 3}), wanted)
    answer = client.post("/recommend", json={"taste": "red harbours, no night train", "k": 4}).json()
    assert (answer["understood"], answer["released"]) == ("Red Harbour; not Night Train", "")
    answer = client.post("/recommend", json={"taste": "red harbours", "k": 9}).json()
    assert (answer["understood"], answer["released"]) == ("", "Red Harbour")


def test_requests_that_come_together_get_what_each_would_get_alone(client, recommender, data):
    answers = {}

    def ask(user):
        answers[user] = client.post("/recommend", json={"user": user, "k": 5})

    threads = [threading.Thread(target=ask, args=(history.user,)) for history in data.histories[:16]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for history in data.histories[:16]:
        assert same(answers[history.user], recommender.recommend_many([history], Settings(k=5))[0])
    assert b'genrec_batch_users_bucket{le="1.0"} 16.0' not in client.get("/metrics").content, "none came together"


def test_the_next_request_counts_an_event(client, recommender):
    before = items_of(client.post("/recommend", json={"user": "new", "k": 5}))
    events = [{"user": "new", "item": f"moo{part}", "time": part, "id": f"e{part}"} for part in (1, 2, 3)]
    assert client.post("/events", json={"events": events}).json() == {"new": 3, "known": 0}
    after = items_of(client.post("/recommend", json={"user": "new", "k": 5}))
    history = History("new", ("moo1", "moo2", "moo3"), (1, 2, 3))
    assert after == [entry.item.id for entry in recommender.recommend_many([history], Settings(k=5))[0]]
    assert after[0] == "moo4"
    assert after != before
    assert client.post("/events", json={"events": events}).json() == {"new": 0, "known": 3}
    assert [item["id"] for item in client.get("/users/new/history").json()["items"]] == ["moo1", "moo2", "moo3"]
    assert client.delete("/users/new").json() == {"events": 3}
    assert items_of(client.post("/recommend", json={"user": "new", "k": 5})) == before


def test_an_unchanged_history_is_answered_from_the_cache(client):
    for _ in range(3):
        client.post("/recommend", json={"items": ["red1"]})
    metrics = client.get("/metrics").text
    assert 'genrec_cache_total{found="yes"} 2.0' in metrics
    assert 'genrec_cache_total{found="no"} 1.0' in metrics


def test_a_new_item_is_recommended_at_once_and_after_a_restart(recommender, store, tmp_path):
    new = {"id": "red7", "title": "Red Harbour 7", "categories": ["Red Harbour"]}
    ask = {"items": ["red4", "red5", "red6"], "k": 28}
    with TestClient(create_app(recommender, store)) as client:
        assert "red7" not in items_of(client.post("/recommend", json=ask))
        assert client.post("/items", json={"items": [new]}).json() == {"new": 1, "known": 0}
        listed = items_of(client.post("/recommend", json=ask))
        assert "red7" in listed
        assert client.post("/items", json={"items": [new]}).json() == {"new": 0, "known": 1}
        assert client.post("/events", json={"events": [{"user": "u", "item": "red7"}]}).status_code == 200
    with TestClient(create_app(recommender, open_store(str(tmp_path / "store.db")))) as client:
        assert items_of(client.post("/recommend", json=ask)) == listed


def test_a_hidden_item_is_not_recommended(client):
    first, second, *_ = items_of(client.post("/recommend", json={"items": ["red1"], "k": 5}))
    assert client.delete(f"/items/{first}").status_code == 200
    answer = client.post("/recommend", json={"items": ["red1"], "k": 5})
    assert items_of(answer)[0] == second
    assert first not in items_of(answer)
    assert [entry["rank"] for entry in answer.json()["recommendations"]] == [1, 2, 3, 4, 5]
    assert client.delete("/items/nothing").status_code == 404


def test_given_items_are_scored_as_candidates_are(client, recommender):
    listed = recommender.recommend(["red1", "red2"], 8, explain="none")
    asked = {"items": ["red1", "red2"], "candidates": [entry.item.id for entry in reversed(listed)]}
    scored = client.post("/score", json=asked).json()["recommendations"]
    assert [entry["item"] for entry in scored] == [entry.item.id for entry in listed]
    for one, other in zip(scored, listed, strict=True):
        assert one["score"] == pytest.approx(other.score, abs=1e-4)
        assert one["signals"]["lm"] == pytest.approx(other.signals["lm"], abs=1e-4)
    assert len(client.post("/score", json={"candidates": ["red1", "nig1"]}).json()["recommendations"]) == 2


def test_one_item_is_explained_and_similar_ones_are_found(client, recommender):
    told = client.post("/explain", json={"items": ["red1", "red2"], "item": "red3"}).json()
    assert "Red Harbour" in told["explanation"]
    assert set(told["because"]) <= {"red1", "red2"}
    told = client.post("/explain", json={"items": ["red1"], "item": "red3", "explain": "measured", "language": "zh"})
    assert "Red Harbour 1" in told.json()["explanation"]
    similar = client.get("/items/red1/similar", params={"k": 3}).json()["items"]
    assert all(item["title"].startswith("Red Harbour") for item in similar)
    assert "red1" not in [item["id"] for item in similar]
    assert client.get("/items/nothing/similar").status_code == 404
    found = client.get("/items", params={"query": "ÉTOILE 3"}).json()["items"]
    assert [item["title"] for item in found] == ["Café Étoile 3"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/recommend", {"user": "u", "items": []}, "not both"),
        ("/recommend", {"k": 0}, "greater than or equal to 1"),
        ("/recommend", {"kk": 3}, "Extra inputs"),
        ("/recommend", {"items": ["nothing"]}, "neither an id nor a title"),
        ("/recommend", {"filters": {"only": {"category": ["Comedi"]}}}, "no item has the category"),
        ("/recommend", {"reranking": {"diversity": 2}}, "from 0 to 1"),
        ("/recommend", {"taste": "x" * 301}, "300"),
        ("/recommend", {"user": "a\x00"}, "zero byte"),
        ("/events", {"events": [{"user": "u", "item": "nothing"}]}, "POST /items first"),
        ("/items", {"items": [{"id": "n", "title": " "}]}, "empty title"),
        ("/score", {"candidates": []}, "at least 1 item"),
    ],
)
def test_mistakes_are_told_in_one_line(client, path, body, words):
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_bodies_that_are_none(client):
    as_json = {"content-type": "application/json"}
    for body in (b"{", b"[" * 100_000, b'{"k": ' + b"9" * 5000 + b"}", b'{"user": "\\ud800"}', b"\xff\xfe", b""):
        assert client.post("/recommend", content=body, headers=as_json).status_code in (400, 422), body[:20]
    assert client.post("/recommend", content=b'{"reranking": {"diversity": NaN}}', headers=as_json).status_code == 422
    assert client.post("/recommend", content=b" " * (1 << 20 | 1), headers=as_json).status_code == 413
    stream = (b" " * 100_000 for _ in range(20))
    answer = client.post("/recommend", content=stream, headers=as_json)
    assert answer.status_code == 413, "one that does not say how long it is"
    assert "1,048,576 bytes" in answer.json()["detail"]


def test_keys_have_rights(recommender, store, tmp_path):
    file = tmp_path / "keys"
    keys = {name: make_key(file, f"{name}={name}") for name in ("read", "write", "manage")}
    assert not any(key in file.read_text() for key in keys.values())
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ArtefactError, match="already"):
        make_key(file, "read=write")
    with TestClient(create_app(recommender, store, Options(keys=ApiKeys.read(file)))) as client:
        asked = {"json": {"items": ["red1"]}}
        assert client.get("/health/live").status_code == 200
        assert client.post("/recommend", **asked).status_code == 401
        assert client.post("/recommend", headers={"X-API-Key": "guess"}, **asked).status_code == 401
        assert client.post("/recommend", headers={"X-API-Key": keys["write"]}, **asked).status_code == 403
        assert client.post("/recommend", headers={"X-API-Key": keys["read"]}, **asked).status_code == 200
        assert (
            client.post("/recommend", headers={"Authorization": f"Bearer {keys['read']}"}, **asked).status_code == 200
        )
        event = {"json": {"events": [{"user": "u", "item": "red1"}]}}
        assert client.post("/events", headers={"X-API-Key": keys["read"]}, **event).status_code == 403
        assert client.post("/events", headers={"X-API-Key": keys["write"]}, **event).status_code == 200
        assert client.post("/admin/reload", headers={"X-API-Key": keys["write"]}).status_code == 403
        assert client.get("/metrics").status_code == 401
        open_to_all = {"/health/live", "/health/ready", "/"}
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            for method in methods:
                if path not in open_to_all and not path.endswith(("/health", "/health/live", "/health/ready")):
                    sent = client.request(method, path.replace("{", "").replace("}", ""), json={})
                    assert sent.status_code == 401, (method, path)


def test_logs_name_routes_and_no_users(client, caplog):
    with caplog.at_level(logging.INFO, "genrec.serve.requests"):
        client.get("/users/secret-anna/history")
        client.post("/recommend", json={"user": "secret-anna"})
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "genrec.serve.requests"]
    assert [line["route"] for line in lines] == ["/users/{user}/history", "/recommend"]
    assert all(line["status"] == 200 for line in lines)
    assert "secret-anna" not in caplog.text
    assert "secret-anna" not in client.get("/metrics").text


def test_a_fault_is_told_without_the_users_id(client, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret-anna")

    monkeypatch.setattr(client.app.state.engine.store, "history", fail)
    answer = client.post("/recommend", json={"user": "secret-anna"})
    assert answer.status_code == 500
    assert "RuntimeError" in caplog.text
    assert "secret-anna" not in caplog.text + answer.text


def test_a_store_that_does_not_answer_is_not_ready(client, monkeypatch):
    from sqlalchemy.exc import OperationalError

    assert client.get("/health/ready").json() == {"status": "ready", "items": 30}

    def fail(*_):
        raise OperationalError("select", {}, OSError("gone"))

    monkeypatch.setattr(client.app.state.engine.store, "check", fail)
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200


def test_other_origins_are_refused_unless_named(recommender, store):
    origin = {"Origin": "https://shop.example"}
    with TestClient(create_app(recommender, store)) as client:
        assert "access-control-allow-origin" not in client.get("/health/live", headers=origin).headers
    with TestClient(create_app(recommender, store, Options(cors=("https://shop.example",)))) as client:
        answer = client.get("/health/live", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_new_run_takes_over_and_a_sick_one_does_not(recommender, store):
    bigger = recommender.with_items([Item("new1", "Red Harbour 9")])
    runs = [bigger]

    def load():
        if not runs:
            raise ArtefactError("the run is damaged")
        return runs.pop()

    with TestClient(create_app(recommender, store, Options(load=load))) as client:
        client.post("/items", json={"items": [{"id": "red7", "title": "Red Harbour 7"}]})
        assert client.post("/admin/reload").json() == {"status": "taken over", "items": 32}
        assert "new1" in items_of(client.post("/recommend", json={"items": ["red6"], "k": 32}))
        answer = client.post("/admin/reload")
        assert (answer.status_code, answer.json()) == (422, {"detail": "the run is damaged"})
        assert client.get("/health/ready").json()["items"] == 32
        sick = recommender.with_items([Item("new1", "Red Harbour 9")])
        sick.signals.clear()
        runs.append(sick)
        answer = client.post("/admin/reload")
        assert answer.status_code == 422
        assert "the old one goes on" in answer.json()["detail"]
        assert "new1" in items_of(client.post("/recommend", json={"items": ["red6"], "k": 32}))


def test_requests_go_on_while_a_run_is_taken_over(recommender, store):
    loading, go = threading.Event(), threading.Event()

    def load():
        loading.set()
        assert go.wait(30)
        return recommender

    with TestClient(create_app(recommender, store, Options(load=load))) as client:
        answers = []
        taking = threading.Thread(target=lambda: answers.append(client.post("/admin/reload").status_code))
        taking.start()
        assert loading.wait(30)
        assert items_of(client.post("/recommend", json={"items": ["red1"]}))
        go.set()
        taking.join()
        assert answers == [200]


def in_loop(limits, answer, script):
    async def main():
        batcher = Batcher(answer, limits, Metrics())
        batcher.start()
        try:
            return await script(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_the_rest_is_answered():
    go = threading.Event()

    def answer(histories, _):
        assert go.wait(30)
        return [history.user for history in histories]

    async def script(batcher):
        first = asyncio.ensure_future(batcher.ask(History("0", ()), Settings()))
        await asyncio.sleep(0.05)  # it is being computed
        others = [asyncio.ensure_future(batcher.ask(History(str(n), ()), Settings())) for n in range(1, 9)]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    answers = in_loop(Limits(queue=5, batch=4, wait=0.001), answer, script)
    assert answers[:6] == ["0", "1", "2", "3", "4", "5"]
    assert [type(one) for one in answers[6:]] == [OverloadedError] * 3


def test_one_bad_request_does_not_spoil_its_batch():
    def answer(histories, _):
        if any(history.user == "bad" for history in histories):
            raise ValueError("bad")
        return [history.user for history in histories]

    async def script(batcher):
        asked = [batcher.ask(History(user, ()), Settings()) for user in ("a", "bad", "b")]
        return await asyncio.gather(*asked, return_exceptions=True)

    a, bad, b = in_loop(Limits(), answer, script)
    assert (a, type(bad), b) == ("a", ValueError, "b")


def test_a_wait_has_an_end():
    def answer(histories, _):
        time.sleep(0.3)
        return ["late"] * len(histories)

    async def script(batcher):
        return await asyncio.gather(batcher.ask(History("", ()), Settings()), return_exceptions=True)

    (late,) = in_loop(Limits(seconds=0.05), answer, script)
    assert isinstance(late, TooLateError)


def test_a_slow_body_is_cut_off(recommender, store):
    async def main():
        app = create_app(recommender, store, Options(body_seconds=0.1))
        async with app.router.lifespan_context(app):

            async def drip():
                for _ in range(100):
                    yield b" "
                    await asyncio.sleep(1)

            # httpx's transport gathers a body before it sends it, so the application is spoken to as a server does.
            body, sent = drip(), []

            async def receive():
                return {"type": "http.request", "body": await anext(body), "more_body": True}

            async def send(message):
                sent.append(message)

            scope = {
                "type": "http", "method": "POST", "path": "/recommend", "raw_path": b"/recommend", "query_string": b"",
                "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
                "client": None, "server": ("localhost", 80), "root_path": "",
            }  # fmt: skip
            await app(scope, receive, send)
            return sent[0]["status"]

    assert asyncio.run(main()) == 408


def test_five_hundred_at_once_are_answered_or_refused(recommender, store):
    async def main():
        app = create_app(recommender, store, Options(limits=Limits(queue=40)))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=60) as client,
        ):
            asked = [client.post("/recommend", json={"user": f"u{n:04d}", "k": 3}) for n in range(500)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    codes = asyncio.run(main())
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 40
