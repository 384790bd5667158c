"""The SMTP sink as a process of its own: `python -m campaign_worker.embedded.smtp_sink`.

It prints its port, then keeps what it accepts: one JSON line a mail, written before the 250.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import uvloop

from campaign_worker.embedded.process import ChildProcess
from campaign_worker.embedded.server import LOOPBACK, EmbeddedServer
from campaign_worker.embedded.smtp_server import ReceivedMail, SmtpSink

PROBE_SECONDS = 2.0


class SmtpSinkProcess(EmbeddedServer):
    """The sink as a child process; `latency_ms` passes before each 250.

    `keep_contents`: whole mails are kept too, in the file `contents`.
    """

    name = "smtp"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        latency_ms: float = 0,
        keep_contents: bool = False,
    ) -> None:
        super().__init__(data_dir, port=port)
        self._latency_ms = latency_ms
        self._keep_contents = keep_contents
        self.store = self.data_dir / "mails.jsonl"
        self.contents = self.data_dir / "contents.jsonl"

    @property
    def url(self) -> str:
        """smtp:// URL."""
        return f"smtp://{LOOPBACK}:{self.port}"

    def mails(self) -> list[ReceivedMail]:
        """Return what was accepted so far, over all restarts, without contents."""
        if not self.store.exists():
            return []
        # A line without its end was being written when the sink was killed: no 250 went out.
        whole, _, _ = self.store.read_text().rpartition("\n")
        return [ReceivedMail.from_json(line) for line in whole.splitlines()]

    def count(self) -> int:
        """Return how many mails were accepted so far; cheaper than mails()."""
        return self.store.read_bytes().count(b"\n") if self.store.exists() else 0

    async def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def _build(self) -> ChildProcess:
        options = ["--port", str(self.port), "--store", str(self.store)]
        options += ["--latency-ms", str(self._latency_ms)]
        if self._keep_contents:
            options += ["--contents", str(self.contents)]
        command = [sys.executable, "-m", "campaign_worker.embedded.smtp_sink", *options]
        return ChildProcess(self.name, command, self.data_dir / "smtp.log")

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    greeting = await reader.readline()
                    return greeting.startswith(b"220") and greeting.split()[-1] == b"%d" % self.pid
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False


async def serve(port: int, store: Path, latency_ms: float, contents: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sink = SmtpSink(
        port=port, store=store, latency_ms=latency_ms, contents=contents, keep_content=False
    )
    async with sink:
        sys.stdout.write(f"{sink.port}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="An SMTP server that keeps what it accepts")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--store", type=Path, required=True, help="file, one JSON line a mail")
    parser.add_argument("--contents", type=Path, help="file, the same lines with contents")
    parser.add_argument("--latency-ms", type=float, default=0, help="time before each 250")
    options = parser.parse_args()
    # aiosmtpd logs whole dialogues, with addresses.
    logging.getLogger("mail").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.store, options.latency_ms, options.contents))


if __name__ == "__main__":
    main()
