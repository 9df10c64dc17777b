"""The launchers for Cloud TPU VMs and Slurm, with stand-ins for their commands."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TPU = ROOT / "scripts" / "tpu_vm" / "tpu"
JOB = ROOT / "scripts" / "slurm" / "job"
SETTINGS = {
    "TPU_NAME": "digits",
    "TPU_ZONE": "us-central1-a",
    "TPU_BUCKET": "gs://mine/studies",
    "TPU_POLL_SECONDS": "0",
}

# Says what it was called with; answers what the files beside it hold, line by line.
GCLOUD = r"""#!/usr/bin/env bash
cd "$(dirname "$0")"
printf '%q ' "$@" >>calls.txt && printf '\n' >>calls.txt
answer() {
  head -n 1 "$1"
  if (($(wc -l <"$1") > 1)); then sed -i 1d "$1"; fi
}
case "$*" in
  *describe*) answer states.txt ;;
  *'cat status'*) answer statuses.txt ;;
esac
"""


@pytest.fixture
def gcloud(tmp_path):
    path = tmp_path / "gcloud"
    path.write_text(GCLOUD)
    path.chmod(0o755)
    (tmp_path / "states.txt").write_text("ACTIVE\n")
    (tmp_path / "statuses.txt").write_text("0\n")
    (tmp_path / "calls.txt").write_text("")
    return tmp_path


def run(script, *arguments, path=None, **settings):
    environment = {**os.environ, **SETTINGS, **settings}
    if path:
        environment["PATH"] = f"{path}:{environment['PATH']}"
        environment["TMPDIR"] = str(path)
    return subprocess.run(
        [script, *arguments],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def calls(folder) -> list[list[str]]:
    """Calls of gcloud, each its arguments."""
    return [
        shlex.split(line) for line in (folder / "calls.txt").read_text().splitlines()
    ]


def verbs(folder) -> list[str]:
    """What each call is about, without the questions."""
    found = []
    for call in calls(folder):
        text = " ".join(call)
        if "describe" in text or "cat status" in text:
            continue
        known = {
            "queued-resources create": "create", "queued-resources delete": "delete",
            "tpu-vm scp": "copy", "setup.sh": "setup", "--distributed": "run",
            "storage cp": "fetch", "tail": "follow",
        }  # fmt: skip
        found.append(next(verb for part, verb in known.items() if part in text))
    return found


def test_dry_run_prints_the_calls_and_makes_none(gcloud):
    done = run(TPU, "watch", "--dry_run", "--config=x y.py", path=gcloud)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "gcloud compute tpus queued-resources create digits --node-id=digits "
        "--accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite --spot "
        "--zone=us-central1-a "
    )
    assert lines[-1] == (
        "gcloud compute tpus queued-resources delete digits --force --quiet "
        "--zone=us-central1-a "
    )
    assert calls(gcloud) == []
    made = run(TPU, "create", path=gcloud)
    assert made.returncode == 0
    assert shlex.split(lines[0])[1:] == calls(gcloud)[0]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"TPU_SPOT": "0"}, "v2-alpha-tpuv5-lite --zone"),
        ({"TPU_TYPE": "v4-32", "TPU_RUNTIME": "r"}, "-type=v4-32 --runtime-version=r"),
        ({"TPU_PROJECT": "mine"}, "--project=mine"),
    ],
)
def test_settings_reach_gcloud(gcloud, settings, part):
    done = run(TPU, "create", "--dry_run", path=gcloud, **settings)
    assert part in done.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "part"),
    [
        (["fly"], {}, "fly: no such command"),
        ([], {}, "nothing: no such command"),
        (["run"], {"TPU_ZONE": ""}, "TPU_ZONE: not set"),
        (["run"], {"TPU_NAME": "../x"}, "TPU_NAME=../x: must be"),
        (["run"], {"TPU_BUCKET": "gs://b;rm"}, "TPU_BUCKET=gs://b;rm: must look"),
        (["run", "--workdir=here"], {}, "the workdir is TPU_BUCKET/TPU_NAME"),
    ],
)
def test_mistakes_are_told_in_a_sentence(gcloud, arguments, settings, part):
    done = run(TPU, *arguments, path=gcloud, **settings)
    assert done.returncode == 2
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
    assert calls(gcloud) == []


def test_flags_reach_scalepred_as_they_are(gcloud, tmp_path):
    """Through two shells and ssh."""
    flag = "--config.grid.widths=(4, 8)"
    odd = "--config=it's $HOME.py"
    assert run(TPU, "run", flag, odd, path=gcloud).returncode == 0
    (command,) = [
        part.removeprefix("--command=")
        for part in calls(gcloud)[0]
        if part.startswith("--command=")
    ]
    home = tmp_path / "home"
    (home / "scalepred" / ".venv" / "bin").mkdir(parents=True)
    told = home / "scalepred" / ".venv" / "bin" / "scalepred"
    told.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done >told\nexit 3\n')
    told.chmod(0o755)
    subprocess.run(["sh", "-c", command], cwd=home, check=True)
    deadline = time.monotonic() + 30
    while not (home / "status").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (home / "scalepred" / "told").read_text().splitlines() == [
        "--distributed", "--workdir=gs://mine/studies/digits", flag, odd
    ]  # fmt: skip
    while (home / "status").read_text() != "3\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (home / "status").read_text() == "3\n"


def test_watch_goes_through_preemptions_and_cleans_up(gcloud):
    states = "NONE WAITING_FOR_RESOURCES ACTIVE ACTIVE ACTIVE SUSPENDED ACTIVE ACTIVE"
    (gcloud / "states.txt").write_text("\n".join(states.split()) + "\n")
    (gcloud / "statuses.txt").write_text("running\nrunning\n1\nrunning\n0\n")
    done = run(TPU, "watch", "--config=x.py", path=gcloud)
    assert done.returncode == 0, done.stderr
    begin = ["create", "copy", "setup", "run"]
    again = ["run", "delete", *begin]
    assert verbs(gcloud) == [*begin, *again, "fetch", "delete"]
    assert "ended with 1, starting again" in done.stdout


def test_watch_does_not_repeat_a_mistake(gcloud):
    (gcloud / "states.txt").write_text("NONE\nACTIVE\n")
    (gcloud / "statuses.txt").write_text("2\n")
    done = run(TPU, "watch", path=gcloud)
    assert done.returncode == 2
    assert "refused what was asked" in done.stderr
    assert verbs(gcloud)[-1] == "delete"  # nobody pays for it any longer


def test_watch_gives_up_at_last(gcloud):
    (gcloud / "statuses.txt").write_text("1\n")
    done = run(TPU, "watch", path=gcloud, TPU_RESTARTS="3")
    assert done.returncode == 1
    assert "started 4 times" in done.stderr


def test_slurm_dry_run(tmp_path):
    done = run(JOB, "--dry_run", "--nodes=2", "--", "--config=x.py", "--workdir=/s/a b")
    assert done.returncode == 0, done.stderr
    first, *script = done.stdout.splitlines()
    assert first.startswith("sbatch --requeue --signal=B:TERM@60 ")
    assert first.rstrip().endswith("--nodes=2")
    assert any(
        "--distributed --config=x.py --workdir=/s/a\\ b" in line for line in script
    )
    for wrong in (["--nodes=2"], ["--", "--config=x.py"]):
        done = run(JOB, *wrong)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


SRUN = """#!/usr/bin/env bash
trap 'exit 143' TERM
touch "$(dirname "$0")/started"
for ((i = 0; i < $SRUN_TICKS; ++i)); do sleep 0.1; done
exit $SRUN_STATUS
"""


@pytest.mark.parametrize(
    ("status", "signalled", "requeued"),
    [(0, False, False), (2, False, False), (134, False, True), (0, True, True)],
)
def test_a_slurm_job_is_requeued_unless_it_is_done(
    tmp_path, status, signalled, requeued
):
    stand_ins = {
        "sbatch": '#!/bin/sh\ncat >"$(dirname "$0")/script"\n',
        "srun": SRUN,
        "scontrol": '#!/bin/sh\necho "$@" >"$(dirname "$0")/requeued"\n',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = run(JOB, "--", "--config=x.py", "--workdir=/s/r", path=tmp_path)
    assert done.returncode == 0, done.stderr
    job = subprocess.Popen(
        ["bash", tmp_path / "script"],
        env={
            **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7", "SRUN_STATUS": str(status),
            "SRUN_TICKS": "300" if signalled else "0",
        },
    )  # fmt: skip
    while signalled and not (tmp_path / "started").exists():
        time.sleep(0.05)
    if signalled:
        job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == (143 if signalled else status)
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_scripts_are_clean():
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck on the PATH")
    scripts = [TPU, JOB, *(ROOT / "scripts" / n for n in ("test", "quickstart"))]
    done = subprocess.run(
        ["shellcheck", *scripts], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
