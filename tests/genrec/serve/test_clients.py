"""Clients that exist: Gorse's own, over a real socket; and Metarank's requests as its documentation has them.

The client `metarank` on PyPI asks for Python 3.12, and genrec begins at 3.11, so it is not tested with.
"""

import asyncio
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi.testclient import TestClient

from genrec import Recommender, Settings
from genrec.data.prepared import load_prepared
from genrec.serve.access import ApiKeys, make_key
from genrec.serve.app import Options, create_app
from genrec.serve.sql_store import open_store


@pytest.fixture(scope="module")
def recommender(toy_run):
    return Recommender.from_pretrained(toy_run, "cpu", "fp32")


@pytest.fixture
def store(tmp_path, toy_data):
    data = load_prepared(toy_data)
    store = open_store(str(tmp_path / "store.db"))
    store.fill(data.catalog.items, data.histories)
    return store


@contextmanager
def listening(app):
    """Serve an application on a free port, in a thread; yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_gorses_client_works_unchanged(recommender, store, tmp_path):
    gorse = pytest.importorskip("gorse", reason="pygorse is not installed")
    key = make_key(tmp_path / "keys", "shop=read,write")
    app = create_app(recommender, store, Options(keys=ApiKeys.read(tmp_path / "keys")))
    with listening(app) as address:
        client = gorse.Gorse(address, key)
        sent = [
            {"FeedbackType": "star", "UserId": "bob", "ItemId": f"moo{part}", "Timestamp": f"2022-02-0{part}T00:00:00Z"}
            for part in (1, 2, 3)
        ]
        assert client.insert_feedbacks(sent) == {"RowAffected": 3}
        assert client.insert_feedback("star", "bob", "moo1", "2022-02-01T00:00:00Z") == {"RowAffected": 0}
        assert [one["ItemId"] for one in client.list_feedbacks("star", "bob")] == ["moo1", "moo2", "moo3"]
        wanted = recommender.recommend_many([store.history("bob")], Settings(k=5))[0]
        found = client.get_recommend("bob", n=5)
        assert [one.id for one in found] == [entry.item.id for entry in wanted]
        assert [one.id for one in client.get_recommend("bob", n=3, offset=2)] == [one.id for one in found][2:]
        only = client.get_recommend("bob", category="Red Harbour", n=3)
        assert {recommender.catalog[one.id].categories for one in only} == {("Red Harbour",)}
        assert client.get_recommend("bob", category="nothing of the kind") == []
        session = client.session_recommend(sent, n=5)
        assert session[0]["Id"] == "moo4"
        assert {"Id", "Score"} == set(session[0])
        assert len(client.get_neighbors("red1", n=3)) == 3
        new = {"ItemId": "moo7", "IsHidden": False, "Comment": "Moon & Sixpence 7", "Categories": ["Moon & Sixpence"]}
        assert client.insert_item({**new, "Labels": ["a"], "Timestamp": "2022-02-01"}) == {"RowAffected": 1}
        assert client.get_item("moo7")["Comment"] == "Moon & Sixpence 7"
        assert client.search_items("sixpence 7")[0]["ItemId"] == "moo7"
        assert "moo7" in [one.id for one in client.get_recommend("bob", n=30)]
        client.update_item("moo7", is_hidden=True)
        assert "moo7" not in [one.id for one in client.get_recommend("bob", n=30)]
        client.insert_user({"UserId": "bob", "Labels": {"age": 40}})
        assert client.get_user("bob")["UserId"] == "bob"
        assert client.delete_user("bob")["RowAffected"] == 3
        with pytest.raises(gorse.GorseException) as caught:
            client.get_user("bob")
        assert caught.value.status_code == 404
        with pytest.raises(gorse.GorseException) as caught:
            gorse.Gorse(address, "another key").get_recommend("bob")
        assert caught.value.status_code == 401
        assert len(asyncio.run(gorse.AsyncGorse(address, key).get_recommend("bob"))) == 10


def test_what_gorses_older_clients_ask(recommender, store):
    with TestClient(create_app(recommender, store)) as client:
        assert client.get("/api/recommend/u0001?n=3").json() == [
            one["Id"] for one in client.get("/api/recommend/u0001?n=3", headers={"X-API-Version": "2"}).json()
        ]
        event = {"FeedbackType": "like", "UserId": "v", "ItemId": "red1", "Timestamp": "2022-01-01"}
        assert client.post("/api/feedback", json=[event]).json() == {"RowAffected": 1}
        later = [{**event, "Timestamp": "2023-01-01T00:00:00+02:00"}]
        assert client.put("/api/feedback", json=later).json() == {"RowAffected": 1}
        assert store.history("v").times == (1672524000,)
        shown = [{"FeedbackType": "read", "UserId": "v", "ItemId": "red2", "Timestamp": ""}]
        assert client.post("/api/feedback", json=shown).json() == {"RowAffected": 1}
        assert store.history("v").items == ("red1",), "what was only shown was not taken"
        assert client.get("/api/latest?n=2").json()[0]["Id"] == recommender.catalog.ids[-1]
        assert len(client.get("/api/item-to-item/neighbors/red1?n=2").json()) == 2
        assert client.get("/api/health/ready").status_code == client.get("/api/health/live").status_code == 200


def test_metaranks_requests(recommender, store):
    with TestClient(create_app(recommender, store)) as client:
        events = [
            {
                "event": "item", "id": "1", "timestamp": "1599391467000", "item": "nig7",
                "fields": [
                    {"name": "title", "value": "Night Train 7"}, {"name": "genres", "value": ["Night Train"]},
                    {"name": "year", "value": 1999}, {"name": "popularity", "value": 1.5},
                ],
            },
            {
                "event": "ranking", "id": "2", "timestamp": "1599391467000", "user": "alice1", "session": "s1",
                "fields": [{"name": "query", "value": "cat"}], "items": [{"id": "nig1", "relevancy": 2.0}],
            },
            {
                "event": "interaction", "id": "3", "ranking": "2", "timestamp": "1599391467000", "user": "alice1",
                "session": "s1", "type": "purchase", "item": "nig1", "fields": [],
            },
            {"event": "user", "id": "4", "timestamp": "2022-01-01T00:00:00Z", "user": "alice1", "fields": []},
        ]  # fmt: skip
        answer = client.post("/feedback", json=events)
        assert answer.status_code == 200, answer.text
        assert answer.json() | {"tookMillis": 0} == {"status": "ok", "accepted": 4, "tookMillis": 0, "updated": 2}
        assert client.post("/feedback", json=events).json()["updated"] == 0
        assert client.post("/feedback", json=events[2] | {"id": "5", "item": "nig2"}).json()["updated"] == 1
        assert store.history("alice1").items == ("nig1", "nig2")
        assert store.history("alice1").times[0] == 1599391467
        asked = {"count": 3, "user": "alice1"}
        found = client.post("/recommend/similar", json=asked).json()
        assert found["items"][0]["item"] == "nig3"
        assert {"took", "items"} == set(found)
        found = client.post("/recommend/similar", json={"count": 3, "items": ["moo1", "moo2"]}).json()
        assert found["items"][0]["item"] == "moo3"
        asked = {
            "id": "81f46c34", "timestamp": "1661431886711", "user": "alice1", "session": "s1",
            "fields": [{"name": "query", "value": "x"}],
            "items": [{"id": "red5"}, {"id": "unknown"}, {"id": "nig3", "fields": [{"name": "bid", "value": 1}]}],
        }  # fmt: skip
        ranked = client.post("/rank/xgboost", json=asked).json()["items"]
        assert [one["item"] for one in ranked] == ["nig3", "red5", "unknown"]
        assert ranked[0]["score"] > ranked[1]["score"] > ranked[2]["score"]
        assert "features" not in ranked[0]
        ranked = client.post("/rank/xgboost?explain=true", json=asked).json()["items"]
        assert "lm" in [feature["name"] for feature in ranked[0]["features"]]
        assert client.get("/health").json()["status"] == "ok"
        assert client.post("/feedback", json={"event": "nothing"}).status_code == 422
