"""Who asks in a run: user agents in about the shares that trackers see, people first."""

from __future__ import annotations

from typing import Final

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"

#: One after the other, request by request.
AGENTS: Final = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME}",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_WEBKIT} Mobile/15E148",
    "Mozilla/5.0",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_CHROME}",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_CHROME}",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (compatible; Barracuda Sentinel; +https://www.barracuda.com)",
)


def address(number: int) -> str:
    """Give an address of nobody (198.18.0.0/15, RFC 2544), another one for each of 131,072."""
    number %= 1 << 17
    return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
