"""The pages that the `type` of a problem document leads to."""

import pytest

from service.api.routes.problem_pages import list_problems
from service.api.routes.problem_texts import TEXTS
from tests.helpers import assert_problem


def test_every_problem_has_a_text_and_none_is_left_over() -> None:
    assert set(list_problems()) == set(TEXTS)


@pytest.mark.parametrize("slug", TEXTS)
def test_page_says_what_it_means_and_what_to_do(client, slug: str) -> None:
    response = client.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    status, title = list_problems()[slug]
    assert f"<h1>{title}</h1>" in response.text and f"Status {status}" in response.text
    assert "What to do" in response.text and "`" not in response.text
    assert f'href="/problems/{slug}"' in client.get("/problems").text


def test_type_of_a_real_problem_is_the_address_of_its_page(client) -> None:
    for response in (client.get("/nowhere"), client.delete("/"), client.post("/v1/image?nono=1")):
        page = client.get(response.json()["type"])
        assert page.status_code == 200 and response.json()["title"] in page.text


def test_unknown_problem_is_not_found(client) -> None:
    assert_problem(client.get("/problems/none"), 404, "not-found")
