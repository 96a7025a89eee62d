"""A Google Cloud Storage on the loopback, for tests.

gcp-storage-emulator has no preconditions, answers a range past the end with nothing, and gives the MD5 as the
ETag. Here these are as Google documents them: 412 (https://cloud.google.com/storage/docs/request-preconditions),
416, and an ETag that changes with the metadata, too.
"""

from __future__ import annotations

import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec.config
import pytest
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler, Response
from gcp_storage_emulator.storage import Storage

# What the emulator keeps of an object beside its content.
Meta = dict[str, Any]
DOWNLOAD = re.compile(r"/download/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")


class PreconditionFailed(Exception):
    """There is an object of that name."""


class Objects(Storage):
    def create_file(
        self, bucket_name: str, file_name: str, content: bytes, file_obj: Meta, file_id: str | None = None
    ) -> None:
        super().create_file(bucket_name, file_name, content, with_etag(file_obj), file_id)

    def patch_object(self, bucket_name: str, file_name: str, file_obj: Meta) -> None:
        super().patch_object(bucket_name, file_name, with_etag(file_obj))


def with_etag(file_obj: Meta) -> Meta:
    file_obj["etag"] = f"{file_obj['generation']}/{file_obj['metageneration']}"
    return file_obj


class IfAbsent:
    """The objects as a request with ifGenerationMatch=0 may change them."""

    def __init__(self, objects: Objects | IfAbsent) -> None:
        self._objects = objects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def create_resumable_upload(self, bucket_name: str, file_name: str, file_obj: Meta) -> str:
        self._check(bucket_name, file_name)
        file_id: str = self._objects.create_resumable_upload(bucket_name, file_name, file_obj)
        return file_id

    def create_file(
        self, bucket_name: str, file_name: str, content: bytes, file_obj: Meta, file_id: str | None = None
    ) -> None:
        self._check(bucket_name, file_name)
        self._objects.create_file(bucket_name, file_name, content, file_obj, file_id)

    def _check(self, bucket_name: str, file_name: str) -> None:
        if file_name in self._objects.objects.get(bucket_name, {}):
            raise PreconditionFailed


class Handler(RequestHandler):
    storage: Objects | IfAbsent

    def do_POST(self) -> None:
        # The address of a resumable upload keeps the query of its first request.
        if parse_qs(urlsplit(self.path).query).get("ifGenerationMatch") == ["0"]:
            self.storage = IfAbsent(self.storage)
        try:
            super().do_POST()
        except PreconditionFailed:
            self.refuse(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")

    def do_GET(self) -> None:
        download = DOWNLOAD.fullmatch(urlsplit(self.path).path)
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if download and wanted:
            found = self.storage.objects.get(download["bucket"], {}).get(unquote(download["name"]))
            if found and int(wanted[1]) >= int(found["size"]):
                self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "requestedRangeNotSatisfiable")
                return
        super().do_GET()

    def refuse(self, status: HTTPStatus, reason: str) -> None:
        response = Response(self)
        response.status = status
        error = {"domain": "global", "reason": reason, "message": status.description}
        response.json({"error": {"code": status.value, "message": status.description, "errors": [error]}})
        response.close()


class Server(HTTPServer):
    """Answers one request at a time, so that to look and then to create is one step."""

    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # gcsfs hangs up on what it no longer needs
            super().handle_error(request, client_address)


@contextmanager
def served() -> Iterator[Callable[[], str]]:
    """While it lasts the environment leads gs:// here. What is yielded makes a bucket and gives its URL."""
    objects = Objects(use_memory_fs=True)
    server = Server(("127.0.0.1", 0), partial(Handler, objects))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def bucket() -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        create_bucket(name, objects)
        return f"gs://{name}"

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
            patch.setenv("FSSPEC_GS_TOKEN", "anon")
            # fsspec reads its variables when it is imported, which was before.
            patch.setitem(fsspec.config.conf, "gs", {})
            fsspec.config.set_conf_env(fsspec.config.conf)
            yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
