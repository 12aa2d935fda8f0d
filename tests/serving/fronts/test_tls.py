"""TLS, and TLS where clients must show a certificate too."""

import subprocess

import grpc
import pytest
from served import Code, answer, request, running, save
from tensorflow_serving.apis import prediction_service_pb2_grpc


def _openssl(*arguments) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and certificates of "server" and "client" signed by one authority."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "m").mkdir()
    save(folder / "m" / "1", 2.0)
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout"]
    ca = ["-out", folder / "ca.pem", "-subj", "/CN=authority", "-days", "2"]
    _openssl("req", "-x509", *key, folder / "ca.key", *ca)
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for who in ("server", "client"):
        asked, subject = folder / f"{who}.csr", f"/CN={who}"
        _openssl("req", *key, folder / f"{who}.key", "-out", asked, "-subj", subject)
        signed = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-days", "2"]
        signed += ["-CAcreateserial", "-extfile", folder / "names"]
        _openssl("x509", "-req", "-in", asked, "-out", folder / f"{who}.pem", *signed)
    return folder


def _serve(folder, *, mutual: bool, **flags):
    def quoted(name: str) -> str:
        return '"' + (folder / name).read_text().replace("\n", r"\n") + '"'

    text = f"server_key: {quoted('server.key')} server_cert: {quoted('server.pem')}"
    if mutual:
        text += f" custom_ca: {quoted('ca.pem')} client_verify: true"
    (folder / "ssl.txt").write_text(text)
    return running(
        model_base_path=str(folder / "m"),
        rest_api_port=0,
        ssl_config_file=str(folder / "ssl.txt"),
        **flags,
    )


def _predict(server, credentials: grpc.ChannelCredentials):
    address = f"localhost:{server.grpc.ports[0]}"
    with grpc.secure_channel(address, credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return answer(stub.Predict(request(), timeout=20))


def _credentials(folder, *, own: bool) -> grpc.ChannelCredentials:
    pair = [(folder / f"client.{kind}").read_bytes() for kind in ("key", "pem")]
    return grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(), *(pair if own else ())
    )


def test_tls_answers_those_who_trust_it(folder):
    with _serve(folder, mutual=False) as server:
        assert _predict(server, _credentials(folder, own=False)) == [12.0]
        with pytest.raises(grpc.RpcError) as caught:
            _predict(server, grpc.ssl_channel_credentials())
        assert caught.value.code() is Code.UNAVAILABLE
        with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                stub.Predict(request(), timeout=20)


def test_mutual_tls_answers_only_those_it_knows(folder):
    with _serve(folder, mutual=True) as server:
        assert _predict(server, _credentials(folder, own=True)) == [12.0]
        with pytest.raises(grpc.RpcError):
            _predict(server, _credentials(folder, own=False))


def test_the_unix_socket_stays_plain_beside_tls(folder, tmp_path):
    path = tmp_path / "socket"
    with (
        _serve(folder, mutual=True, grpc_socket_path=str(path)) as server,
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert answer(stub.Predict(request(), timeout=20)) == [12.0]
        assert _predict(server, _credentials(folder, own=True)) == [12.0]
