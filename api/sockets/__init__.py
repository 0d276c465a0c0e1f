"""Socket.IO at `/socket.io`: the feed of events for clients of Socket.IO, with the names that they know."""
