import getpass
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from jsnats.agent.testing import AgentProcess
from jsnats.common.exceptions import ConfigurationError
from jsnats.common.utils import serve, session_broker
from jsnats.driver import Composite
from jsnats.sdk import connect
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_network.testing import SSHD, SshBoard, refusing_port, sshd
from jsnats_driver_ssh.client import SSHWrapperClient
from jsnats_driver_ssh.driver import SSHWrapper
from jsnats_driver_ssh.testing import new_key

pytestmark = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("rsync")), reason="sshd, ssh or rsync is not installed"
)
USER = getpass.getuser()
WAIT_S = 30


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A real sshd, and the key that opens it."""
    with sshd(tmp_path_factory.mktemp("sshd")) as board:
        yield board


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user with no key, no agent and no temporary files."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def wrapper(board: SshBoard, **config: Any) -> SSHWrapper:
    """The driver of a board; by default with its key."""
    key = {} if "ssh_identity" in config else {"ssh_identity_file": board.key}
    tcp = TcpNetwork(host="127.0.0.1", port=board.port)
    return SSHWrapper(**({"default_username": USER} | key | config), children={"tcp": tcp})


@contextmanager
def served(board, **config):
    """The client of a driver below the root of a tree."""
    with serve(Composite(children={"ssh": wrapper(board, **config)})) as bench:
        yield bench.ssh


def test_a_command_on_the_device(board):
    """It has input, output and exit code; options of ssh stand before it."""
    with served(board) as ssh:
        assert isinstance(ssh, SSHWrapperClient)
        done = ssh.run("-o", "SetEnv=X=1", "read word; echo got $word; echo no >&2; exit 7", stdin="it\n")
        assert (done.stdout, done.stderr, done.returncode) == ("got it\n", "no\n", 7)
        assert ssh.run("cat", "-").stdout == ""


@pytest.mark.parametrize("kind", ["rsa-3072", "ecdsa-256", "ecdsa-521"])
def test_every_kind_of_key_logs_in(tmp_path, kind):
    """A real sshd takes the exporter's signature."""
    with sshd(tmp_path, kind) as board, served(board) as ssh:
        assert ssh.run("echo in").stdout == "in\n"


def test_files_by_scp(board, tmp_path):
    """To the device and back, also as somebody else; an error is scp's own words."""
    (tmp_path / "one").write_bytes(data := os.urandom(3_000_000))
    with served(board) as ssh:
        ssh.scp(str(tmp_path / "one"), f":{tmp_path}/two")
        with pytest.raises(OSError, match="No such file"):
            ssh.scp(f":{tmp_path}/none", str(tmp_path))
    with served(board, default_username="nobody-here") as ssh:
        ssh.scp(f"{USER}@:{tmp_path}/two", str(tmp_path / "three"))
    assert (tmp_path / "three").read_bytes() == data


def test_files_by_rsync(board, tmp_path):
    """A folder there and back; the second time nothing is sent."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "one").write_bytes(b"1" * 1000)
    with served(board) as ssh:
        for _ in range(2):
            said = ssh.rsync("-ai", f"{tmp_path}/from/", f":{tmp_path}/to/")
        assert said == ""
        assert "one" in ssh.rsync("-ai", f":{tmp_path}/to/", f"{tmp_path}/back/")
        assert (tmp_path / "back" / "one").read_bytes() == b"1" * 1000
        with pytest.raises(OSError, match="rsync: "):
            ssh.rsync("-a", f":{tmp_path}/none", f"{tmp_path}/back/")


def test_the_key_stays_at_the_exporter(board, home):
    """While a session stands, no file and no variable of the client's has it; afterwards no file is left."""
    secret = [line for line in board.key.read_text().splitlines() if not line.startswith("---")]
    with served(board) as ssh, ssh.forward() as (_, _, environment):
        files = [path for path in home.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"config", "known_hosts"}
        seen = "".join(path.read_text() for path in files) + repr(environment) + repr(ssh.settings())
        assert "PRIVATE" not in seen
        assert not [line for line in secret if line in seen]
        assert Path(environment["SSH_AUTH_SOCK"]).stat().st_mode & 0o777 == 0o600
        assert ssh.run("test -z $SSH_AUTH_SOCK").returncode == 0  # nor does the device get at it
    assert not list(home.iterdir())


