"""How packets get in and out: HTTP long-polling and WebSocket, by ASGI events."""
