"""What the environment says of other processes."""

import jax
import pytest
from jax._src import cloud_tpu_init

from zoo.config import UserError
from zoo.config.schema import MeshConfig
from zoo.sharding import hosts
from zoo.sharding.mesh import make_mesh

VARIABLES = (
    "ZOO_COORDINATOR", "ZOO_NUM_HOSTS", "ZOO_HOST", "SLURM_JOB_ID", "SLURM_STEP_NODELIST",
    "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID",
    "TPU_PROCESS_ADDRESSES", "MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES",
    "MEGASCALE_SLICE_ID", "JAX_COORDINATOR_ADDRESS",
)  # fmt: skip


@pytest.fixture
def find(monkeypatch):
    """Looks for a team in an environment that holds just these variables."""

    def find(**environment):
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        return hosts.find_team(1)

    return find


def on_slurm(**changes):
    step = {
        "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[003-004]", "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1", "SLURM_LOCALID": "0",
    }  # fmt: skip
    return {**step, **changes}


def test_nothing_said_is_one_process(find):
    assert find() is None


def test_our_launchers_say_it_in_three_variables(find):
    said = {"ZOO_COORDINATOR": "there:123", "ZOO_NUM_HOSTS": "4", "ZOO_HOST": "3"}
    assert find(**said) == ("there:123", 4, 3, None)
    assert find(**{**said, "ZOO_NUM_HOSTS": "1", "ZOO_HOST": "0"}) is None
    for wrong in ({"ZOO_HOST": "4"}, {"ZOO_HOST": "x"}, {"ZOO_COORDINATOR": "there"}):
        with pytest.raises(UserError, match="ZOO_NUM_HOSTS a count"):
            find(**{**said, **wrong})


def test_a_slurm_step_of_several_tasks_is_a_team(find):
    team = find(**on_slurm())
    assert (team.size, team.host) == (2, 1)
    assert team.address.startswith("node003:")
    assert find(**on_slurm(SLURM_NTASKS="1", SLURM_PROCID="0")) is None
    assert find(**on_slurm(JAX_COORDINATOR_ADDRESS="10.0.0.1:9")).address == "10.0.0.1:9"


def test_a_batch_script_outside_of_a_step_is_one_process(find):
    outside = on_slurm()
    del outside["SLURM_STEP_NODELIST"]
    assert find(**outside) is None


def test_the_hosts_of_a_tpu_pod_are_a_team(find, monkeypatch):
    monkeypatch.setattr(cloud_tpu_init, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    pod = {"TPU_WORKER_HOSTNAMES": "localhost,there", "TPU_WORKER_ID": "1"}
    slices = {
        "MEGASCALE_COORDINATOR_ADDRESS": "localhost", "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
    }  # fmt: skip
    slice_alone = {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1",
                   "MEGASCALE_SLICE_ID": "0"}  # fmt: skip
    assert find(**pod, **slice_alone)[:3] == ("localhost:8482", 2, 1)
    assert find(**pod, **slices)[:3] == ("localhost:8482", 4, 3)
    one = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    assert find(**one, **slice_alone) is None


def test_time_limits_are_whole_seconds(monkeypatch):
    monkeypatch.setenv("ZOO_JOIN_SECONDS", "300")
    assert hosts.seconds("ZOO_JOIN_SECONDS", 50) == 300
    monkeypatch.setenv("ZOO_JOIN_SECONDS", "5m")
    with pytest.raises(UserError, match=r"\$ZOO_JOIN_SECONDS is '5m'"):
        hosts.seconds("ZOO_JOIN_SECONDS", 50)


def test_hosts_that_meet_talk_along_every_set_of_axes(monkeypatch):
    asked = []
    psum = jax.lax.psum
    monkeypatch.setattr(jax.lax, "psum", lambda x, axes: asked.append(axes) or psum(x, axes))
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, sequence=2, tensor=2))
    hosts.meet(mesh)
    assert not asked  # a host alone
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    hosts.meet(mesh)
    assert len(asked) == 7
    assert {("data",), ("sequence", "tensor"), ("data", "sequence", "tensor")} < set(asked)
