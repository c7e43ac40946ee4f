"""The images in the body of a request, read into bounded memory; nothing is written to a file."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from resnet_jax.serving.limits import Limits

BODIES = 16  # that may be in memory at the same time if each has the largest size
FORM = "multipart/form-data"
RAW = ("image/", "application/octet-stream")
"""Beginnings of the types of a body that is one image."""


class Upload(NamedTuple):
    """An encoded image as it was sent."""

    name: str
    """Of its file as the client says; "#" and its position, from 0, if the client doesn't."""
    content: bytes


class Uploads:
    """Reads the bodies of all requests, and keeps account of the memory that they take."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._largest = limits.megabytes * 10**6
        self._held = 0

    @asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[list[Upload]]:
        """Read the images of a request, which count as memory in use until the end of the `with` block.

        Raises:
            HTTPException: the body is too large, has another type or is malformed, or memory is used up.
        """
        taken = 0

        async def chunks() -> AsyncGenerator[bytes, None]:
            nonlocal taken
            async for chunk in request.stream():
                taken += len(chunk)
                self._held += len(chunk)
                self._check(taken)
                yield chunk

        try:
            self._check(int(request.headers.get("content-length", 0)))
            yield await self._images(request, chunks())
        finally:
            self._held -= taken

    def _check(self, size: int) -> None:
        if size > self._largest:
            raise HTTPException(413, f"got a body of more than {self._limits.megabytes} megabytes; send fewer at once")
        if self._held > BODIES * self._largest:
            raise busy("the memory for images is used up")

    async def _images(self, request: Request, chunks: AsyncGenerator[bytes, None]) -> list[Upload]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith(RAW):
            return [Upload("#0", b"".join([chunk async for chunk in chunks]))]
        if kind != FORM:
            raise HTTPException(415, f"got the type {kind or 'none'!r}, expected {FORM}, image/* or {RAW[1]}")
        parser = MultiPartParser(request.headers, chunks, max_files=self._limits.queue, max_fields=0)
        parser.spool_max_size = self._largest + 1  # a larger file would be written to disk
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, f"can't read the form: {error.message}") from error
        files = [file for _, file in form.multi_items() if not isinstance(file, str)]
        uploads = [Upload(file.filename or f"#{index}", await file.read()) for index, file in enumerate(files)]
        await form.close()
        if not uploads:
            raise HTTPException(400, "got a form without a file, expected one or several")
        return uploads


def busy(why: str) -> HTTPException:
    """Return the error that asks a client to come back in a second."""
    return HTTPException(503, f"{why}; try again", headers={"Retry-After": "1"})
