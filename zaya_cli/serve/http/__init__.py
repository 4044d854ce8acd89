"""What listens: sockets, connections, and the server that uvicorn makes of them."""
