"""Step (a): each kernel against numpy, by the tests in tests/compile/gpu, with kernels that were compiled elsewhere."""

from __future__ import annotations

import os
import sys

import pytest
from common import TESTS, Results, manifest


class Writer:
    def __init__(self) -> None:
        self._results = Results("kernels")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            told = {"told": str(report.longrepr)[-1200:]} if report.failed else {}
            self._results.check(report.nodeid.rpartition("/")[2], report.passed, **told)


def files() -> list[str]:
    return [str(TESTS / "compile/gpu" / f"test_gpu_{name}.py") for name in ("attention", "cache", "products")]


def options(expression: str) -> list[str]:
    here = str(TESTS / "compile/gpu")
    plain = ["-q", "-c", os.devnull, "--rootdir", here, "--confcutdir", here, "-p", "no:cacheprovider"]
    return [*plain, "-p", "no:warnings", "--import-mode=importlib", "-k", expression, *files()]


if __name__ == "__main__":
    sys.exit(pytest.main(options(manifest()["kernels"]), plugins=[Writer()]))
