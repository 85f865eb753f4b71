"""The HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import logging
import time
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refapp.database import SchemaMismatchError
from refapp.documents import stored_file
from refapp.health import Health
from refapp.metrics import Metrics
from refapp.models import Document, Status
from refapp.parse import UnreadableError, parse
from refapp.redis_store import DOCUMENTS, LimitExceededError
from refapp.release import ERROR_EVERY, VERSION
from refapp.services import Services
from refapp.upload import OVERHEAD_BYTES, BadUploadError, TooLargeError, receive

logger = logging.getLogger(__name__)


def create_app(services: Services) -> FastAPI:
    app = FastAPI(
        title="flowaudit reference app",
        version=VERSION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    metrics = Metrics(services.queue, services.counters, services.settings.colour)
    _add_error_answers(app)
    app.include_router(_system_routes(services, metrics))
    app.include_router(_document_routes(services))
    if ERROR_EVERY:
        app.add_middleware(_Fail, every=ERROR_EVERY)
    app.add_middleware(_Observe, metrics=metrics)
    return app


def _system_routes(services: Services, metrics: Metrics) -> APIRouter:
    routes = APIRouter(prefix="/api")
    health = Health(services)
    settings = services.settings

    @routes.get("/health")
    def get_health() -> JSONResponse:
        report = health.report()
        metrics.observe_health(report)
        status = 503 if report["status"] == "unhealthy" else 200
        return JSONResponse(report, status, {"Cache-Control": "no-store"})

    @routes.get("/metrics")
    def get_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/settings")
    def get_settings() -> JSONResponse:
        """The effective settings an operator may want to compare: no secrets, no addresses."""
        content = {
            "version": VERSION,
            "mode": settings.mode,
            "colour": settings.colour,
            "model": settings.ollama_model,
            "limits": dataclasses.asdict(settings.limits),
            "batch": dataclasses.asdict(settings.batch),
            "cache_ttl_seconds": dataclasses.asdict(settings.cache_ttl),
        }
        return JSONResponse(content, headers={"Cache-Control": f"private, max-age={settings.cache_ttl.settings}"})

    return routes


def _document_routes(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/documents")
    intake = _Intake(services)
    ttl = services.settings.cache_ttl

    def existing(document_id: UUID) -> Document:
        document = services.documents.get(document_id)
        if document is None:
            raise HTTPException(404, "There is no such document.")
        return document

    @routes.post("/upload", status_code=201)
    async def upload(request: Request) -> dict[str, Any]:
        document = await intake.accept(request)
        return {"id": str(document.id), "status": document.status}

    @routes.get("")
    def list_documents(
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            documents, total = services.documents.page(offset, limit)
            return {"total": total, "offset": offset, "documents": [document.as_json() for document in documents]}

        answer: dict[str, Any] = services.cache.get_or_make(DOCUMENTS, f"{VERSION}:{offset}:{limit}", ttl.project, make)
        return answer

    @routes.get("/{document_id}")
    def get_document(document_id: UUID) -> dict[str, Any]:
        document = existing(document_id)
        answer = document.as_json()
        if document.status == Status.PROCESSING:
            with contextlib.suppress(RedisError):
                answer["progress_percent"] = services.progress.get(str(document_id))
        return answer

    @routes.get("/{document_id}/similar")
    def similar(document_id: UUID, limit: Annotated[int, Query(ge=1, le=20)] = 5) -> dict[str, Any]:
        existing(document_id)

        def make() -> dict[str, Any]:
            found = services.chroma.similar(str(document_id), limit)
            return {"similar": [{"id": other, "distance": round(distance, 6)} for other, distance in found]}

        answer: dict[str, Any] = services.cache.get_or_make(
            DOCUMENTS, f"similar:{document_id}:{limit}", ttl.default, make
        )
        return answer

    return routes


class _Intake:
    """Takes documents in: limits, file, row, job; whatever fails, nothing of it stays behind."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._uploads = asyncio.Semaphore(self._settings.batch.max_concurrent_uploads)
        self._parses = asyncio.Semaphore(self._settings.batch.max_concurrent_parses)
        self._incoming = self._settings.upload_dir / ".incoming"
        self._incoming.mkdir(exist_ok=True)
        self._remove_remains()

    def _remove_remains(self) -> None:
        """A process that was killed cannot clean up; an hour spares the uploads of the other colour."""
        for part in self._incoming.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - 3600:
                    part.unlink()

    async def accept(self, request: Request) -> Document:
        if self._uploads.locked():
            raise LimitExceededError("Too many uploads are running, please try again shortly.", 5)
        async with self._uploads:
            await run_in_threadpool(self._admit, request)
            document_id = uuid4()
            part = self._incoming / f"{document_id}.part"
            try:
                return await self._take(request, document_id, part)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise HTTPException(507, "There is no space left for documents.") from error
            finally:
                part.unlink(missing_ok=True)

    def _admit(self, request: Request) -> None:
        declared = request.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > self._settings.limits.max_upload_bytes + OVERHEAD_BYTES:
            raise TooLargeError
        self._services.rate_limits.admit_user(_identity(request))
        self._services.rate_limits.count_upload()

    async def _take(self, request: Request, document_id: UUID, part: Path) -> Document:
        limits = self._settings.limits
        with part.open("wb") as target:
            content_type = request.headers.get("Content-Type", "")
            filename = await receive(request.stream(), content_type, target, limits.max_upload_bytes)
        async with self._parses:
            parsed = await run_in_threadpool(parse, part, limits)
        document = Document(
            id=document_id,
            filename=filename,
            media_type=parsed.media_type,
            size_bytes=part.stat().st_size,
            sha256=await run_in_threadpool(_sha256, part),
            pages=parsed.pages,
            characters=len(parsed.text),
            status=Status.QUEUED,
        )
        await run_in_threadpool(self._record, document, part)
        return document

    def _record(self, document: Document, part: Path) -> None:
        """File first, then row, then job: a row always has its file, a job always has its row."""
        self._services.rate_limits.count_document()
        final = part.replace(stored_file(self._settings.upload_dir, document))
        try:
            self._services.documents.add(document)
            try:
                self._services.queue.push(str(document.id))
            except RedisError:
                self._services.documents.remove(document.id)
                raise
        except Exception:
            final.unlink()
            raise
        self._services.cache.invalidate(DOCUMENTS)


