"""A shared board: rooms of notes, reached by HTTP and by sockets through the same routes."""
