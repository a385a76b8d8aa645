"""`moor models scale|delete|rollback`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from moorage.cli.models.looking import found
from moorage.cli.models.waiting import await_deleted, await_settled

if TYPE_CHECKING:
    from moorage.cli.output import Output
    from moorage.client.serving.client import ServingClient
    from moorage.client.serving.values import Answer, Model

__all__ = ["delete", "rollback", "scale"]


def scale(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """Another number of replicas, or other bounds of autoscaling."""
    model = found(args.model, client)
    if args.dry_run:
        return {"plan": [client.plan_patch(model.model_key, _changes(args), if_match=args.if_match).raw]}
    answer = client.patch(model.model_key, _changes(args), if_match=args.if_match)
    return _after(answer, model, args, client, out)


def rollback(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """A new generation with an older spec."""
    model = found(args.model, client)
    if args.dry_run:
        plan = client.plan_rollback(model.model_key, generation=args.generation, if_match=args.if_match)
        return {"plan": [plan.raw]}
    answer = client.rollback(model.model_key, generation=args.generation, if_match=args.if_match)
    return _after(answer, model, args, client, out)


def delete(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """Have it taken away; with `--wait` until it is."""
    model = found(args.model, client)
    answer = client.delete(model.model_key, if_match=args.if_match)
    if args.wait is None:
        return _told(answer, model)
    detail = await_deleted(client, model.model_key, args.wait, out)
    return detail.model.raw


def _after(
    answer: Answer, model: Model, args: argparse.Namespace, client: ServingClient, out: Output
) -> dict[str, Any]:
    if args.wait is None:
        return _told(answer, model)
    [detail] = await_settled(client, [model.model_key], args.wait, out)
    return detail.model.raw


def _told(answer: Answer, model: Model) -> dict[str, Any]:
    return {"model_id": model.model_id, "model_alias": model.model_alias, **answer.raw}


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if args.replicas is not None:
        changes["num_replicas"] = args.replicas
    if args.no_autoscaling:
        changes["autoscaling"] = None
    bounds = {"min_replicas": args.min_replicas, "max_replicas": args.max_replicas}
    given = {name: value for name, value in bounds.items() if value is not None}
    return changes | ({"autoscaling": given} if given else {})
