"""The operators' API on a real ledger: roles, actions, and that each is in the audit."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.integration.waitlist.conftest import join
from tests.integration.waitlist.test_waitlist_line_routes import app_of, bearer
from waitlist.directory import Directory
from waitlist.operators.admins import ROLES
from waitlist.proofs.tokens import new_admin_key

pytestmark = pytest.mark.integration


@pytest.fixture
async def client(line: Directory) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(line))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate/admin") as client:
        yield client


@pytest.fixture
async def keys(line: Directory) -> dict[str, dict[str, str]]:
    """Headers of one operator of each role."""
    return {role: bearer((await line.admins.add(role, role)).admin_key) for role in ROLES}


# What each route wants at least, with a body that is good for it.
ROUTES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("viewer", "GET", "/overview", None),
    ("viewer", "GET", "/statistics", None),
    ("viewer", "GET", "/audit", None),
    ("viewer", "GET", "/releases", None),
    ("viewer", "GET", "/releases/decisions", None),
    ("viewer", "GET", "/schedules", None),
    ("viewer", "GET", "/campaigns", None),
    ("viewer", "GET", "/mails", None),
    ("viewer", "GET", "/scaling", None),
    ("operator", "PUT", "/scaling/org/m", {"replicas": 2}),
    ("operator", "POST", "/pauses", {"what": "joining", "paused": False}),
    ("operator", "POST", "/releases", {"count": 1}),
    ("operator", "POST", "/schedules", {"first_at": "2090-01-01T00:00:00Z", "count": 1}),
    ("operator", "POST", "/campaigns", {"name": "press"}),
    ("operator", "POST", "/invites", {"count": 1}),
    ("operator", "POST", "/search", {"email": "ada@example.com"}),
    ("owner", "GET", "/export", None),
    ("owner", "GET", "/admins", None),
    ("owner", "POST", "/admins", {"name": "x", "role": "viewer"}),
]


@pytest.mark.parametrize(("role", "method", "path", "body"), ROUTES)
async def test_each_route_wants_its_role(
    client: httpx.AsyncClient,
    keys: dict[str, dict[str, str]],
    role: str,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    for held in ROLES:
        answer = await client.request(method, path, json=body, headers=keys[held])
        if ROLES.index(held) < ROLES.index(role):
            assert (answer.status_code, answer.json()["code"]) == (403, "role_insufficient")
        elif held == role:
            assert answer.status_code in (200, 201)
    for headers in ({}, bearer("fga-nonsense"), bearer(new_admin_key())):
        answer = await client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_admin_key")


async def test_account_key_is_no_operators_key(client: httpx.AsyncClient, line: Directory) -> None:
    [invite] = await line.create_invites(1)
    account = await line.redeem(invite.code, "ada@example.com")
    assert (await client.get("/overview", headers=bearer(account.api_key))).status_code == 401


async def test_revoked_operator_does_nothing_more(
    client: httpx.AsyncClient, line: Directory, keys: dict[str, dict[str, str]]
) -> None:
    made = (
        await client.post("/admins", json={"name": "n", "role": "owner"}, headers=keys["owner"])
    ).json()
    own = bearer(made["admin_key"])
    assert (await client.get("/overview", headers=own)).status_code == 200
    assert (await client.delete(f"/admins/{made['admin_id']}", headers=own)).status_code == 204
    assert (await client.get("/overview", headers=own)).status_code == 401


async def test_release_and_what_is_seen_of_it(
    client: httpx.AsyncClient, line: Directory, keys: dict[str, dict[str, str]], ledger_state: Any
) -> None:
    for i in range(5):
        await join(line, f"person{i}@example.com")
    operator, viewer = keys["operator"], keys["viewer"]
    order = {"count": 2, "reason": "first day", "invite_life_s": 3600}
    batch = (await client.post("/releases", json=order, headers=operator)).json()
    assert (batch["released"], batch["state"], batch["invite_life_s"]) == (2, "done", 3600)
    overview = (await client.get("/overview", headers=viewer)).json()
    assert (overview["in_line"], overview["invited"], overview["mails_waiting"]) == (3, 2, 2)
    [today] = (await client.get("/statistics?days=1", headers=viewer)).json()["days"]
    assert (today["joined"], today["invited"]) == (5, 2)
    [seen] = (await client.get("/releases", headers=viewer)).json()["batches"]
    assert seen == batch
    opened = ledger_state.audit("batch_opened")[0]
    admin = next(a for a in await line.admins.list_all() if a.role == "operator")
    assert opened["actor"] == f"admin:{admin.admin_id}"
    entries = (await client.get("/audit", headers=viewer)).json()["entries"]
    assert entries[-1]["action"] == "people_invited"
    rest = await client.get("/audit", params={"after": entries[-2]["id"]}, headers=viewer)
    assert rest.json()["entries"] == entries[-1:]


async def test_large_release_is_left_to_the_gateways_rounds(
    client: httpx.AsyncClient, line: Directory, keys: dict[str, dict[str, str]]
) -> None:
    from waitlist.upkeep.chores import work_on_line

    await join(line, "ada@example.com")
    order = {"count": 10_001}
    batch = (await client.post("/releases", json=order, headers=keys["operator"])).json()
    assert (batch["released"], batch["state"]) == (0, "open")
    await work_on_line(line)
    assert (await line.releases.read(batch["batch_id"])).released == 1


async def test_campaign_codes_come_with_links_and_are_paused_together(
    client: httpx.AsyncClient, line: Directory, keys: dict[str, dict[str, str]]
) -> None:
    operator = keys["operator"]
    await client.post("/campaigns", json={"name": "press", "plan": "plus"}, headers=operator)
    made = await client.post(
        "/campaigns/press/codes", json={"count": 2, "uses": 3}, headers=operator
    )
    invites = made.json()["invites"]
    assert made.headers["cache-control"] == "no-store"
    for invite in invites:
        assert invite["link"] == f"https://gate.example/redeem#code={invite['code']}"
    paused = await client.post("/campaigns/press/pause", json={"paused": True}, headers=operator)
    assert paused.json()["paused_at"] is not None
    missing = await client.post("/campaigns/none/codes", json={"count": 1}, headers=operator)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_search_finds_place_and_account_and_is_noted_without_the_address(
    client: httpx.AsyncClient,
    line: Directory,
    keys: dict[str, dict[str, str]],
    ledger_state: Any,
) -> None:
    joined = await join(line, "ada@example.com")
    [invite] = await line.create_invites(1)
    account = await line.redeem(invite.code, "Ada@example.com")
    answer = await client.post(
        "/search", json={"email": "ADA@example.com"}, headers=keys["operator"]
    )
    found = answer.json()
    assert found["entry"]["entry_id"] == joined.entry_id
    assert found["account"]["account_id"] == account.account_id
    [noted] = ledger_state.audit("address_searched")
    assert "ada@" not in str(noted).lower()
    nobody = await client.post(
        "/search", json={"email": "nobody@example.com"}, headers=keys["operator"]
    )
    assert nobody.json() == {"entry": None, "account": None}


async def test_accounts_are_changed_and_revoked(
    client: httpx.AsyncClient,
    line: Directory,
    keys: dict[str, dict[str, str]],
    ledger_state: Any,
) -> None:
    [invite] = await line.create_invites(1)
    account = await line.redeem(invite.code, "ada@example.com")
    path = f"/accounts/{account.account_id}"
    await client.post(f"{path}/plan", json={"plan": "plus"}, headers=keys["owner"])
    await client.post(f"{path}/invites", json={"count": 3}, headers=keys["operator"])
    seen = (await client.get(path, headers=keys["operator"])).json()
    assert (seen["plan"], seen["invites_left"], len(seen["keys"])) == ("plus", 3, 1)
    assert ledger_state.audit("account_read")[0]["about"] == account.account_id
    done = await client.post(f"{path}/revoke", json={"branch": True}, headers=keys["operator"])
    assert done.json()["account_ids"] == [account.account_id]
    record = await line.find_key(account.api_key)
    assert record is not None
    assert record.revoked
    assert (await client.get("/accounts/acct_none", headers=keys["operator"])).status_code == 404


async def test_export_erase_and_held_mails(
    client: httpx.AsyncClient, line: Directory, keys: dict[str, dict[str, str]]
) -> None:
    joined = [await join(line, f"person{i}@example.com") for i in range(3)]
    lines = (await client.get("/export", headers=keys["owner"])).text.splitlines()
    rows = {row["entry_id"]: row for row in map(json.loads, lines)}
    assert {rows[each.entry_id]["place"] for each in joined} == {"1", "2", "3"}
    erased = await client.post(f"/entries/{joined[2].entry_id}/erase", headers=keys["owner"])
    assert erased.json() == {"state": "left"}
    await line.releases.release(1)
    await line.delivery.deliver_due()
    [held] = (await client.get("/mails", headers=keys["viewer"])).json()["held"]
    shown = (await client.get(f"/mails/{held['mail_id']}", headers=keys["owner"])).json()
    assert shown["email"] == "person0@example.com"
    assert "fgi-" in shown["body"]
    refused = await client.get(f"/mails/{held['mail_id']}", headers=keys["operator"])
    assert refused.status_code == 403
    done = await client.post(f"/mails/{held['mail_id']}/delivered", headers=keys["operator"])
    assert done.status_code == 204


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/releases", {"count": 0}),
        ("/releases", {"count": 1, "plan": "No such"}),
        ("/releases", {"count": 1, "invite_life_s": -1}),
        ("/schedules", {"first_at": "2090-01-01T00:00:00", "count": 1}),
        ("/schedules", {"first_at": "soon", "count": 1}),
        ("/schedules", {"first_at": "2090-01-01T00:00:00Z", "count": 1, "every_s": 1}),
        ("/pauses", {"what": "everything", "paused": True}),
        ("/campaigns", {"name": "No Name"}),
        ("/invites", {"count": 100_001}),
        ("/invites", {"count": 1, "uses": 0}),
        ("/admins", {"name": "x", "role": "god"}),
        ("/admins", {"name": "", "role": "viewer"}),
        ("/search", {"email": "nobody"}),
    ],
)
async def test_what_a_wrong_order_is_told(
    client: httpx.AsyncClient, keys: dict[str, dict[str, str]], path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json=body, headers=keys["owner"])
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid_request", "email_malformed")


async def test_an_operator_pins_a_models_replicas_and_takes_the_pin_back(
    client: httpx.AsyncClient, keys: dict[str, dict[str, str]], line: Directory
) -> None:
    operator = keys["operator"]
    answer = await client.put("/scaling/org/m", json={"replicas": 0}, headers=operator)
    assert answer.json() == {"model": "org/m", "replicas": 0}
    assert (await client.get("/scaling", headers=operator)).json() == {"pins": {"org/m": 0}}
    for path, body, status in (
        ("/scaling/org/m", {"replicas": -1}, 400),
        ("/scaling/org/m", {"replicas": 257}, 400),
        ("/scaling/org/m", {"replicas": "2"}, 400),
        ("/scaling/unknown", {"replicas": 1}, 404),
    ):
        assert (await client.put(path, json=body, headers=operator)).status_code == status
    answer = await client.put("/scaling/org/m", json={"replicas": 5}, headers=operator)
    assert answer.status_code == 400
    assert answer.json()["param"] == "replicas"
    assert "4 replicas at most" in answer.json()["message"]
    assert "FLOODGATE_REPLICAS_MAX" in answer.json()["message"]
    assert (await client.get("/scaling", headers=operator)).json() == {"pins": {"org/m": 0}}
    unkept = "/scaling/org/unkept"
    assert (await client.put(unkept, json={"replicas": 5}, headers=operator)).status_code == 200
    assert (await client.delete(unkept, headers=operator)).status_code == 204
    for _ in range(2):
        assert (await client.delete("/scaling/org/m", headers=operator)).status_code == 204
    assert await line.replica_pins.all() == {}
    found = [entry.fields async for entry in line.overview.audit()]
    done = [
        (row["action"], row["model"], row["replicas"])
        for row in found
        if row.get("model") == "org/m"
    ]
    assert done == [("pinned", "org/m", "0"), ("unpinned", "org/m", "")]


# Every route that changes something, with what it is sent; {…} is filled in by `subjects`.
CHANGES: dict[tuple[str, str], tuple[dict[str, Any] | None, str]] = {
    ("POST", "/pauses"): ({"what": "joining", "paused": True}, "paused"),
    ("POST", "/releases"): ({"count": 1}, "batch_opened"),
    ("POST", "/releases/{batch_id}/close"): (None, "batch_closed"),
    ("POST", "/schedules"): (
        {"first_at": "2090-01-01T00:00:00Z", "count": 1},
        "schedule_added",
    ),
    ("DELETE", "/schedules/{schedule_id}"): (None, "schedule_dropped"),
    ("POST", "/campaigns"): ({"name": "fresh"}, "campaign_added"),
    ("POST", "/campaigns/{name}/codes"): ({"count": 1}, "invites_created"),
    ("POST", "/campaigns/{name}/pause"): ({"paused": True}, "paused"),
    ("POST", "/campaigns/{name}/revoke"): (None, "invite_revoked"),
    ("POST", "/invites"): ({"count": 1}, "invites_created"),
    ("POST", "/invites/revoke"): ({"invite_id": "{invite_id}"}, "invite_revoked"),
    ("POST", "/search"): ({"email": "ada@example.com"}, "address_searched"),
    ("POST", "/entries/{entry_id}/erase"): (None, "entry_erased"),
    ("POST", "/accounts/{account_id}/plan"): ({"plan": "plus"}, "account_changed"),
    ("POST", "/accounts/{account_id}/invites"): ({"count": 3}, "account_changed"),
    ("POST", "/accounts/{account_id}/revoke"): ({}, "account_revoked"),
    ("POST", "/accounts/{account_id}/erase"): (None, "account_erased"),
    ("POST", "/keys/{key_id}/revoke"): (None, "key_revoked"),
    ("POST", "/mails/{mail_id}/requeue"): (None, "mail_requeued"),
    ("POST", "/mails/{mail_id}/delivered"): (None, "mail_delivered"),
    ("PUT", "/scaling/{model:path}"): ({"replicas": 2}, "pinned"),
    ("DELETE", "/scaling/{model:path}"): (None, "unpinned"),
    ("POST", "/admins"): ({"name": "x", "role": "viewer"}, "admin_added"),
    ("DELETE", "/admins/{admin_id}"): (None, "admin_revoked"),
}


@pytest.fixture
async def subjects(line: Directory) -> dict[str, str]:
    """One of each thing that a route may be about."""
    joined = await join(line, "ada@example.com")
    await line.releases.release(1)
    await line.delivery.deliver_due()
    [mail] = await line.outbox.held()
    waiting = await join(line, "bob@example.com")
    used, unused = await line.create_invites(2)
    account = await line.redeem(used.code, "cyd@example.com")
    await line.campaigns.add("press")
    await line.campaigns.make_codes("press", 1)
    admin = await line.admins.add("other", "viewer")
    await line.replica_pins.set("org/m", 1)
    assert mail.mail_id == f"invite:{joined.entry_id}"
    return {
        "batch_id": await line.releases.open(10),
        "schedule_id": await line.schedules.add(line.now() + timedelta(days=1), 1),
        "name": "press",
        "invite_id": unused.invite_id,
        "entry_id": waiting.entry_id,
        "account_id": account.account_id,
        "key_id": account.key_id,
        "mail_id": mail.mail_id,
        "admin_id": admin.admin_id,
        "model": "org/m",
    }


def test_every_route_that_changes_something_is_in_the_table(line: Directory) -> None:
    routes = {
        (method, route.path.removeprefix("/admin"))
        for route in app_of(line).routes
        if isinstance(route, APIRoute) and route.path.startswith("/admin")
        for method in route.methods
        if method != "GET"
    }
    assert routes == CHANGES.keys()


@pytest.mark.parametrize(("method", "path"), list(CHANGES))
async def test_each_change_is_in_the_audit_with_its_actor(
    client: httpx.AsyncClient,
    line: Directory,
    subjects: dict[str, str],
    ledger_state: Any,
    method: str,
    path: str,
) -> None:
    owner = await line.admins.add("owner", "owner")
    body, action = CHANGES[method, path]
    sent = (
        None
        if body is None
        else json.loads(json.dumps(body).replace("{invite_id}", subjects["invite_id"]))
    )
    before = len(ledger_state.audit())
    answer = await client.request(
        method,
        path.replace(":path", "").format(**subjects),
        json=sent,
        headers=bearer(owner.admin_key),
    )
    assert answer.status_code in (200, 201, 204), answer.text
    added = ledger_state.audit()[before:]
    assert [e for e in added if (e["action"], e["actor"]) == (action, f"admin:{owner.admin_id}")]
    assert {entry["actor"] for entry in added} == {f"admin:{owner.admin_id}"}