def test_programs_with_the_key_of_a_forward(board, tmp_path):
    """ssh-add sees it and can change nothing, ssh-keygen signs no file with it, and ssh logs in."""
    (tmp_path / "other").write_text(new_key())
    (tmp_path / "other").chmod(0o600)
    (tmp_path / "file").write_text("text")
    with served(board) as ssh, ssh.forward() as (host, port, environment):

        def code(*command: object) -> int:
            return subprocess.run(
                [str(each) for each in command], env=environment, capture_output=True, timeout=WAIT_S, check=False
            ).returncode

        public = subprocess.check_output(["ssh-add", "-L"], env=environment, text=True)
        assert ssh.settings().identity in public
        assert code("ssh-add", "-D") == code("ssh-add", tmp_path / "other") == 1
        (tmp_path / "public").write_text(public)
        assert code("ssh-keygen", "-Y", "sign", "-n", "git", "-f", tmp_path / "public", tmp_path / "file") != 0
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        assert code("ssh", *options, "-l", USER, "-p", port, host, "exit 9") == 9


def test_a_login_is_in_the_log(board, caplog):
    """Who keeps the exporter sees each use of the key."""
    with served(board) as ssh, caplog.at_level("INFO"):
        ssh.run("true")
    assert f"signed a login as {USER}" in caplog.text


def test_a_key_that_the_device_does_not_know(board):
    """ConnectionError with the words of ssh, and nobody is asked for a password."""
    with served(board, ssh_identity=new_key()) as ssh, pytest.raises(ConnectionError, match="Permission denied"):
        ssh.run("true")


def test_without_a_key_it_is_the_users_own(board, monkeypatch):
    """The exporter has none: the user's agent or -i is used, and who asks the exporter is told."""
    with served(board, ssh_identity=None) as ssh:
        with pytest.raises(ConnectionError, match="Permission denied"):
            ssh.run("true")
        assert ssh.run("-i", str(board.key), "echo in").stdout == "in\n"
        with pytest.raises(ValueError, match="no key here"), ssh.stream("sign") as stream:
            stream.receive()


def test_the_host_key(board):
    """The right one is proved, with another one nobody logs in."""
    right = board.host_key.read_text().strip()
    with served(board, host_key=right) as ssh:
        assert ssh.run("echo in").stdout == "in\n"
    wrong = new_public()
    with served(board, host_key=wrong) as ssh, pytest.raises(ConnectionError, match="verification failed"):
        ssh.run("true")


def new_public() -> str:
    """The public half of a new key."""
    from jsnats_driver_ssh.identity import Identity

    return Identity(new_key()).public


def test_no_sshd(board, caplog):
    """A device that refuses the connection is a ConnectionError; the log says which address it was."""
    with (
        refusing_port() as port,
        served(replace(board, port=port)) as ssh,
        pytest.raises(ConnectionError, match="ssh: "),
    ):
        ssh.run("true")
    assert f"cannot connect to 127.0.0.1:{port}: connection refused" in caplog.text


def test_a_command_that_takes_too_long(board):
    """TimeoutError, and its ssh is gone."""
    with served(board) as ssh, pytest.raises(TimeoutError, match=r"sleep 60.* did not end within 1 s"):
        ssh.run("sleep 60", timeout=1)


def test_what_is_not_installed_is_named(board, monkeypatch):
    """With the package that has it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with served(board) as ssh, pytest.raises(ConfigurationError, match="rsync is not installed here"):
        ssh.rsync("-a", "x", ":y")


def test_what_is_no_request_to_the_service(board):
    """It is ended, and the next one is answered."""
    with served(board) as ssh:
        with pytest.raises(Exception, match="not the protocol"), ssh.stream("sign") as stream:  # noqa: PT012
            stream.send(b"GET / HTTP/1.0\r\n\r\n")
            while stream.receive():
                pass
        assert ssh.run("echo in").stdout == "in\n"


# ------------------------------------------------------------------ commands


def test_commands(board, capfd, tmp_path):
    """Words are ssh's own, unless the first one is scp, rsync or run; exit codes are those of the programs."""
    (tmp_path / "one").write_text("1")
    with served(board) as ssh:

        def run(*words: str) -> tuple[int, str]:
            code = ssh.cli().main(list(words), standalone_mode=False)
            return code, capfd.readouterr().out

        assert run("echo", "a b") == (0, "a b\n")
        assert run("--", "exit 3") == (3, "")
        assert run("-v", "-o", "LogLevel=ERROR", "exit 4") == (4, "")
        assert run("run", "echo scp") == (0, "scp\n")
        assert run("scp", f"{tmp_path}/one", f":{tmp_path}/two") == (0, "")
        assert run("rsync", "-a", f":{tmp_path}/two", f"{tmp_path}/three") == (0, "")
        assert run("-o", "User=nobody-here", "true")[0] == 255
        assert (tmp_path / "three").read_text() == "1"


