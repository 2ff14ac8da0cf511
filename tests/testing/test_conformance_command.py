"""``kdzoo check-strategy`` and ``pytest --pyargs kdzoo.testing``, on a strategy in a file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdzoo.cli import app
from kdzoo.testing import CHECKS
from kdzoo.testing.checks import checks_page

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = '''
"""Two strategies, of which one averages and one does not."""

from kdzoo import Batch, Outputs, Strategy, Terms, param


class Careful(Strategy):
    """Logit regression.

    Paper: none.

    Loss: CE + beta mean((s - t)^2), s and t the logits, B x classes.

    Example:
        >>> Careful.name
        'careful'
    """

    name = "careful"
    zero_when_equal = True
    symmetric = True
    beta: float = param(0.1, "weight", ge=0.0, search=(0.01, 1.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        gap = student.logits.float() - teacher.logits.float()
        return {"logits": self.beta * self.reduced(gap.square())}

    def reduced(self, squares):
        return squares.mean()


class Careless(Careful):
    """It sums, and divides by what it should not."""

    name = "careless"

    def reduced(self, squares):
        return squares.sum() * (1 / 0 if len(squares) == 1 else 1)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "two.py"
    path.write_text(PLUGIN)
    return path


def check(*arguments: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["check-strategy", *map(str, arguments)])
    return result.exit_code, result.stdout.splitlines()


@pytest.mark.exhaustive
def test_it_prints_a_line_for_each_check_and_the_time(plugin: Path) -> None:
    code, lines = check("careful", "--plugin", plugin)
    assert code == 0, lines
    *findings, empty, summary = lines
    assert [line.split()[1] for line in findings] == [one.name for one in CHECKS]
    assert {line.split()[0] for line in findings} <= {"ok", "skip", "warn"}
    assert empty == ""
    counts = r"\d+ passed, (1 with a warning, )?\d+ skipped"
    assert re.fullmatch(rf"careful \(file [0-9a-f]{{12}}\): {counts}; [\d.]+ s", summary)
    assert sum(map(int, re.findall(r"(\d+) (?:passed|with|skipped)", summary))) == len(CHECKS)
    assert list(plugin.parent.iterdir()) == [plugin]


def test_a_failure_says_what_why_and_how_and_where(plugin: Path) -> None:
    code, lines = check("careless", "--plugin", plugin, "--only", "batch-size,batch-of-one")
    assert code == 1
    places = {line.split()[1]: place for place, line in enumerate(lines) if line[:4].strip()}
    at = places["batch-size"]
    assert lines[at].startswith("fail  batch-size")
    assert "times as much on the same 4 times" in lines[at]
    assert lines[at + 1].strip().startswith("why it matters: ")
    assert lines[at + 2].strip().startswith("how to fix it: take the mean over the batch")
    number = next(n for n, line in enumerate(PLUGIN.splitlines(), 1) if "squares.sum()" in line)
    assert lines[places["batch-of-one"]].endswith(f"ZeroDivisionError: division by zero (two.py:{number})")
    assert lines[-1].startswith("careless (file ")
    assert "2 failed" in lines[-1]


def test_parameters_are_set_as_in_a_bench(plugin: Path) -> None:
    given = ((), ("--set", "careful.beta=1"))
    terms = [check("careful", "--plugin", plugin, "--only", "terms", *more)[1][0] for more in given]
    one, ten = (float(line.rpartition(" ")[2]) for line in terms)
    assert ten == pytest.approx(10 * one, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["carefull"], "unknown strategy 'carefull'; did you mean careful?"),
        (["careful", "--set", "soft.beta=1"], "--set soft.beta: only parameters of careful are set here"),
        (["careful", "--set", "careful.bta=1"], "unknown parameter of careful 'bta'"),
        (["careful", "--only", "batchsize"], "unknown check 'batchsize'; did you mean batch-size"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments: list[str], said: str, plugin: Path) -> None:
    result = CliRunner().invoke(app, ["check-strategy", *arguments, "--plugin", str(plugin)])
    assert said in str(result.exception)


def run_pytest(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "kdzoo.testing"]
    command += map(str, arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.exhaustive
def test_each_check_is_a_test_with_the_same_text(plugin: Path) -> None:
    chosen = "terms or float32 or batch-size or predict or search-space"
    done = run_pytest("--strategy", "careless", "--plugin", plugin, "-k", chosen, "-v", "-n", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    for name, state in {"terms": "PASSED", "float32": "PASSED", "predict": "SKIPPED", "batch-size": "FAILED"}.items():
        assert re.search(rf"test_conforms\[careless-{name}\] {state}", done.stdout), done.stdout
    assert "times as much on the same 4 times\nwhy it matters: a sum over the batch" in done.stdout
    assert "how to fix it: take the mean over the batch" in done.stdout
    assert "Traceback" not in done.stdout


def test_without_a_strategy_pytest_says_what_is_missing(plugin: Path) -> None:
    done = run_pytest()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "say which strategy is checked: pytest --pyargs kdzoo.testing --strategy NAME" in done.stderr


def test_other_sessions_of_pytest_know_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--strategy')\n    parser.addoption('--plugin')\n"
    )
    (tmp_path / "test_own.py").write_text(
        "import sys\n\ndef test_own(request):\n    assert request.config.getoption('--strategy') == 'mine'\n"
        "    assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strategy", "mine", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_lists_every_check_as_the_code_does() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- generated: conformance checks -->\n(.*?)<!-- end of generated -->", page, re.DOTALL)
    assert block is not None
    assert block[1] == checks_page(), "put kdzoo.testing.checks.checks_page() between the marks of docs/conformance.md"
    assert [line.removeprefix("### ") for line in block[1].splitlines() if line.startswith("### ")] == [
        one.name for one in CHECKS
    ]


def test_every_check_says_what_why_and_how() -> None:
    for one in CHECKS:
        for text in (one.verifies, one.matters, one.mend):
            assert len(text) > 20
            assert not text.endswith(".")
    names = [one.name for one in CHECKS]
    assert len(set(names)) == len(names)
    for place, one in enumerate(CHECKS):
        assert set(one.needs) <= set(names[:place])


def test_a_strategy_that_ends_the_process_does_not_end_the_kit(tmp_path: Path) -> None:
    plugin = tmp_path / "leaver.py"
    plugin.write_text(
        "import os\n\nfrom kdzoo import Strategy\n\n\nclass Leaver(Strategy):\n    name = 'leaver'\n\n"
        "    def forward(self, student, teacher, batch):\n        os._exit(0)\n"
    )
    result = CliRunner().invoke(app, ["check-strategy", "leaver", "--plugin", str(plugin)])
    assert result.exit_code == 1
    assert "os._exit(0) would end the bench" in result.stdout
