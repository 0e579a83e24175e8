from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TAMIZ

from tamiz import MissingExtraError, RecipeError, __version__
from tamiz.cli import main, make_command
from tamiz.command_table import COMMANDS
from tamiz.console import ExitCode
from tamiz.lazy_commands import LazyCommand, LazyGroup

SAMPLE = """
import typer
import tamiz

ERRORS = {
    "usage": tamiz.UsageError("the argument\\nis wrong"),
    "recipe": tamiz.RecipeError("the recipe is wrong"),
    "server": tamiz.UnavailableError("no server answers"),
    "output": tamiz.OutputError("the disk is full"),
    "package": ModuleNotFoundError("No module named 'torch'", name="torch"),
    "own module": ModuleNotFoundError("No module named 'tamiz.none'", name="tamiz.none"),
    "interrupt": KeyboardInterrupt(),
    "abort": typer.Abort(),
    "exit": typer.Exit(7),
}

def fail(error: str) -> None:
    '''Raise an error.'''
    raise ERRORS[error]

def add(first: int, second: int = 1) -> int:
    '''Exit with the sum of two numbers.'''
    return first + second

def echo(words: list[str]) -> None:
    '''Print the arguments.'''
    print(*words)

def say(word: str = "hello") -> None:
    '''Print a word.'''
    print(word)

def receive(number: int) -> None:
    '''Receive a signal twice: the second one while the command cleans up.'''
    import os
    try:
        os.kill(os.getpid(), number)
    finally:
        os.kill(os.getpid(), number)
        print("cleaned up")
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[LazyCommand | LazyGroup]:
    (tmp_path / "sample_commands.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sample_commands", raising=False)
    add = LazyCommand("add", "sample_commands:add", summary="Add two numbers.")
    say = LazyCommand("say", "sample_commands:say", summary="Print a word.")
    return [
        LazyCommand("fail", "sample_commands:fail", extra="train,cpu", summary="Raise an error."),
        LazyCommand("echo", "sample_commands:echo", summary="Print the arguments."),
        LazyCommand("receive", "sample_commands:receive", summary="Receive a signal."),
        LazyCommand("missing", "package_that_is_missing:command", extra="server", summary="Need an extra."),
        LazyGroup(name="numbers", help="Calculate.", rich_markup_mode=None, commands=[add]),
        LazyGroup(name="words", help="Print.", rich_markup_mode=None, default="say", commands=[say, add]),
    ]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(commands: list[LazyCommand | LazyGroup], capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the sample commands in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments, commands=commands)
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, *capsys.readouterr()

    return run


def complete(*words: str, shell: str = "bash") -> str:
    """What `tamiz` answers to a shell that completes the last word."""
    request = {
        "bash": {"COMP_WORDS": " ".join(["tamiz", *words]), "COMP_CWORD": str(len(words))},
        "zsh": {"_TYPER_COMPLETE_ARGS": " ".join(["tamiz", *words])},
    }
    environment = os.environ | request[shell] | {"_TAMIZ_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([TAMIZ], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        pytest.param("usage", ExitCode.USAGE, "error: the argument is wrong\n", id="usage"),
        pytest.param("recipe", ExitCode.USAGE, "error: the recipe is wrong\n", id="recipe"),
        pytest.param("server", ExitCode.FAILED, "error: no server answers\n", id="server"),
        pytest.param("output", ExitCode.FAILED, "error: the disk is full\n", id="output"),
        pytest.param(
            "package", 1, 'error: torch is not installed; type: pip install "tamiz[train,cpu]"\n', id="missing package"
        ),
        pytest.param("interrupt", ExitCode.INTERRUPTED, "error: interrupted\n", id="interrupt"),
        pytest.param("abort", ExitCode.INTERRUPTED, "error: interrupted\n", id="abort"),
        pytest.param("exit", 7, "", id="exit"),
    ],
)
def test_each_error_is_one_line_and_has_its_exit_code(error: str, code: int, message: str, run: Run) -> None:
    assert run("fail", error) == (code, "", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["fial"], "error: No such command 'fial'. Did you mean 'fail'?", id="command"),
        pytest.param(["numbers", "ad"], "error: No such command 'ad'. Did you mean 'add'?", id="command of a group"),
        pytest.param(["numbers", "add"], "error: Missing argument 'first'", id="missing argument"),
        pytest.param(["numbers", "add", "x"], "error: Invalid value for 'first'", id="argument of another type"),
        pytest.param(["numbers", "add", "1", "--secnod", "2"], "error: No such option: --secnod", id="option"),
        pytest.param(["--verson"], "error: No such option: --verson", id="option before the command"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments: list[str], message: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert err.startswith(message)


@pytest.fixture
def handle() -> Iterator[Callable[[signal.Signals, signal.Handlers], None]]:
    """Sets what this process does on a signal, until the test ends; below nohup it would ignore SIGHUP."""
    with contextlib.ExitStack() as stack:

        def handle(number: signal.Signals, handler: signal.Handlers) -> None:
            stack.callback(signal.signal, number, signal.signal(number, handler))

        yield handle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_command_as_ctrl_c_does_and_does_not_interrupt_its_clean_up(
    number: signal.Signals, handle: Callable[[signal.Signals, signal.Handlers], None], run: Run
) -> None:
    handle(number, signal.SIG_DFL)
    assert run("receive", str(int(number))) == (130, "cleaned up\n", "error: interrupted\n")
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(
    handle: Callable[[signal.Signals, signal.Handlers], None], run: Run
) -> None:
    handle(signal.SIGHUP, signal.SIG_IGN)
    assert run("receive", str(int(signal.SIGHUP))) == (0, "cleaned up\n", "")


def test_the_return_value_of_a_command_is_the_exit_code(run: Run) -> None:
    assert run("numbers", "add", "1", "--second", "2") == (3, "", "")
    assert run("echo", "done") == (ExitCode.SUCCESS, "done\n", "")


@pytest.mark.parametrize("arguments", [["--debug", "fail", "recipe"], ["fail", "--debug", "recipe"]])
def test_debug_before_or_after_the_command_shows_the_traceback(
    arguments: list[str], commands: list[LazyCommand | LazyGroup]
) -> None:
    with pytest.raises(RecipeError):
        main(arguments, commands=commands)


def test_debug_after_a_double_dash_is_an_ordinary_argument(run: Run) -> None:
    assert run("echo", "--", "--debug") == (0, "--debug\n", "")


def test_a_command_without_its_extra_is_listed_and_explains_how_to_install_it(
    run: Run, commands: list[LazyCommand | LazyGroup]
) -> None:
    assert "missing  Need an extra." in run("--help")[1]
    code, _, err = run("missing", "--help")
    assert (code, err.count("\n")) == (1, 1)
    assert 'package_that_is_missing is not installed; type: pip install "tamiz[server]"' in err
    with pytest.raises(MissingExtraError):
        main(["--debug", "missing"], commands=commands)


def test_a_missing_module_of_tamiz_itself_is_not_reported_as_a_missing_extra(
    commands: list[LazyCommand | LazyGroup],
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tamiz\.none"):
        main(["fail", "own module"], commands=commands)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["numbers"], ["numbers", "--help"], ["--debug"]])
def test_help_lists_the_commands_of_a_group_and_imports_none(arguments: list[str], run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert ("Add two numbers." if "numbers" in arguments else "Raise an error.") in out
    assert "sample_commands" not in sys.modules


def test_a_group_with_a_default_command_calls_it_when_no_other_is_named(run: Run) -> None:
    assert run("words") == (0, "hello\n", "")
    assert run("words", "--word", "bye") == (0, "bye\n", "")
    assert run("words", "say", "--word", "bye") == (0, "bye\n", "")
    assert run("words", "add", "1", "--second", "2") == (3, "", "")
    code, out, _ = run("words", "--help")
    assert (code, "Add two numbers." in out) == (0, True)
    code, _, err = run("words", "ad")
    assert (code, err) == (2, "error: No such command 'ad'. Did you mean 'add'?\n")
    assert run("words", "--wrod", "x")[2].startswith("error: No such option: --wrod")


def test_the_help_of_a_command_has_its_docstring_and_options(run: Run) -> None:
    code, out, _ = run("numbers", "add", "--help")
    assert code == 0
    assert out.startswith("Usage: tamiz numbers add [OPTIONS]")
    assert "Exit with the sum of two numbers." in out
    assert "--second" in out


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, f"tamiz {__version__}\n", "")


def test_a_closed_pipe_prints_no_error_message() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([TAMIZ, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")


def test_the_list_of_commands_imports_no_heavy_package() -> None:
    code = (
        "import sys; from tamiz.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    imported = done.stderr.splitlines()[-1]
    for name in ("cv2", "grpc", "numpy", "pydantic", "torch", "tamiz_bench", "tamiz_server", "tamiz_train"):
        assert f"'{name}'" not in imported


def all_commands() -> list[LazyCommand]:
    found: list[LazyCommand] = []
    for entry in COMMANDS:
        found += entry.commands.values() if isinstance(entry, LazyGroup) else [entry]
    return found


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.target)
def test_every_command_loads_and_describes_itself(command: LazyCommand) -> None:
    loaded = command.load()
    assert loaded.name == command.name
    assert loaded.help
    assert command.short_help
    assert command.short_help.endswith(".")


def test_the_top_level_has_all_commands_of_the_table() -> None:
    assert list(make_command().commands) == [entry.name for entry in COMMANDS]


def test_bash_completes_commands_subcommands_and_options() -> None:
    assert complete("").split()[:3] == ["demo", "train", "recipe"]
    assert complete("pro").split() == ["promote"]
    assert complete("bench", "").split() == ["served", "client", "preprocessing", "precisions", "training"]
    assert complete("classify", "--top").split() == ["--top-k"]
    assert complete("bench", "preprocessing", "--colour", "").split() == ["RGB", "L"]
    assert complete("models", "").split() == ["list", "verify"]
    assert complete("models", "--rep").split() == ["--repository"]
    assert complete("models", "--json", "--rep").split() == ["--repository"]


def test_zsh_completes_commands_subcommands_and_options() -> None:
    assert '"promote":"Make a version the live one."' in complete("pro", shell="zsh")
    assert '"check":' in complete("data", "", shell="zsh")
    assert '"--top-k":' in complete("classify", "--top", shell="zsh")


def test_completing_a_command_without_its_extra_prints_nothing(
    commands: list[LazyCommand | LazyGroup], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "_TAMIZ_COMPLETE": "complete_bash",
        "COMP_WORDS": "tamiz missing --",
        "COMP_CWORD": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main([], commands=commands)
    assert capsys.readouterr() == ("", "")


def test_bash_runs_the_completion_that_the_command_shows() -> None:
    script = (
        'eval "$(tamiz --show-completion bash)"; COMP_WORDS=(tamiz mod); COMP_CWORD=1; _tamiz_completion tamiz; '
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{TAMIZ.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("models\n", "")


@pytest.mark.parametrize(("shell", "written"), [("bash", ".bash_completions/tamiz.sh"), ("zsh", ".zfunc/_tamiz")])
def test_completion_is_installed_for_the_calling_shell(shell: str, written: str, tmp_path: Path) -> None:
    # typer asks for the shell by name when its detection, which looks at the parent processes, is off.
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([TAMIZ, "--install-completion", shell], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "_TAMIZ_COMPLETE" in (tmp_path / written).read_text()