def test_help(board):
    """It says what may follow, and does not log in."""
    with served(board) as ssh:
        for words, told in (
            (["--help"], "j ssh uname -a"),
            (["scp", "--help"], "begins with a"),
            (["rsync", "--help"], "TARGET"),
        ):
            result = CliRunner().invoke(ssh.cli(), words)
            assert result.exit_code == 0
            assert told in result.output


def test_completion(board):
    """Tab offers the commands of ours, and nothing behind a word of ssh's: there the shell offers files."""
    with served(board) as ssh:

        def offered(*words: str) -> list[object]:
            found = ShellComplete(ssh.cli(), {}, "j", "_J_COMPLETE").get_completions(list(words), "")
            return [item.value for item in found]

        assert offered() == ["rsync", "run", "scp"]
        assert offered("scp") == offered("ls", "-l") == []


def j(ssh, *words: str, **options: object) -> "pexpect.spawn[str]":
    """The command in a terminal of 33 lines and 99 columns."""
    environment = os.environ | {
        "JSNATS_CONTEXT": str(session_broker().context_path("tester")),
        "JSNATS_EXPORTER": ssh.exporter,
    }
    return pexpect.spawn("j", ["ssh", *words], env=environment, dimensions=(33, 99), timeout=WAIT_S, encoding="utf-8")


def test_a_login_in_a_terminal(board, home):
    """`j ssh` alone: the device has the terminal's size, its program gets Ctrl-C, and its exit code is ours."""
    with served(board) as ssh:
        terminal = j(ssh)
        terminal.sendline("stty size")
        terminal.expect_exact("33 99")
        terminal.sendline("sh -c 'echo be''gun; exec sleep 100'")
        terminal.expect_exact("begun")
        terminal.send("\x03")
        terminal.sendline("echo go''ing on")
        terminal.expect_exact("going on")
        terminal.sendline("exit 5")
        terminal.expect(pexpect.EOF)
        terminal.close()
    assert terminal.exitstatus == 5
    assert not list(home.glob("jsnats-*"))


def test_ctrl_c_ends_a_command(board, home):
    """Without a terminal on the device it ends ssh and us, in order: exit code 130, and no file is left."""
    with served(board) as ssh:
        terminal = j(ssh, "echo be''gun; exec sleep 100")
        terminal.expect_exact("begun")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        terminal.close()
    assert terminal.exitstatus == 130
    assert not list(home.glob("jsnats-*"))


def test_an_agent_that_is_killed_ends_the_session(board, monkeypatch):
    """ssh does not hang: it says that the connection is lost, with the exit code it has for that."""
    broker = session_broker()
    broker.add("exporter", "ssh-doomed")
    monkeypatch.setenv("JSNATS_TEST_SSH_PORT", str(board.port))
    monkeypatch.setenv("JSNATS_TEST_SSH_KEY", str(board.key))
    with (
        AgentProcess(
            "ssh-doomed", broker.context_path("ssh-doomed"), "jsnats_driver_ssh.testing:from_environment"
        ) as agent,
        connect(context=broker.context("tester")) as lab,
    ):
        ssh = lab.exporter("ssh-doomed")
        begun = board.key.with_name("begun")
        killer = threading.Thread(target=_kill_when, args=(begun, agent))
        killer.start()
        with pytest.raises(ConnectionError, match="ssh: "):
            ssh.run("-l", USER, f"touch {begun}; exec sleep 100")
        killer.join()


def _kill_when(begun: Path, agent: AgentProcess) -> None:
    end = time.monotonic() + WAIT_S
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(agent.pid, signal.SIGKILL)
