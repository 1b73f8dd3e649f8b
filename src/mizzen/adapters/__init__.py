"""Rooms and broadcast: in this process (`memory`), or across a cluster."""
