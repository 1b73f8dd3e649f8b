"""The protocols as pure functions and objects: bytes in, packets out, and back.

Nothing here waits, reads a clock, logs or knows a transport: time and ids come in as arguments. What a peer sent wrongly raises
`mizzen.errors.RemoteProtocolError` and nothing else.
"""
