"""gRPC, HTTP and JSON in front of the calls, and the server's command line."""
