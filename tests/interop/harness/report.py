"""One line per check, and the sum at the end."""


class Report:
    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def check(self, name: str, problem: str | None) -> None:
        """Records one check; `problem` is why it failed, or None."""
        if problem is None:
            self.passed += 1
            print(f"ok    {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {name}: {problem}", flush=True)

    def close(self) -> int:
        """Prints the sum and returns the exit code. No check at all is a failure too."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.passed and not self.failed else 1
