"""`launch/gke`: a command on slices of TPUs in Google Kubernetes Engine, as a JobSet.

    launch/gke --topology v5e:4x4 --image IMAGE --bucket BUCKET -- \\
        zoo train --config s16_in1k --workdir /mnt/zoo/s16

A pod on each host of a slice, a Job for each slice. GKE tells the pods of each other, and JAX finds
them. In its pod a supervisor starts a crashed command again; a pod that ends otherwise than well
restarts all pods, which go on from the last checkpoint, unless it ends with 2: the command is at
fault then, and the JobSet fails.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import yaml

from zoo.config import UserError
from zoo.launching.job import (
    MOUNT,
    add_tpu_flags,
    call,
    check_tpu_job,
    make_parser,
    parse,
    run_main,
    supervised,
)
from zoo.launching.slices import Slice, parse_slice

# Seconds between the warning and the end of a pod, to save in. Spot machines give about 15.
GRACE_S = 300
CONTAINER = "zoo"
JOIN_S = 600  # that a pod waits for the others: some still fetch the image


def flags() -> ArgumentParser:
    """The flags before `--`."""
    parser = make_parser("gke", "Create a JobSet that runs a command on TPUs in GKE.")
    add_tpu_flags(parser)
    parser.add_argument("--image", required=True, help="with Zoo in it, see docs/launching.md")
    text = "how often all pods are started again, preemptions included (100)"
    parser.add_argument("--max-restarts", type=int, default=100, metavar="N", help=text)
    parser.add_argument("--namespace", help="kubectl's current one")
    text = "of Kubernetes, with access to the bucket"
    parser.add_argument("--service-account", metavar="NAME", help=text)
    parser.add_argument("--queue", metavar="NAME", help="a local queue of Kueue")
    return parser


def jobset(args: Namespace, hosts: Slice) -> dict[str, Any]:
    """The manifest, as Kubernetes' API has it (jobset.x-k8s.io/v1alpha2)."""
    metadata: dict[str, Any] = {"name": args.name}
    if args.namespace:
        metadata["namespace"] = args.namespace
    if args.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": args.queue}
    # A slice is a node pool: no two Jobs on one, no Job on two.
    key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    metadata["annotations"] = {key: "cloud.google.com/gke-nodepool"}
    users_fault = {"name": "users-fault", "action": "FailJobSet"}
    fatal = {"containerName": CONTAINER, "operator": "In", "values": [2]}
    job = {
        "parallelism": hosts.hosts,
        "completions": hosts.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # hosts start together or not at all: restarting is the JobSet's
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": fatal}]},
        "template": pod(args, hosts),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {
                "maxRestarts": args.max_restarts,
                "rules": [{**users_fault, "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": args.slices, "template": {"spec": job}}
            ],
        },
    }


def pod(args: Namespace, hosts: Slice) -> dict[str, Any]:
    """The template of a host's pod."""
    selector = {
        "cloud.google.com/gke-tpu-accelerator": hosts.generation.gke,
        "cloud.google.com/gke-tpu-topology": hosts.topology,
    }
    env = {"ZOO_JOIN_SECONDS": str(JOIN_S), **args.env}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": args.image,
        "command": supervised("python", args),
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "resources": {"limits": {"google.com/tpu": hosts.chips_per_host}},
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "nodeSelector": selector,
        "containers": [container],
    }
    if args.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        equals = {"operator": "Equal", "value": "true", "effect": "NoSchedule"}
        spec["tolerations"] = [{"key": "cloud.google.com/gke-spot", **equals}]
    if args.service_account:
        spec["serviceAccountName"] = args.service_account
    if args.bucket or args.nfs:
        container["volumeMounts"] = [{"name": "workdirs", "mountPath": MOUNT}]
        spec["volumes"] = [{"name": "workdirs", **volume(args)}]
    if not args.bucket:
        return {"spec": spec}
    return {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, "spec": spec}


def volume(args: Namespace) -> dict[str, Any]:
    """Where the workdirs are."""
    if args.nfs:
        server, _, path = args.nfs.partition(":")
        return {"nfs": {"server": server, "path": path}}
    # A checkpoint is a directory that gets its name when it is whole: renaming must be allowed.
    options = "implicit-dirs,rename-dir-limit=200000"
    attributes = {"bucketName": args.bucket, "mountOptions": options}
    return {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}


def main(argv: Sequence[str]) -> int:
    """Creates the JobSet; returns kubectl's exit code."""
    args = parse(flags(), argv)
    check_tpu_job(args)
    hosts = parse_slice(args.topology)
    if args.slices > 1 and hosts.hosts == 1:
        raise UserError(
            f"--slices {args.slices}: GKE joins slices of several hosts only, and {args.topology} "
            "has one"
        )
    manifest = yaml.safe_dump(jobset(args, hosts), sort_keys=False)
    if args.dry_run:
        print(manifest, end="")
        return 0
    # Not `apply`: that says "unchanged" to a run of the same name that has ended, and runs nothing.
    code = call(["kubectl", "create", "--filename=-"], stdin=manifest)
    if code == 0:
        where = f" --namespace={args.namespace}" if args.namespace else ""
        pods = f"--selector=jobset.sigs.k8s.io/jobset-name={args.name}"
        print(
            f"follow: kubectl logs{where} {pods} --follow --prefix "
            f"--max-log-requests={args.slices * hosts.hosts}\n"
            f"stop:   kubectl delete jobset{where} {args.name}",
            file=sys.stderr,
        )
    return code


if __name__ == "__main__":
    run_main(main)
