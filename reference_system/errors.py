"""Every error a reader can meet: the fact, the fields that made it so, and the next command.

WorkbookError
├── SetupError        the machine or the environment is not ready    → `workbook doctor`
├── ServiceError      a service is missing, unhealthy or too slow    → `workbook status`, `workbook logs NAME`
├── StateError        what the state directory holds cannot be used  → `make clean`
├── ImportRefused     a file cannot become events; nothing was written
├── TableRefused      tables that cannot be compared
├── EventRejected     bytes that are not the event they claim to be  → dead-letter topic
├── TrainingError     no honest model can come from this data
├── BundleRefused     a model bundle failed verification; the old one keeps serving
└── ExerciseError     a design exercise breaks the workbook's rules  → `workbook design check`
"""


class WorkbookError(Exception):
    """The root: `str()` is one line for a person, `next_command` is what mends it."""

    next_command: str | None = None

    def __init__(self, fact: str, *, next_command: str | None = None) -> None:
        """Store the fact and, where one exists, the command that mends it."""
        super().__init__(fact)
        if next_command is not None:
            self.next_command = next_command

    def for_person(self) -> str:
        """One line: the fact, then the next command."""
        fact = str(self).rstrip(".")
        return f"{fact}; run `{self.next_command}`" if self.next_command else fact


class SetupError(WorkbookError):
    """The machine or the environment is not ready."""

    next_command = "workbook doctor"


class ServiceError(WorkbookError):
    """A service is missing, unhealthy or too slow."""

    next_command = "workbook status"


class StateError(WorkbookError):
    """What the state directory holds cannot be used."""


class ImportRefused(WorkbookError):  # noqa: N818 - refusing is what the import does
    """A file that cannot become events; nothing was written."""


class TableRefused(WorkbookError):  # noqa: N818 - refusing is what the comparison does
    """Tables that cannot be compared."""


class EventRejected(WorkbookError):  # noqa: N818 - the field says rejected events, not event errors
    """Bytes that are not the event they claim to be; `kind` is the reason in one word."""

    def __init__(self, fact: str, *, kind: str) -> None:
        """Store the fact and its kind (`events.Refusal`)."""
        super().__init__(fact)
        self.kind = kind


class TrainingError(WorkbookError):
    """No honest model can come from this data."""


class BundleRefused(WorkbookError):  # noqa: N818 - refusing is what the verifier does
    """A model bundle failed verification."""


class ExerciseError(WorkbookError):
    """A design exercise breaks the workbook's rules."""

    next_command = "workbook design check"
