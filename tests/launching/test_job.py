"""What the launchers share: the command after `--`, and where its workdir may lie."""

import pytest

from zoo.config import UserError
from zoo.launching import job

TPU = ["--topology=v5e:4x4"]


def parsed(*argv):
    parser = job.make_parser("tpu", "")
    job.add_tpu_flags(parser)
    return job.parse(parser, [*TPU, *argv])


def test_flags_stand_before_the_dashes_and_the_command_after():
    args = parsed("--name=a", "--env=A=b=c", "--", "zoo", "train", "--name", "b", "--", "c")
    assert args.name == "a"
    assert args.env == {"A": "b=c"}
    assert args.command == ["zoo", "train", "--name", "b", "--", "c"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "there is no command: launch/tpu"),
        (["--"], "there is no command: launch/tpu"),
        (["--env=A", "--", "x"], "--env A: write KEY=VALUE"),
        (["--env=A B=c", "--", "x"], "--env A B: write KEY=VALUE"),
        (["--nfs=server", "--", "x"], "--nfs server: write SERVER:/SHARE"),
    ],
)
def test_what_is_missing_is_said(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        parsed(*argv)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--", "zoo", "train", "--workdir", "gs://b/x"], "knows no buckets: mount it"),
        (["--bucket=b", "--", "zoo", "--workdir=runs/x"], "gone with it: give --bucket"),
        (["--", "zoo", "--workdir=/mnt/zoo/x"], "nothing is mounted at /mnt/zoo"),
        (["--name=Zoo", "--", "x"], "--name Zoo: at most 40"),
        (["--slices=0", "--", "x"], "--slices 0: a job has at least one"),
    ],
)
def test_a_tpu_job_that_cannot_go_well_is_refused(argv, complaint):
    with pytest.raises(UserError, match=complaint):
        job.check_tpu_job(parsed(*argv))


def test_a_mounted_workdir_and_a_command_without_one_are_fine():
    job.check_tpu_job(parsed("--bucket=b", "--", "zoo", "train", "--workdir", "/mnt/zoo/x"))
    job.check_tpu_job(parsed("--", "zoo", "bench"))


def test_a_users_mistake_is_one_line_and_a_2(capsys):
    def main(argv):
        raise UserError("no")

    with pytest.raises(SystemExit) as ended:
        job.run_main(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "zoo: no\n"
