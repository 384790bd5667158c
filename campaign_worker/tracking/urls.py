"""The public URLs of tracking: a base, a letter for the purpose, a token. Reads no request."""

from __future__ import annotations

from campaign_worker.tracking.tokens import Keyring, Token, TokenKind


class TrackingUrls:
    """Makes the links that mails carry. `base` is TRACKING_BASE_URL, without a slash at its end."""

    def __init__(self, base: str, keyring: Keyring) -> None:
        self.base = base
        self._keyring = keyring

    def open(self, message_id: int) -> str:
        """Give the URL of the picture that tells of an open."""
        return f"{self.base}/o/{self._keyring.sign(Token(TokenKind.OPEN, message_id))}.gif"

    def click(
        self, message_id: int, *, link_id: int | None = None, destination: str | None = None
    ) -> str:
        """Give the URL that leads to a link's row, or to a destination inside the token.

        Raises ValueError unless one of the two is given, and fit to be signed.
        """
        token = Token(TokenKind.CLICK, message_id, link_id, destination)
        return f"{self.base}/c/{self._keyring.sign(token)}"

    def unsubscribe(self, message_id: int) -> str:
        """Give the URL of the page that unsubscribes, and of the one-click POST (RFC 8058)."""
        return f"{self.base}/u/{self._keyring.sign(Token(TokenKind.UNSUBSCRIBE, message_id))}"

    def is_ours(self, url: str) -> bool:
        """Whether a URL leads to the tracker itself."""
        return url.startswith(f"{self.base}/")
