from pathlib import Path
from typing import Any

from tests.fish_requests import assert_is_error, run, save
from tests.scripted import client


def test_models_are_made_changed_and_deleted(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            made = await save(http, description="Our own.", visibility="private", texts=["Hi."])
            assert made.status_code == 201, made.text
            assert "X-Warning" not in made.headers
            voice = made.json()
            assert voice["title"] == "anna"
            assert voice["description"] == "Our own."
            path = f"/model/{voice['_id']}"
            assert (await http.get(path)).json() == voice
            changed = await http.patch(path, data={"title": "Anja"})
            assert changed.json() == voice | {"title": "Anja"}
            assert (await http.patch(path)).json()["title"] == "Anja"
            changed = await http.patch(
                path, data={"description": "New."}, files={"cover_image": b"\x89PNG"}
            )
            assert changed.json()["description"] == "New."
            assert "cover_image" in changed.headers["X-Warning"]
            assert (await http.delete(path)).status_code == 204
            for answer in (await http.get(path), await http.delete(path), await http.patch(path)):
                assert_is_error(answer, 404, voice["_id"])

    run(work())


def test_models_are_listed_in_pages_the_newest_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for title in ("one", "two", "three"):
                assert (await save(http, title)).status_code == 201

            async def titles(**query: Any) -> tuple[int, list[str]]:
                answer = await http.get("/model", params=query)
                assert answer.status_code == 200, answer.text
                page = answer.json()
                return page["total"], [item["title"] for item in page["items"]]

            assert await titles() == (3, ["three", "two", "one"])
            assert await titles(page_size=2) == (3, ["three", "two"])
            assert await titles(page_size=2, page_number=2) == (3, ["one"])
            assert await titles(page_number=3) == (3, [])
            assert await titles(title="TW") == (1, ["two"])
            assert await titles(tag=["male", "old"]) == (0, [])
            assert await titles(**{"self": "true", "sort_by": "task_count"}) == (
                3,
                ["three", "two", "one"],
            )
            assert_is_error(await http.get("/model", params={"page_size": 0}), 422, "page_size")

    run(work())


def test_bad_models(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, max_upload_bytes=1 << 20) as http:

            async def refused(status: int, says: str, data: Any, **files: Any) -> None:
                answer = await http.post("/model", data=data, files=files)
                assert_is_error(answer, status, says)

            await refused(422, "voices is missing", {"title": "anna"})
            await refused(422, "title", {}, voices=b"RIFF")
            await refused(422, "title", {"title": ""}, voices=b"RIFF")
            await refused(422, "title", {"title": "../anna"}, voices=b"RIFF")
            await refused(
                422, "voices is sent as text", {"title": "anna", "voices": "x"}, cover=b""
            )
            await refused(422, "voices is empty", {"title": "anna"}, voices=b"")
            await refused(422, "decoded", {"title": "anna"}, voices=b"bad")
            await refused(413, "voices is larger", {"title": "anna"}, voices=bytes((1 << 20) + 1))
            await refused(413, "larger than", {"title": "anna"}, voices=bytes(9 << 20))
            await refused(422, "form", {"title": "anna"}, **{f"f{i}": b"x" for i in range(20)})
            assert (await http.get("/model")).json()["total"] == 0
            assert (await save(http)).status_code == 201
            assert_is_error(await save(http), 409, "anna")
            assert (await save(http, "other")).status_code == 201
            taken = await http.patch("/model/other", data={"title": "ANNA"})
            assert_is_error(taken, 409, "anna")

    run(work())


def test_one_of_several_recordings_is_used_and_that_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            files = [("voices", b"RIFF one"), ("voices", b"RIFF two")]
            data = {"title": "anna", "texts": ["one", "two"], "tags": ["x"]}
            answer = await http.post("/model", data=data, files=files)
            assert answer.status_code == 201, answer.text
            assert "first of 2" in answer.headers["X-Warning"]
            assert "tags is not kept" in answer.headers["X-Warning"]

    run(work())
