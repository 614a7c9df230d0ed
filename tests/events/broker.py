"""A real MQTT broker on a free port."""

import os
import socket
import subprocess
from pathlib import Path

from tests.demo_camera.service.doubles import wait_for
from tests.support.installed import need_program


def mosquitto() -> Path:
    """The broker, which Debian keeps where only root's PATH leads."""
    usual = Path("/usr/sbin/mosquitto")
    return usual if usual.exists() else need_program("mosquitto", "apt-get install mosquitto")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Broker:
    """A mosquitto that can be stopped and started.

    Args:
        password: of the only user, `door`; everybody is let in if None.
        tls: certificate and key.
    """

    def __init__(self, folder: Path, password: str | None = None, tls: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._program, self._settings = mosquitto(), folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "persistence false"]
        if password is None:
            lines.append("allow_anonymous true")
        else:
            users = folder / "users"
            users.touch(0o600)
            users.write_text(f"door:{password}\n")
            tool = need_program("mosquitto_passwd", "apt-get install mosquitto")
            subprocess.run([tool, "-U", users], check=True)
            lines += ["allow_anonymous false", f"password_file {users}"]
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        if os.geteuid() == 0:
            lines.append("user root")
        self._settings.write_text("\n".join(lines) + "\n")

    def start(self) -> "Broker":
        command = [str(self._program), "-c", str(self._settings)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with socket.socket() as there:
            return there.connect_ex(("127.0.0.1", self.port)) == 0
