"""Protects the operators from bad values, and the browser from details of unexpected errors.

FiftyOne sends the traceback of an operator's error to the browser, with paths and values of the server. With this
guard, the traceback goes to the log, and the browser gets a sentence with an ID to find it there.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Generator
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import forms, params
from fiftyone_colortrack.plugin.work import show_error

logger = logging.getLogger(__name__)


def guarded(cls: type[foo.Operator]) -> type[foo.Operator]:
    """Guard an operator or panel: it gets only parameters that fit, and its form marks the others. Users, and the
    records of delegated operations, get its errors without tracebacks.
    """
    own = [name for name in FALLBACKS if getattr(cls, name, None) is not getattr(foo.Operator, name, None)]
    return type(cls.__name__, (cls,), {name: _method(cls, name) for name in own})


def explain(error: Exception, name: str, log: str = "FiftyOne's server") -> str:
    """What to tell the user about an error. Unexpected errors are logged."""
    if isinstance(error, ColorTrackError):
        return str(error)
    id = secrets.token_hex(4)
    logger.error("Error %s in %s", id, name, exc_info=error)
    return f"Something went wrong. Look for error {id} in the log of {log}."


def _method(cls: type[foo.Operator], name: str) -> Callable[[foo.Operator, ExecutionContext], Any]:
    def method(self: foo.Operator, ctx: ExecutionContext) -> Any:
        given, ctx.params = ctx.params, params.fitting(ctx.params)
        try:
            result = getattr(cls, name)(self, ctx)
            if name == "resolve_input" and result is not None:
                params.mark(result, given)
        except Exception as error:
            return FALLBACKS[name](self, ctx, error)
        return _messages(self, ctx, result) if isinstance(result, Generator) else result

    return method


def _messages(
    operator: foo.Operator, ctx: ExecutionContext, messages: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    try:
        yield from messages
    except Exception as error:
        yield from show_error(ctx, operator.config.label, explain(error, operator.name))


def _show(operator: foo.Operator, ctx: ExecutionContext, error: Exception) -> types.Property:
    content = types.Object()
    forms.message(content, "failed", explain(error, operator.name), severity="error")
    return types.Property(content)


def _notify(operator: foo.Operator, ctx: ExecutionContext, error: Exception) -> dict[str, Any]:
    if ctx.delegated:
        raise ColorTrackError(explain(error, operator.name, "the worker")) from None
    ctx.ops.notify(explain(error, operator.name), variant="error")
    return {}


def _leave_out(operator: foo.Operator, ctx: ExecutionContext, error: Exception) -> None:
    explain(error, operator.name)  # logs it


FALLBACKS: dict[str, Callable[[foo.Operator, ExecutionContext, Exception], Any]] = {
    "resolve_input": _show,
    "resolve_output": _show,
    "render": _show,
    "execute": _notify,
    "resolve_placement": _leave_out,
    "resolve_delegation": _leave_out,
    "resolve_run_name": _leave_out,
}
"""What FiftyOne gets instead of a method's result if the method raises an error."""
