import pytest

from .environment import environment


def test_a_caller_adds_and_replaces_variables() -> None:
    """What the caller asks for goes over what is inherited."""
    assert environment({"A": "1", "B": "2"}, {"B": "3", "c_4": ""}) == {"A": "1", "B": "3", "c_4": ""}


def test_the_agents_own_settings_are_not_inherited() -> None:
    """A command does not see where the agent's broker and key are."""
    inherited = {"JSNATS_CONTEXT": "lab", "NATS_CREDS": "/k", "NATS_NKEY": "SU", "NKEYS_PATH": "/n", "PATH": "/bin"}
    assert environment(inherited, {}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_INSERT_LIBRARIES",
        "BASH_ENV",
        "ENV",
        "IFS",
        "SHELLOPTS",
        "HOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PERL5LIB",
        "RUBYOPT",
        "NODE_OPTIONS",
        "GIT_SSH_COMMAND",
        "JSNATS_CONTEXT",
        "NATS_NKEY",
        "NKEY_SEED",
    ],
)
def test_what_changes_the_program_is_the_exporters_to_set(name: str) -> None:
    """A variable that loads code or picks programs is refused by name."""
    with pytest.raises(ValueError, match=f"{name} may not be set by a caller"):
        environment({}, {name: "x"})


@pytest.mark.parametrize("name", ["", "1A", "A=B", "A B", "A\n", "BASH_FUNC_ls%%", "\u00c4"])
def test_a_malformed_name_is_refused(name: str) -> None:
    """Only what a shell could name is passed on."""
    with pytest.raises(ValueError, match="is no name of an environment variable"):
        environment({}, {name: "x"})


def test_a_nul_in_a_value_is_refused() -> None:
    """The operating system would cut the value there."""
    with pytest.raises(ValueError, match="value of A has a NUL"):
        environment({}, {"A": "x\0y"})