def _identity(request: Request) -> str:
    """Who asks: the user the edge authenticated, else the address the edge saw."""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return request.headers.get("X-Auth-User") or forwarded or (request.client.host if request.client else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_error_answers(app: FastAPI) -> None:
    """Every error is `{"error": "one sentence"}`."""

    def answer(status: int, message: str, **headers: str) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers)

    def on_store_away(_: Request, error: Exception) -> JSONResponse:
        logger.warning("a store is away: %s", type(error).__name__)
        return answer(503, "A store is not available, please try again shortly.", **{"Retry-After": "5"})

    for kind in (RedisError, SQLAlchemyError, httpx.HTTPError):
        app.add_exception_handler(kind, on_store_away)

    @app.exception_handler(HTTPException)
    def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(SchemaMismatchError)
    def on_schema_mismatch(_: Request, error: SchemaMismatchError) -> JSONResponse:
        return answer(503, str(error))

    @app.exception_handler(LimitExceededError)
    def on_limit(_: Request, error: LimitExceededError) -> JSONResponse:
        return answer(429, str(error), **{"Retry-After": str(error.retry_after)})

    @app.exception_handler(UnreadableError)
    def on_unreadable(_: Request, error: UnreadableError) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(BadUploadError)
    def on_bad_upload(_: Request, error: BadUploadError) -> JSONResponse:
        return answer(400, str(error))

    @app.exception_handler(ClientDisconnect)
    def on_disconnect(_: Request, __: ClientDisconnect) -> JSONResponse:
        return answer(400, "The upload was broken off.")  # for the metrics, nobody is there to read it

    @app.exception_handler(TooLargeError)
    def on_too_large(_: Request, __: TooLargeError) -> JSONResponse:
        # The rest of the body is not read, so the connection cannot be used again.
        return answer(413, "The document is too large.", Connection="close")

    @app.exception_handler(Exception)
    def on_bug(_: Request, __: Exception) -> JSONResponse:
        return answer(500, "Something went wrong here.")


class _Fail:
    """Answers every so many requests with an error, for a release that is healthy and does not work."""

    def __init__(self, app: ASGIApp, every: int) -> None:
        self._app = app
        self._every = every
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _Observe.QUIET:
            self._count += 1
            if self._count % self._every == 0:
                await JSONResponse({"error": "This release fails on purpose."}, 500)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Observe:
    """Counts and logs every request under its route's template, so that no id or name gets into either."""

    QUIET = frozenset({"/api/health", "/api/metrics"})

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.monotonic()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            duration = time.monotonic() - began
            endpoint = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.observe_request(scope["method"], endpoint, status, duration)
            if endpoint not in self.QUIET:
                fields = {
                    "method": scope["method"],
                    "endpoint": endpoint,
                    "status": status,
                    "duration_ms": round(duration * 1000),
                }
                logger.info("request", extra={"fields": fields})
