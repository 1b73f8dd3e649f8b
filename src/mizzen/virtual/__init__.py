"""Socket requests: an event named after an HTTP verb runs through the routes of the wrapped app, and its ack is the app's answer.

    event ──request.py──► SocketRequest ──scope.py──► ASGI scope ──dispatch.py──► the app ──answer.py──► JWR {body, headers, statusCode}

For the app a request by socket is a request by HTTP. Nothing here knows of connections, namespaces or the server: a handshake, plain
values and callables come in.
"""
