"""The application, wired. The only part of the gateway that knows the waitlist."""

from gateway.app.wiring import create_app

__all__ = ["create_app"]
