"""A connection: how a client reaches a server, in plain text or with TLS."""

import argparse
import dataclasses

import grpc

from serving.command import UserError


@dataclasses.dataclass(frozen=True)
class Connection:
    """A server's address; can be sent to another process.

    Args:
        target: HOST:PORT, or unix:PATH, or dns:///HOST:PORT to send to all servers
            that the name stands for in turn.
        ca: file with the certificates (PEM) that the server's must be signed by;
            none for plain text.
        key, certificate: files (PEM) of the client's own, for mutual TLS.

    Raises:
        UserError: a part of TLS is missing or cannot be read.
    """

    target: str
    ca: str | None = None
    key: str | None = None
    certificate: str | None = None

    def __post_init__(self):
        # gRPC takes anything for a name and looks for it until the deadline.
        if not self.target.startswith("unix:"):
            host, _, port = self.target.rpartition(":")
            if not host or not port.isdecimal():
                raise UserError(
                    "The server's address must be HOST:PORT or unix:PATH. Received: "
                    f"{self.target!r}"
                )
        if (self.key is None) != (self.certificate is None):
            raise UserError("--client-key and --client-certificate go together.")
        if self.key is not None and self.ca is None:
            raise UserError("--client-key needs --ca: without it nothing is encrypted.")

    def open(self) -> grpc.Channel:
        """A new channel to the server; it connects at its first call."""
        options = [
            # What is too large is the server's to say.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # Defaults are 1 s and 2 min: calls to a server that is back would fail.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # Channels of one address share a connection otherwise.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.target.startswith("dns:"):
            # A name that stands for several servers: use all of them.
            options.append(("grpc.lb_policy_name", "round_robin"))
        if self.ca is None:
            return grpc.insecure_channel(self.target, options)
        credentials = grpc.ssl_channel_credentials(
            *(path and _read(path) for path in (self.ca, self.key, self.certificate))
        )
        return grpc.secure_channel(self.target, credentials, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `from_arguments`, but for the address itself."""
    group = parser.add_argument_group("TLS")
    group.add_argument("--ca", metavar="FILE", help="PEM; turns TLS on")
    group.add_argument("--client-key", metavar="FILE", help="PEM, for mutual TLS")
    group.add_argument("--client-certificate", metavar="FILE", help="its certificate")


def from_arguments(arguments: argparse.Namespace, target: str) -> Connection:
    """The connection to `target` that a command's flags describe."""
    return Connection(
        target, arguments.ca, arguments.client_key, arguments.client_certificate
    )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
