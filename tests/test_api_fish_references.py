import base64
from pathlib import Path

import pytest

from tests.fish_requests import JSON, MSGPACK, assert_is_error, pack, run, speak, spoken, unpack
from tests.scripted import client


def test_references_are_added_listed_renamed_and_deleted(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            files = {"audio": ("reference.wav", b"RIFF")}
            data = {"id": "my voice", "text": "What I say."}
            added = await http.post("/v1/references/add", data=data, files=files, headers=JSON)
            assert added.status_code == 200, added.text
            assert added.json()["success"] is True
            assert added.json()["reference_id"] == "my voice"
            encoded = {**data, "audio": base64.b64encode(b"RIFF").decode()}
            again = await http.post("/v1/references/add", json=encoded)
            assert_is_error(again, 409, "my voice")
            listed = await http.get("/v1/references/list", headers=JSON)
            assert listed.json()["reference_ids"] == ["my voice"]
            assert (await speak(http, reference_id="my voice")).status_code == 200
            ids = {"old_reference_id": "my voice", "new_reference_id": "yours"}
            renamed = await http.post("/v1/references/update", json=ids, headers=JSON)
            assert renamed.json()["new_reference_id"] == "yours"
            assert_is_error(await http.post("/v1/references/update", json=ids), 404, "my voice")
            deletion = pack({"reference_id": "yours"})
            deleted = await http.request(
                "DELETE", "/v1/references/delete", content=deletion, headers=MSGPACK
            )
            assert unpack(deleted.content)["success"] is True
            listed = await http.get("/v1/references/list?format=json")
            assert listed.json()["reference_ids"] == []

    run(work())
    assert [transcript for transcript, _ in spoken(log)[0]["references"]] == ["What I say."]


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "application/msgpack"),
        ("", "application/json", "application/json"),
        ("", "application/json, application/msgpack", "application/msgpack"),
        ("?format=json", "*/*", "application/json"),
        ("?format=msgpack", "application/json", "application/msgpack"),
    ],
)
def test_references_answer_as_they_are_asked(
    query: str, accept: str, kind: str, tmp_path: Path
) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await http.get(f"/v1/references/list{query}", headers={"Accept": accept})
            assert answer.headers["content-type"] == kind
            is_json = kind == "application/json"
            said = answer.json() if is_json else unpack(answer.content)
            assert said["success"] is True
            assert said["reference_ids"] == []

    run(work())


def test_bad_references(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            audio = {"audio": b"RIFF"}
            for data, files, says in (
                ({"text": "x"}, audio, "id"),
                ({"id": "a/b", "text": "x"}, audio, "id"),
                ({"id": "anna", "text": "x"}, {"other": b"x"}, "other"),
                ({"id": "anna", "text": "x"}, {"audio": b""}, "audio"),
            ):
                answer = await http.post("/v1/references/add", data=data, files=files)
                assert_is_error(answer, 422, says)
            body = {"id": "anna", "text": {}, "audio": "UklGRg=="}
            assert_is_error(await http.post("/v1/references/add", json=body), 422, "text")
            path = "/v1/references/delete"
            answer = await http.request("DELETE", path, json={"reference_id": ""})
            assert_is_error(answer, 422, "reference_id")
            answer = await http.request("DELETE", path, json={"reference_id": "nobody"})
            assert_is_error(answer, 404, "nobody")
            answer = await http.request("DELETE", path, content=b"x" * 100_000, headers=MSGPACK)
            assert_is_error(answer, 413, "larger")

    run(work())
