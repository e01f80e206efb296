"""Track a shard: one of several delegated operations that share the videos of a run."""

from __future__ import annotations

from dataclasses import asdict

import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import ExecutionContext

from fiftyone_colortrack.api.report import VideoResult
from fiftyone_colortrack.api.shards import lease, track_shard
from fiftyone_colortrack.api.stop import StopSignal
from fiftyone_colortrack.plugin import forms
from fiftyone_colortrack.plugin.work import Messages, Results, WorkOperator, show
from fiftyone_colortrack.progress import ProgressCallback


class TrackShard(WorkOperator):
    """Track a shard. `propagate` with the executor `delegated` queues this operator."""

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name="track_shard",
            label="Track a shard of videos",
            description="Track the videos of one delegated worker of a Propagate labels run",
            unlisted=True,
            execute_as_generator=True,
            allow_immediate_execution=False,
            allow_delegated_execution=True,
            risk_level=types.RiskLevel.MEDIUM,
        )

    def work(self, ctx: ExecutionContext) -> Messages[Results]:
        operation = ctx.request_params["run_doc"]

        def track(progress: ProgressCallback, stop: StopSignal) -> list[VideoResult]:
            with lease(operation) as lost:
                return track_shard(ctx.dataset, ctx.params, progress, lambda: stop() or lost())

        videos = yield from show(ctx, ctx.params["title"], track, id=str(operation))
        done = [video for video in videos if video.status == "done"]
        return {
            "summary": f"{forms.plural(len(done), 'video')} of {len(ctx.params['videos'])} tracked",
            "videos": [asdict(video) for video in videos],
        }
