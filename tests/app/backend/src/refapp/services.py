"""Everything a process of the app talks to, put together once."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from refapp.chroma import Chroma
from refapp.database import make_engine
from refapp.documents import Documents
from refapp.ollama import Ollama
from refapp.redis_store import Cache, Counters, Progress, Queue, RateLimits, make_client
from refapp.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    documents: Documents
    redis: Redis
    queue: Queue
    cache: Cache
    progress: Progress
    rate_limits: RateLimits
    counters: Counters
    chroma: Chroma
    ollama: Ollama

    @classmethod
    def connect(cls, settings: Settings) -> Services:
        """Nothing is contacted yet: a process starts whether or not its stores are there."""
        return cls.around(
            settings,
            Documents(make_engine(settings.database)),
            make_client(settings.redis),
            Chroma(settings.chroma_url),
            Ollama(settings.ollama_url, settings.ollama_model),
        )

    @classmethod
    def around(
        cls, settings: Settings, documents: Documents, client: Redis, chroma: Chroma, ollama: Ollama
    ) -> Services:
        return cls(
            settings=settings,
            documents=documents,
            redis=client,
            queue=Queue(client),
            cache=Cache(client),
            progress=Progress(client),
            rate_limits=RateLimits(client, settings.limits),
            counters=Counters(client),
            chroma=chroma,
            ollama=ollama,
        )
