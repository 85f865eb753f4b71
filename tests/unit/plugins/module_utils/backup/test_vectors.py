# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Chroma says it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.backup import vectors
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.tests.unit.plugins.servers import Answer, Server


@contextlib.contextmanager
def chroma(*answers: Answer) -> Iterator[Server]:
    server = Server(answers[0])
    server.answers = list(answers)
    try:
        yield server
    finally:
        server.stop()


def test_every_collection_of_every_database_is_counted() -> None:
    answers = (
        Answer([{"name": "default_database"}, {"name": "a/b"}]),
        Answer([{"name": "documents", "id": "1"}, {"name": "notes", "id": "2"}]),
        Answer(5),
        Answer(0),
        Answer([{"name": "x", "id": "3"}]),
        Answer(7),
    )
    with chroma(*answers) as server:
        found = vectors.counts("127.0.0.1", server.port)
    assert found == {"default_database/documents": 5, "default_database/notes": 0, "a/b/x": 7}
    assert any(path.endswith("/databases/a%2Fb/collections/3/count") for path, _headers in server.requests)


@pytest.mark.parametrize("answer", [Answer("", status=503), Answer(body=b"no json"), Answer([{"odd": 1}]), Answer(3)])
def test_what_is_no_answer_is_no_count(answer: Answer) -> None:
    with chroma(answer) as server, pytest.raises(FlowauditError, match="does not tell its collections"):
        vectors.counts("127.0.0.1", server.port)


def test_a_chroma_that_does_not_run_has_no_count() -> None:
    with chroma(Answer([])) as server:
        pass
    with pytest.raises(FlowauditError, match="does not tell its collections"):
        vectors.counts("127.0.0.1", server.port)
