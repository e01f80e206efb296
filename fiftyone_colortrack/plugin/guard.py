"""Errors that nobody foresaw: the log gets the trace, the browser a sentence with the id to find it there.

FiftyOne sends the trace of whatever an operator raises to the browser, with paths and values of the server.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.plugin import forms

logger = logging.getLogger(__name__)


def guarded(cls: type[foo.Operator]) -> type[foo.Operator]:
    """The same operator or panel, whose errors are shown without their traces.

    A delegated operation fails as it is: it has no browser, and its error is kept with it.
    """
    guard = _Panel if issubclass(cls, foo.Panel) else _Operator
    return type(cls.__name__, (guard, cls), {})


def explain(error: Exception, name: str) -> str:
    """What to tell a person about an error; one that nobody foresaw is logged."""
    if isinstance(error, ColorTrackError):
        return str(error)
    id = secrets.token_hex(4)
    logger.error("Error %s in %s", id, name, exc_info=error)
    return f"Something went wrong. The log of FiftyOne's server tells what, under error {id}."


class _Operator(foo.Operator):
    def resolve_input(self, ctx: ExecutionContext) -> types.Property | None:
        try:
            return super().resolve_input(ctx)
        except Exception as error:
            return _message(explain(error, self.name))

    def execute(self, ctx: ExecutionContext) -> Any:
        if ctx.delegated:
            return super().execute(ctx)
        try:
            result = super().execute(ctx)
        except Exception as error:
            ctx.ops.notify(explain(error, self.name), variant="error")
            return {}
        return self._messages(ctx, result) if isinstance(result, Generator) else result

    def _messages(
        self, ctx: ExecutionContext, messages: Generator[Any, Any, Any]
    ) -> Generator[Any, Any, Any]:
        try:
            yield from messages
        except Exception as error:
            yield ctx.ops.notify(explain(error, self.name), variant="error")


class _Panel(foo.Panel):
    def render(self, ctx: ExecutionContext) -> types.Property:
        try:
            return super().render(ctx)
        except Exception as error:
            return _message(explain(error, self.name))

    def execute(self, ctx: ExecutionContext) -> Any:
        try:
            return super().execute(ctx)
        except Exception as error:
            ctx.ops.notify(explain(error, self.name), variant="error")
            return {}


def _message(text: str) -> types.Property:
    content = types.Object()
    forms.message(content, "failed", text, severity="error")
    return types.Property(content)
