"""The local page, over HTTP on 127.0.0.1: what to judge, what was said, how far people agree."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ..errors import InputError, TieoutError
from .disputes import disputes
from .exports import FORMATS, export
from .guard import App, Guard
from .journal import Entry, NotSaved
from .prelabels import Prelabels
from .shown import from_page, scheme_view, shown_value, view
from .store import Answer, Stale, Store
from .values import SKIP

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
FILES = (
    "page.html",
    "page.css",
    "page.js",
    "answers.js",
    "copy.js",
    "keys.js",
    "panels.js",
    "queue.js",
    "text.js",
)
MOST_ACTIONS = 100
RECENT = 10
"""Judgements that can be undone after the page was loaded again."""
Body = Mapping[str, Any]


class Page:
    """What the page asks for; each method is a request, and returns what JSON can say."""

    def __init__(
        self,
        store: Store,
        annotator: str = "",
        gate: Callable[[], Mapping[str, Any]] | None = None,
        prelabels: Prelabels | None = None,
        human: Callable[[str], list[dict[str, Any]]] | None = None,
    ) -> None:
        self.store, self.annotator, self.gate = store, annotator, gate
        self.prelabels = prelabels or Prelabels()
        self.rows = human or (lambda format: export(store, store.scheme, format))
        self._figures: tuple[int, dict[str, Any]] = (0, {})

    def project(self, body: Body) -> dict[str, Any]:
        """The question, its guidelines, and what the page needs to begin."""
        store = self.store
        version = {
            "version": len(store.guidelines),
            "sha256": store.guidelines[-1],
            "text": store.scheme.guidelines,
        }
        formats = [name for name in FORMATS if name != "human" or self.gate]
        question = {**scheme_view(store.scheme), "guidelines": version}
        extra = {"gate": self.gate is not None, "formats": formats, "annotator": self.annotator}
        return {"project": store.project, **question, **extra}

    def next(self, body: Body) -> dict[str, Any]:
        """The next items of a person, which are theirs from now on."""
        who, count = body.get("annotator"), body.get("count")
        if type(count) is not int or not 0 <= count <= 5000:
            raise InputError(f"count is {count!r}; expected 0 to 5000")
        have = [(str(item), int(round)) for item, round in body.get("have", [])]
        slots = self.store.next(who, count, have, bool(body.get("skipped")))  # type: ignore[arg-type]  # checked there
        mine = [e for e in self.store.judgements(skips=True) if e["annotator"] == who]
        recent = (
            [] if have else [view(self.store, e["annotator"], e["item"], e["round"]) for e in mine[-RECENT:]]
        )
        return {
            "items": [view(self.store, str(who), *slot) for slot in slots],
            "recent": recent,
            "judged": sum(e["value"] != SKIP for e in mine),
            "skipped": sum(e["value"] == SKIP for e in mine),
            "everybody": len(self.store.by_item()),
            "total": len(self.store.asked),
            "disputes": len(disputes(self.store, self.store.scheme)),
        }

    def save(self, body: Body) -> dict[str, Any]:
        """Record answers, and how disputes are settled, in their order; a reply for each says that it is on disk.

        Where the disk gets full, the replies end before the first that could not be written.
        """
        actions = body.get("actions")
        if not isinstance(actions, list) or not 1 <= len(actions) <= MOST_ACTIONS:
            raise InputError(f"expected 1 to {MOST_ACTIONS} actions")
        replies: list[dict[str, Any]] = []
        with self.store.together():
            for action in actions:
                try:
                    replies.append({"base": self._recorded(action)["n"]})
                except NotSaved:
                    if not replies:
                        raise
                    break
                except REFUSED as error:
                    status, said = _refusal(self.store, action, error)
                    replies.append({"status": status, **said})
        return {"replies": replies}

    def undo(self, body: Body) -> dict[str, Any]:
        """Take an answer back."""
        return {"base": self.store.undo(self._answer(body))["n"]}

    def draft(self, body: Body) -> dict[str, Any]:
        """Keep a draft."""
        self.store.draft(replace(self._answer(body), value=body.get("value")))
        return {}

    def unsettle(self, body: Body) -> dict[str, Any]:
        """Open a settled dispute again."""
        self.store.unsettle(self._answer(body))
        return {"base": 0}

    def disputes(self, body: Body) -> dict[str, Any]:
        """Items on which people differ, with what each said, in the order of who decides; and what these settled."""
        who, store = str(body.get("annotator")), self.store
        by_item = store.by_item()

        def shown(item: str, verdict: Entry | None = None) -> dict[str, Any]:
            order = store.order(who, item)
            said = [
                {"annotator": e["annotator"], "value": shown_value(store, e, order), "comment": e["comment"]}
                for e in by_item.get(item, [])
            ]
            answer = verdict and {"value": shown_value(store, verdict, order), "comment": verdict["comment"]}
            base = verdict["n"] if verdict else 0
            return {**view(store, who, item, 0), "base": base, "draft": None, "answer": answer, "said": said}

        own = sorted((e for e in store.verdicts.values() if e["annotator"] == who), key=lambda e: e["n"])
        return {
            "items": [shown(item) for item in disputes(store, store.scheme)],
            "recent": [shown(e["item"], e) for e in own[-RECENT:]],
        }

    def prelabel(self, body: Body) -> dict[str, Any]:
        """What the judge gives the completions, to somebody who has answered; [K] in their order."""
        who, item, round = str(body.get("annotator")), str(body.get("item")), int(body.get("round", 0))
        if self.store.judgement(who, item, round) is None:
            raise InputError("the judge is shown after the answer")
        scores = self.prelabels.of(self.store.items[item])
        return {"scores": scores and [scores[place] for place in self.store.order(who, item, round)]}

    def figures(self, body: Body) -> dict[str, Any]:
        """Agreement and biases so far."""
        from .agreement import agreement, people  # brings NumPy: the page is open sooner without

        store, entries = self.store, len(self.store.journal.entries)
        if self._figures[0] != entries:
            who = {name: asdict(person) for name, person in people(store, store.scheme).items()}
            self._figures = entries, {**asdict(agreement(store, store.scheme)), "people": who}
        return self._figures[1]

    def judge_run(self, body: Body) -> dict[str, Any]:
        """Gate the run by these labels."""
        if self.gate is None:
            raise InputError("only the labels of a run can be gated")
        return dict(self.gate())

    def _recorded(self, action: Any) -> Entry:
        if not isinstance(action, dict) or action.get("what") not in ("judge", "settle"):
            raise InputError("an action is to judge or to settle")
        record = self.store.judge if action["what"] == "judge" else self.store.settle
        return record(self._answer(action))

    def _answer(self, body: Body) -> Answer:
        item = body.get("item")
        if (
            not isinstance(item, str)
            or type(body.get("round")) is not int
            or type(body.get("base")) is not int
        ):
            raise InputError("an answer names its item, its round and the entry that it is based on")
        value = from_page(self.store, item, body.get("value"))
        said = {name: body.get(name, "") for name in ("id", "annotator", "comment")}
        return Answer(
            item=item,
            round=body["round"],
            base=body["base"],
            value=value,
            seconds=body.get("seconds", 0),
            **said,
        )


def application(page: Page, token: str, port: int) -> App:
    """The ASGI application."""
    guard: Guard
    routes = [Route("/", lambda request: _start(request, guard)), Route("/page/{name}", _file)]
    # By its path it serves "/", too.
    routes.append(Route("/worker.js", lambda request: _content("worker.js")))
    for name in (
        "project",
        "next",
        "save",
        "undo",
        "draft",
        "unsettle",
        "disputes",
        "prelabel",
        "figures",
        "judge_run",
    ):
        routes.append(Route(f"/api/{name}", _endpoint(page, getattr(page, name)), methods=["POST"]))
    routes.append(Route("/export/{format}.jsonl", lambda request: _export(page, request)))
    guard = Guard(Starlette(routes=routes), token, port)
    return guard


def _start(request: Request, guard: Guard) -> Response:
    """The page; an address with the token sets the cookie and leaves the token out of the address."""
    given = request.query_params.get("token")
    if given is None:
        return _content("page.html")
    if not guard.knows(given):
        return JSONResponse({"error": "the token is not that of this page"}, 403)
    rest = request.url.remove_query_params("token").query
    reply = RedirectResponse(f"/?{rest}" if rest else "/", 303)
    reply.set_cookie(guard.cookie, guard.token, httponly=True, samesite="strict")
    return reply


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    return _content(name) if name in FILES else JSONResponse({"error": f"no file {name!r}"}, 404)


def _content(name: str) -> Response:
    data = files(__package__).joinpath("page", name).read_bytes()
    return Response(data, media_type=TYPES[name.rpartition(".")[2]])


def _endpoint(page: Page, method: Callable[[Body], dict[str, Any]]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        body: Any = None
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise InputError("expected a JSON object")
            return JSONResponse(await run_in_threadpool(method, body))
        except REFUSED as error:
            status, said = _refusal(page.store, body, error)
            return JSONResponse(said, status)

    return answer


REFUSED = TieoutError, OSError, ValueError, TypeError


def _refusal(store: Store, body: Body, error: Exception) -> tuple[int, dict[str, Any]]:
    """The status of an error, and what the page is told of it."""
    said: dict[str, Any] = {"error": str(error)}
    if isinstance(error, Stale):
        return 409, {**said, "current": _current(store, body, error)}
    return 507 if isinstance(error, NotSaved) else 400, said


def _current(store: Store, body: Body, error: Stale) -> dict[str, Any]:
    """What is saved, as this person sees it."""
    entry = error.current
    if entry is None or entry["what"] == "undo":
        return {"base": entry["n"] if entry else 0, "value": None}
    order = store.order(str(body.get("annotator")), entry["item"], int(body["round"]))
    return {"base": entry["n"], "value": shown_value(store, entry, order)}


def _export(page: Page, request: Request) -> Response:
    format = request.path_params["format"]
    try:
        rows = page.rows(format)
    except InputError as error:
        return JSONResponse({"error": str(error)}, 400)
    data = "".join(json.dumps(row) + "\n" for row in rows)
    name = f'attachment; filename="{format}.jsonl"'
    return Response(data, media_type="application/x-ndjson", headers={"content-disposition": name})


def bind(port: int | None) -> socket.socket:
    """A socket of 127.0.0.1; None: of a port that is free, 8765 if it is. InputError: the port is taken."""
    for wanted in [8765, 0] if port is None else [port]:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", wanted))
            found.listen(64)  # whoever opens the address now waits until there is an answer
            return found
        except OSError as error:
            found.close()
            if port is not None:
                raise InputError(
                    f"port {port} of 127.0.0.1 is taken ({error.strerror}); give another --port"
                ) from error
    raise AssertionError("a port of 0 is always free")


def server(app: App) -> uvicorn.Server:
    """The server; `run(sockets=[bind(port)])` answers until it is interrupted."""
    config = uvicorn.Config(
        app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=2, server_header=False
    )
    return uvicorn.Server(config)
