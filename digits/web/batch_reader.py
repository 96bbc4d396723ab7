"""Read the pictures of many requests at once."""

import asyncio
from concurrent.futures.process import BrokenProcessPool

from digits import model
from digits.cli import RunError
from digits.reading import image_file, reader, worker_pool

MAX_PIXELS = 55_000_000  # of a picture, which a phone may take; larger ones would take too much memory
BATCH_SECONDS = 0.02  # for which the network waits for pictures that are being segmented
STROKE = b"P5 64 64 255\n" + bytes(1024) + 32 * (bytes(28) + 8 * b"\xff" + bytes(28)) + bytes(1024)  # a PGM file


class BatchReader:
    """Worker processes segment the pictures; the network classifies all that wait as one batch."""

    def __init__(self, model_path):
        """Raises UsageError if the model cannot be used, RunError if a worker was killed."""
        model.check(model_path)  # before the workers are started
        self.model_path, self.whole = model_path, not model.describe(model_path).segment
        self.segmenting, self.batch, self.readings = 0, [], None
        self.lock, self.pool = asyncio.Lock(), worker_pool.pool()
        try:
            strokes = [self.pool.submit(reader.segment, STROKE) for _ in range(worker_pool.COUNT)]
            reader.classify([one.result() for one in strokes], model_path)  # so that the first request need not wait
        except BaseException as error:
            self.pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise RunError("a process that reads pictures was killed, probably out of memory") from None
            raise

    async def read(self, picture, digits=None, page=0):
        """Return (the Reading of a picture, bytes, its number of pages).

        digits: how many digits each line has, None if that is not known. page: of a TIFF, from 0. Raises PictureError,
        UsageError if the model file cannot be read any more, or BrokenProcessPool if a worker was killed; the next
        picture is read by new workers.
        """
        loop, pool = asyncio.get_running_loop(), self.pool
        self.segmenting += 1
        try:
            segmented, pages = await loop.run_in_executor(pool, _segment, picture, page, self.whole)
        except BrokenProcessPool:  # probably out of memory
            if pool is self.pool:
                self.pool = worker_pool.pool()
            raise
        finally:
            self.segmenting -= 1
        if not self.batch:
            self.readings = loop.create_task(self._classify(self.batch))
        self.batch.append(segmented._replace(digits=digits))
        index = len(self.batch) - 1
        readings = await asyncio.shield(self.readings)  # one cancelled request must not cancel the batch
        return readings[index], pages

    async def _classify(self, batch):
        """The Readings of a batch, a list that pictures may join until the network is free."""
        async with self.lock:
            if self.segmenting:  # those that are nearly there share the batch
                await asyncio.sleep(BATCH_SECONDS)
            self.batch = []
            return await asyncio.to_thread(reader.classify, batch, self.model_path)


def _segment(picture, page, whole):
    return reader.segment(picture, None, page, MAX_PIXELS, whole), image_file.count_pages(picture)
