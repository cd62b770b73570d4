"""A JobSet for GKE: what stands in it, and that Kubernetes would take it."""

import os

import pytest
import yaml

from zoo.launching import gke

TRAIN = ["zoo", "train", "--config", "s16_in1k", "--workdir", "/mnt/zoo/s16"]
VARIANTS = (
    ["--topology=v5e:4x4", "--bucket=mine"],
    ["--topology=v6e:16x16", "--slices=2", "--spot", "--nfs=10.0.0.2:/share", "--env=A=1"],
    ["--topology=tpu7x:4x4x4", "--bucket=mine", "--namespace=ml", "--queue=q",
     "--service-account=trainer", "--max-restarts=3"],
)  # fmt: skip


def manifest(capsys, *flags):
    """What a dry run prints."""
    assert gke.main([*flags, "--image=zoo:1", "--dry-run", "--", *TRAIN]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def job(found):
    return found["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod(found):
    return job(found)["template"]["spec"]


def test_each_host_of_a_slice_has_a_pod_with_its_chips(capsys):
    found = manifest(capsys, *VARIANTS[0])
    assert job(found)["parallelism"] == job(found)["completions"] == 4
    assert pod(found)["containers"][0]["resources"] == {"limits": {"google.com/tpu": 4}}
    assert pod(found)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }


def test_each_slice_has_a_job_and_a_node_pool_of_its_own(capsys):
    found = manifest(capsys, *VARIANTS[1])
    assert found["spec"]["replicatedJobs"][0]["replicas"] == 2
    key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert found["metadata"]["annotations"][key] == "cloud.google.com/gke-nodepool"


def test_a_users_mistake_is_final_and_any_other_end_starts_all_pods_again(capsys):
    found = manifest(capsys, *VARIANTS[2])
    [rule] = job(found)["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [2]
    policy = found["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 3
    [rule] = policy["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert job(found)["backoffLimit"] == 0


def test_the_command_runs_under_a_supervisor_with_its_variables(capsys):
    container = pod(manifest(capsys, *VARIANTS[1], "--restarts=5"))["containers"][0]
    head = ["python", "-m", "zoo.launching.supervisor", "--restarts", "5", "--"]
    assert container["command"] == [*head, *TRAIN]
    assert {"name": "A", "value": "1"} in container["env"]


def test_pods_wait_for_those_that_still_fetch_the_image(capsys):
    assert {"name": "ZOO_JOIN_SECONDS", "value": "600"} in pod(manifest(capsys, *VARIANTS[0]))[
        "containers"
    ][0]["env"]


@pytest.mark.parametrize(("flags", "kind"), [(VARIANTS[0], "csi"), (VARIANTS[1], "nfs")])
def test_the_workdir_lies_on_what_is_mounted(capsys, flags, kind):
    found = manifest(capsys, *flags)
    [volume] = pod(found)["volumes"]
    [mount] = pod(found)["containers"][0]["volumeMounts"]
    assert kind in volume
    assert mount == {"name": volume["name"], "mountPath": "/mnt/zoo"}
    fuse = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}}
    assert (job(found)["template"].items() >= fuse.items()) is (kind == "csi")


def test_spot_machines_are_asked_for_and_tolerated(capsys):
    found = pod(manifest(capsys, *VARIANTS[1]))
    assert found["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert found["tolerations"][0]["key"] == "cloud.google.com/gke-spot"


def test_slices_of_one_host_cannot_be_joined():
    with pytest.raises(gke.UserError, match="joins slices of several hosts only"):
        gke.main(["--topology=v5e:2x4", "--slices=2", "--image=zoo", "--", "zoo", "bench"])


def test_kubectl_gets_the_manifest_and_the_user_what_to_do_next(capsys, tmp_path, monkeypatch):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/words\ncat >{tmp_path}/manifest\n')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gke.main([*VARIANTS[2], "--image=zoo:1", "--", *TRAIN]) == 0
    told = capsys.readouterr().err
    assert (tmp_path / "words").read_text() == "create --filename=-\n"
    assert yaml.safe_load((tmp_path / "manifest").read_text()) == manifest(capsys, *VARIANTS[2])
    assert "kubectl logs --namespace=ml --selector=jobset.sigs.k8s.io/jobset-name=zoo" in told
    assert "--max-log-requests=16" in told
    assert "kubectl delete jobset --namespace=ml zoo" in told


def test_without_kubectl_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(gke.UserError, match="kubectl is not installed here"):
        gke.main([*VARIANTS[0], "--image=zoo:1", "--", *TRAIN])


@pytest.mark.oracle
@pytest.mark.parametrize("flags", VARIANTS)
def test_the_api_of_jobset_knows_every_field(capsys, flags):
    from kubeflow_trainer_api import models

    found = manifest(capsys, *flags)
    # Fields that it does not know get lost on the way.
    assert models.JobsetV1alpha2JobSet.from_dict(found).to_dict() == found


@pytest.mark.oracle
@pytest.mark.parametrize("flags", VARIANTS)
def test_kubernetes_takes_the_job_of_a_slice(capsys, flags):
    import kubernetes_validate

    spec = job(manifest(capsys, *flags))
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "zoo"}, "spec": spec}
    kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)
