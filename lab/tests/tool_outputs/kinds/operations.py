"""Outputs of tools that run services: docker, kubectl, terraform, helm, aws, gh and others.

They are written here in the shape that the tools' documentation shows, for no engine, cluster or
account was at hand: names, numbers and times are drawn. No format of tamis was mended on them
before their first figures were in the log.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from lab.tests.tool_outputs.kit import Workshop, bash, headers
from lab.tests.tool_outputs.words import CITIES, nouns, person, sentence

TOOLS = {"python": "python --version"}
WHOLE, JSON = {"rule": "lines"}, {"rule": "json"}
REPEATS = 2
_HEX = "0123456789abcdef"


def make(shop: Workshop) -> None:
    """Two outputs of every tool."""
    for add in MAKERS:
        for i in range(REPEATS):
            add(shop, shop.rng(f"{add.__name__} {i}"), i)


def _hex(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(_HEX) for _ in range(count))


def _columns(rows: Sequence[Sequence[str]], gap: int = 3) -> str:
    """Rows in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "".join(f"{cell:<{width + gap}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _names(rng: random.Random, count: int) -> list[str]:
    """Distinct names of services, such as `cart-worker`."""
    roles = ("api", "worker", "web", "cron", "proxy", "db", "cache", "sync")
    every = [f"{noun}-{role}" for noun in nouns(rng, 20) for role in roles]
    return rng.sample(every, count)


def _clock(n: int, step: int = 7) -> str:
    seconds = 36_000 + n * step
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def docker_ps(shop: Workshop, rng: random.Random, i: int) -> None:
    """A table of containers, one of which is unhealthy or restarts."""
    rows = [["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]]
    for name in _names(rng, 34):
        port = rng.randint(3000, 9999)
        image = f"registry.example.org/{name}:{rng.randint(1, 9)}.{rng.randint(0, 20)}"
        days = f"{rng.randint(2, 13)} days"
        command = f'"/docker-entrypoint.{rng.choice(("sh", "d/run"))}…"'
        status, ports = f"Up {days} (healthy)", f"0.0.0.0:{port}->{port}/tcp"
        rows.append([_hex(rng, 12), image, command, f"{days} ago", status, ports, name])
    odd = rows[rng.randint(8, 28)]
    odd[4] = ("Up 3 minutes (unhealthy)", "Restarting (137) 41 seconds ago")[i]
    asks = ("Stop the container whose health check does not pass.", "Which one keeps restarting?")
    rule = headers("rows", "^CONTAINER ID")
    shop.add(bash("docker ps -a"), asks[i], _columns(rows), [odd[0]], (), (WHOLE, rule))


def docker_inspect(shop: Workshop, rng: random.Random, i: int) -> None:
    """What an engine knows of a container: a long object in an array."""
    name, network = _names(rng, 1)[0], f"{nouns(rng, 1)[0]}_backend"
    address = f"172.{rng.randint(18, 30)}.{rng.randint(1, 9)}.{rng.randint(10, 99)}"
    source = f"/srv/volumes/{_hex(rng, 16)}/_data"
    env = [
        f"{noun.upper()}_{key}={rng.randint(10, 9999)}"
        for noun in nouns(rng, 24)
        for key in ("TIMEOUT_MS",)
    ]
    value: list[dict[str, Any]] = [
        {
            "Id": _hex(rng, 64),
            "Created": "2026-11-26T09:12:44.102Z",
            "Path": "/usr/bin/tini",
            "Args": ["--", "/usr/bin/serve", "--workers", "4"],
            "State": {
                "Status": "running",
                "Running": True,
                "Paused": False,
                "OOMKilled": False,
                "Dead": False,
                "Pid": rng.randint(1000, 9999),
                "ExitCode": 0,
            },
            "Image": f"sha256:{_hex(rng, 64)}",
            "Name": f"/{name}",
            "RestartCount": 0,
            "HostConfig": {
                "Binds": None,
                "NetworkMode": network,
                "RestartPolicy": {"Name": "always"},
                "Memory": 536870912,
                "CpuShares": 512,
                "ShmSize": 67108864,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                "ReadonlyPaths": [f"/proc/{n}" for n in ("bus", "fs", "irq", "sys", "asound")],
            },
            "Mounts": [
                {
                    "Type": "volume",
                    "Name": f"{noun}_data",
                    "Source": f"/srv/volumes/{noun}/_data",
                    "Destination": f"/var/lib/{noun}",
                    "Driver": "local",
                    "Mode": "z",
                    "RW": True,
                }
                for noun in nouns(rng, 6)
            ],
            "Config": {
                "Hostname": _hex(rng, 12),
                "User": "1000",
                "Tty": False,
                "Env": env,
                "Labels": {f"org.example.{n}": sentence(rng, 3) for n in nouns(rng, 8)},
            },
            "NetworkSettings": {
                "Ports": {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
                "Networks": {
                    n: {
                        "Aliases": [name],
                        "NetworkID": _hex(rng, 64),
                        "Gateway": f"172.17.0.{k}",
                        "IPAddress": f"172.17.0.{k + 100}",
                        "MacAddress": f"02:42:ac:11:00:{k:02}",
                    }
                    for k, n in enumerate((network, "monitoring", "mail"), 1)
                },
            },
        }
    ]
    one = value[0]
    one["NetworkSettings"]["Networks"][network]["IPAddress"] = address
    one["Mounts"][3] |= {"Source": source, "Destination": "/var/lib/uploads"}
    asks = (
        f"Ping the container on the network {network}: what is its IPAddress there?",
        "Where on the host is the mount /var/lib/uploads?",
    )
    text = json.dumps(value, indent=4) + "\n"
    gold = json.dumps((address, source)[i])
    at = text.index(gold)
    span = [(at, at + len(gold))]
    shop.add(bash(f"docker inspect {name}"), asks[i], text, span, (), (JSON,))


def docker_logs(shop: Workshop, rng: random.Random, i: int) -> None:
    """A database's or a proxy's log with one failure among what is usual."""
    lines = []
    for n in range(110):
        at = f"2026-11-26 {_clock(n)}.{rng.randrange(1000):03} UTC [{rng.randint(20, 99)}]"
        usual = (
            f"LOG:  checkpoint complete: wrote {rng.randint(3, 99)} buffers ({rng.random():.1f}%)",
            f"LOG:  connection received: host=10.0.{rng.randint(1, 9)}.{rng.randint(1, 99)}",
            f"LOG:  duration: {rng.random() * 90:.3f} ms  "
            f'statement: SELECT * FROM "{sentence(rng, 1)}"',
        )
        lines.append(f"{at} {rng.choice(usual)}")
    at = rng.randint(30, 90)
    head = lines[at].split("LOG:")[0]
    role = f"{nouns(rng, 1)[0]}_writer"
    odd = (
        [
            f'{head}FATAL:  password authentication failed for user "{role}"',
            f'{head}DETAIL:  Connection matched pg_hba.conf line 95: "host all all all md5"',
        ],
        [
            f"{head}ERROR:  deadlock detected",
            f"{head}DETAIL:  Process 71 waits for ShareLock on transaction "
            f"{rng.randint(10000, 99999)}",
        ],
    )[i]
    lines[at:at] = odd
    text = "\n".join(lines) + "\n"
    asks = ("Why can the service not connect to the database?", None)[i]
    gold = [("pg_hba.conf line 95", "waits for ShareLock")[i]]
    errors = [("FATAL:  password", "ERROR:  deadlock")[i]]
    shop.add(bash("docker logs postgres"), asks, text, gold, errors, (WHOLE,))


def kubectl_get(shop: Workshop, rng: random.Random, i: int) -> None:
    """A table of pods, or of nodes, one of which is out of order."""
    if i:
        rows = [["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "OS-IMAGE"]]
        for n in range(40):
            name = f"ip-10-2-{rng.randint(1, 99)}-{n + 100}.eu-west-1.compute.internal"
            rows.append(
                [
                    name,
                    "Ready",
                    "<none>",
                    f"{rng.randint(3, 90)}d",
                    "v1.34.2",
                    f"10.2.{rng.randint(1, 99)}.{n + 100}",
                    "Bottlerocket OS 1.44.0",
                ]
            )
        odd = rows[rng.randint(8, 34)]
        odd[1] = "NotReady"
        asks, call = "Drain the node that does not answer.", "kubectl get nodes -o wide"
        gold = odd[0]
    else:
        rows = [["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]]
        for name in _names(rng, 50):
            pod = f"{name}-{_hex(rng, 9)}-{_hex(rng, 5)}"
            rows.append(
                [
                    rng.choice(("shop", "billing", "kube-system")),
                    pod,
                    "1/1",
                    "Running",
                    str(rng.randint(0, 2)),
                    f"{rng.randint(3, 90)}d",
                ]
            )
        odd = rows[rng.randint(10, 44)]
        odd[2:5] = ["0/1", "CrashLoopBackOff", "114 (61s ago)"]
        asks, call = "Show me the logs of the pod that keeps crashing.", "kubectl get pods -A"
        gold = odd[1]
    rule = headers("rows", "^NAME")
    shop.add(bash(call), asks, _columns(rows), [gold], (), (WHOLE, rule))


def kubectl_describe(shop: Workshop, rng: random.Random, i: int) -> None:
    """A pod with its events, the last of which say why it does not start."""
    name = f"{_names(rng, 1)[0]}-{_hex(rng, 9)}-{_hex(rng, 5)}"
    claim = f"{nouns(rng, 1)[0]}-claim-{rng.randint(2, 9)}"
    tag = f"registry.example.org/shop/{name.split('-')[0]}:4.{rng.randint(10, 99)}.1"
    env = "".join(
        f"      {noun.upper()}_{key}:{' ' * 12}{rng.choice(('https://', ''))}"
        f"{noun}.{city.lower()}\n"
        for noun in nouns(rng, 24)
        for key, city in (("HOST", rng.choice(CITIES)),)
    )
    probes = "".join(
        f"    {kind}:    http-get http://:8080/{kind.lower()} delay={rng.randint(5, 30)}s "
        f"timeout=1s period=10s #success=1 #failure=3\n"
        for kind in ("Liveness", "Readiness")
    )
    mounts = "".join(f"      /etc/{noun} from {noun}-config (ro)\n" for noun in nouns(rng, 9))
    reasons = (
        f'  Warning  Failed            51s (x4 over 2m)    kubelet  Failed to pull image "{tag}": '
        "rpc error: code = NotFound desc = failed to resolve reference: not found\n",
        "  Warning  FailedScheduling  3m1s (x12 over 8m)  default-scheduler  0/9 nodes are "
        f'available: persistentvolumeclaim "{claim}" not found. preemption: not helpful\n',
    )
    text = (
        f"Name:             {name}\nNamespace:        shop\nPriority:         0\n"
        f"Service Account:  default\nNode:             ip-10-2-7-{rng.randint(10, 99)}/10.2.7.41\n"
        f"Start Time:       Thu, 26 Nov 2026 10:02:11 +0000\nLabels:           app={name}\n"
        f"                  pod-template-hash={_hex(rng, 9)}\nAnnotations:      <none>\n"
        "Status:           Pending\nIP:               10.2.7.88\nContainers:\n  app:\n"
        f"    Container ID:\n    Image:          {tag.rsplit(':', 1)[0]}\n"
        "    Port:           8080/TCP\n    State:          Waiting\n"
        "      Reason:       ContainerCreating\n    Ready:          False\n"
        f"    Restart Count:  0\n    Limits:\n      cpu:     500m\n      memory:  512Mi\n{probes}"
        f"    Environment:\n{env}    Mounts:\n{mounts}Conditions:\n  Type              Status\n"
        "  Initialized       True\n  Ready             False\n  PodScheduled      True\n"
        "QoS Class:                   Burstable\nNode-Selectors:              <none>\n"
        "Tolerations:                 node.kubernetes.io/not-ready:NoExecute op=Exists for 300s\n"
        "Events:\n  Type     Reason            Age                 From     Message\n"
        "  ----     ------            ----                ----     -------\n"
        f"  Normal   Pulling           52s (x4 over 2m)    kubelet  Pulling an image of {name}\n"
        f"{reasons[i]}"
        "  Normal   SandboxChanged    12s (x9 over 2m)    kubelet  Pod sandbox changed\n"
    )
    pattern = ("Failed to pull image", "persistentvolumeclaim")[i]
    asks = ("Why does the pod not start?", None)[i]
    call = bash(f"kubectl describe pod {name} -n shop")
    shop.add(call, asks, text, [pattern], [pattern], (WHOLE,))


def terraform_plan(shop: Workshop, rng: random.Random, i: int) -> None:
    """Resources that would be changed in place, and one that would be replaced or destroyed."""
    blocks = []
    for name in _names(rng, 16):
        ident, old = name.replace("-", "_"), rng.randint(1, 40)
        blocks.append(
            f"  # aws_ecs_service.{ident} will be updated in-place\n"
            f'  ~ resource "aws_ecs_service" "{ident}" {{\n'
            f'        id                 = "arn:aws:ecs:eu-west-1:4711:service/{name}"\n'
            f'        name               = "{name}"\n'
            f"      ~ desired_count      = {old} -> {old + 1}\n"
            f'      ~ task_definition    = "{name}:{old}" -> (known after apply)\n'
            f"        # ({rng.randint(9, 20)} unchanged attributes hidden)\n    }}\n"
        )
    name = f"{nouns(rng, 1)[0]}_{i}"
    odd = (
        f"  # aws_db_instance.{name} must be replaced\n"
        f'-/+ resource "aws_db_instance" "{name}" {{\n'
        f'      ~ address            = "{name}.eu-west-1.rds" -> (known after apply)\n'
        '      ~ availability_zone  = "eu-west-1a" -> "eu-west-1c" # forces replacement\n'
        "        # (31 unchanged attributes hidden)\n    }\n",
        f"  # aws_s3_bucket.{name} will be destroyed\n"
        f"  # (because aws_s3_bucket.{name} is not in configuration)\n"
        f'  - resource "aws_s3_bucket" "{name}" {{\n'
        f'      - bucket             = "{name}-{_hex(rng, 8)}" -> null\n    }}\n',
    )[i]
    blocks.insert(rng.randint(4, 13), odd)
    ends = ("1 to add, 16 to change, 1 to destroy", "0 to add, 16 to change, 1 to destroy")[i]
    text = (
        "Terraform used the selected providers to generate the following execution plan.\n"
        "Resource actions are indicated with the following symbols:\n  ~ update in-place\n"
        "  - destroy\n-/+ destroy and then create replacement\n\n"
        "Terraform will perform the following actions:\n\n"
        + "\n".join(blocks)
        + f"\nPlan: {ends}.\n"
    )
    asks = ("Would anything lose its data when I apply this?", "What would be deleted?")[i]
    gold = [("must be replaced", "will be destroyed")[i]]
    gold += [("forces replacement", "^Plan: ")[i]]
    shop.add(bash("terraform plan -no-color"), asks, text, gold, (), (WHOLE,))


def helm_list(shop: Workshop, rng: random.Random, i: int) -> None:
    """A table of releases, one of which failed, or waits for an upgrade."""
    rows = [["NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION"]]
    for name in _names(rng, 36):
        version = f"{rng.randint(1, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}"
        rows.append(
            [
                name,
                "shop",
                str(rng.randint(1, 60)),
                f"2026-11-{rng.randint(1, 25):02} 08:12:09.1 +0000 UTC",
                "deployed",
                f"{name}-{version}",
                version,
            ]
        )
    odd = rows[rng.randint(9, 30)]
    odd[4] = ("failed", "pending-upgrade")[i]
    asks = ("Roll back the release that failed.", "Which release is stuck in an upgrade?")[i]
    rule = headers("rows", "^NAME")
    shop.add(bash("helm list -A"), asks, _columns(rows, 2), [f"^{odd[0]} "], (), (WHOLE, rule))


def aws_json(shop: Workshop, rng: random.Random, i: int) -> None:
    """Instances with their tags, or the events of a stack, as the command line prints them."""
    if i:
        events: list[dict[str, Any]] = [
            {
                "StackId": f"arn:aws:cloudformation:eu-west-1:4711:stack/shop/{_hex(rng, 8)}",
                "EventId": f"{_hex(rng, 8)}-{_hex(rng, 4)}",
                "StackName": "shop",
                "LogicalResourceId": "".join(p.capitalize() for p in name.split("-")),
                "ResourceType": rng.choice(("AWS::IAM::Role", "AWS::Lambda::Function")),
                "Timestamp": f"2026-11-26T{_clock(n)}Z",
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for n, name in enumerate(_names(rng, 26))
        ]
        odd = events[rng.randint(5, 20)]
        reason = f"Resource limit of {rng.randint(50, 200)} elastic addresses was exceeded"
        odd |= {"ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": reason}
        odd |= {"ResourceProperties": "{}"}
        value: dict[str, Any] = {"StackEvents": events}
        asks, gold = "Why was the stack not created?", reason
        call = "aws cloudformation describe-stack-events --stack-name shop"
    else:
        machines = [
            {
                "InstanceId": f"i-0{_hex(rng, 16)}",
                "ImageId": f"ami-0{_hex(rng, 16)}",
                "InstanceType": rng.choice(("t3.large", "m7g.xlarge")),
                "LaunchTime": f"2026-11-0{rng.randint(1, 9)}T08:00:00Z",
                "State": {"Code": 16, "Name": "running"},
                "PrivateIpAddress": f"10.2.{rng.randint(1, 250)}.{n + 10}",
                "SubnetId": f"subnet-0{_hex(rng, 8)}",
                "Tags": [{"Key": "Name", "Value": name}],
            }
            for n, name in enumerate(_names(rng, 24))
        ]
        one: dict[str, Any] = machines[rng.randint(4, 20)]
        value = {"Reservations": [{"OwnerId": "4711", "Instances": [m]} for m in machines]}
        gold, wanted = one["InstanceId"], one["Tags"][0]["Value"]
        asks, call = f"Reboot the machine named {wanted}.", "aws ec2 describe-instances"
    text = json.dumps(value, indent=4) + "\n"
    at = text.index(json.dumps(gold))
    shop.add(bash(call), asks, text, [(at, at + len(gold) + 2)], (), (JSON,))


def systemctl(shop: Workshop, rng: random.Random, i: int) -> None:
    """A list of units, one of which failed; or a unit's status with its last lines of log."""
    if i:
        unit = f"{_names(rng, 1)[0]}.service"
        tasks = "".join(
            f"             ├─{n + 4100} /srv/app/bin/worker --queue {noun} --slot {n}\n"
            for n, noun in enumerate(nouns(rng, 40))
        )
        text = (
            f"× {unit} - {sentence(rng, 3)}\n"
            f"     Loaded: loaded (/usr/lib/systemd/system/{unit}; enabled; preset: enabled)\n"
            f"     Active: failed (Result: exit-code) since Thu 2026-11-26 10:41:07 UTC; 2min ago\n"
            f"    Process: 4099 ExecStart=/srv/app/bin/serve (code=exited, status=78)\n"
            f"   Main PID: 4099 (code=exited, status=78)\n      Tasks: 41\n"
            f"     CGroup: /system.slice/{unit}\n{tasks}\n"
            + "".join(
                f"Nov 26 10:40:{n:02} web1 serve[4099]: {sentence(rng, 6)}\n"
                for n in range(10, 50, 4)
            )
            + "Nov 26 10:41:07 web1 serve[4099]: cannot read /etc/shop/keys.pem: "
            "Permission denied\n"
            f"Nov 26 10:41:07 web1 systemd[1]: {unit}: Failed with result 'exit-code'.\n"
        )
        gold, asks = ["Permission denied"], "Why did the service stop?"
        call, errors = f"systemctl status {unit} -l", ["Failed with result"]
    else:
        rows = [["  UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"]]
        rows += [
            [f"  {name}.service", "loaded", "active", "running", sentence(rng, 4)]
            for name in _names(rng, 46)
        ]
        odd = rows[rng.randint(12, 40)]
        odd[0], odd[2:4] = "●" + odd[0][1:], ["failed", "failed"]
        text = _columns(rows, 1) + "\n46 loaded units listed.\n"
        gold, asks = [f"^● {odd[0][2:]} "], "Restart the unit that is down."
        call, errors = "systemctl list-units --type=service --no-pager", []
    shop.add(bash(call), asks, text, gold, errors, (WHOLE,))


def journalctl(shop: Workshop, rng: random.Random, i: int) -> None:
    """The journal of a machine with a kill for memory, or a full disk."""
    lines = []
    for n in range(130):
        who, pid = rng.choice(("cron", "sshd", "kernel", "serve", "systemd")), rng.randint(1, 9999)
        lines.append(f"Nov 26 {_clock(n)} web1 {who}[{pid}]: {sentence(rng, rng.randint(4, 9))}")
    at, pid = rng.randint(40, 110), rng.randint(10000, 99999)
    odd = (
        f"kernel: Out of memory: Killed process {pid} (serve) total-vm:9216044kB, "
        "anon-rss:7340160kB",
        f"serve[{pid}]: write /var/spool/shop/batch-{pid}.tmp: No space left on device",
    )[i]
    lines.insert(at, f"Nov 26 {_clock(at)} web1 {odd}")
    asks = ("Which process was ended by the kernel, and why?", None)[i]
    gold = [("Out of memory", "No space left")[i]]
    shop.add(bash("journalctl -b --no-pager"), asks, "\n".join(lines) + "\n", gold, gold, (WHOLE,))


def gh(shop: Workshop, rng: random.Random, i: int) -> None:
    """A list of pull requests; or a run's log with the step that failed."""
    if i:
        step = "UNKNOWN STEP"
        lines = [
            f"build (3.12)\t{step}\t2026-11-26T{_clock(n)}.{n:07}Z {sentence(rng, 6)}"
            for n in range(90)
        ]
        at = rng.randint(60, 84)
        failed = (
            "##[error]Process completed with exit code 1.",
            f"FAILED tests/test_{nouns(rng, 1)[0]}.py::test_totals - assert 12 == 11",
        )
        front = lines[at].rsplit("Z ", 1)[0]
        lines[at:at] = [f"{front}Z {failed[1]}", f"{front}Z {failed[0]}"]
        text, asks = "\n".join(lines) + "\n", "Which test broke the build?"
        gold, errors = ["FAILED tests/"], ["##.error"]
        call = "gh run view 18442 --log-failed"
    else:
        rows = [["ID", "TITLE", "BRANCH", "CREATED AT"]]
        rows += [
            [
                f"#{1900 - 3 * n}",
                sentence(rng, 5),
                f"{person(rng).split()[0].lower()}/{name}",
                f"about {n + 1} days ago",
            ]
            for n, name in enumerate(_names(rng, 48))
        ]
        odd = rows[rng.randint(10, 40)]
        odd[1] = "Raise the upload limit to 50 MB"
        text = "\nShowing 48 of 48 open pull requests in acme/shop\n\n" + _columns(rows, 2)
        asks, gold = "Check out the pull request about larger uploads.", ["Raise the upload"]
        call, errors = "gh pr list --limit 50", []
    shop.add(bash(call), asks, text, gold, errors, (WHOLE,))


def npm_audit(shop: Workshop, rng: random.Random, i: int) -> None:
    """Advisories by package, one of which is critical, or cannot be mended."""
    blocks = []
    for name in _names(rng, 18):
        most = f"<{rng.randint(1, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}"
        blocks.append(
            f"{name}  {most}\nSeverity: {rng.choice(('moderate', 'low'))}\n"
            f"{name} is slow with long patterns - https://github.com/advisories/GHSA-"
            f"{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 4)}\nfix available via `npm audit fix`\n"
            f"node_modules/{name}\n"
        )
    name = f"{nouns(rng, 1)[0]}-parser"
    fix = ("fix available via `npm audit fix --force`", "No fix available")[i]
    blocks.insert(
        rng.randint(5, 15),
        f"{name}  <=2.4.{i}\nSeverity: critical\nCode can be run by {name} - "
        f"https://github.com/advisories/GHSA-{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 4)}\n{fix}\n"
        f"node_modules/{name}\n",
    )
    text = "# npm audit report\n\n" + "\n".join(blocks)
    text += "\n19 vulnerabilities (9 low, 9 moderate, 1 critical)\n"
    asks = ("Which package is the critical one?", "Which package has no fix?")[i]
    gold = [f"^{name}  <="]
    shop.add(bash("npm audit"), asks, text, gold, [r"vulnerabilities \("], (WHOLE,))


def gradle(shop: Workshop, rng: random.Random, i: int) -> None:
    """A build of many modules that stops at one: a symbol that is not there, or a test."""
    tasks = [
        f"> Task :{name}:{step}{rng.choice(('', ' UP-TO-DATE', ' NO-SOURCE'))}"
        for name in _names(rng, 24)
        for step in ("compileJava", "processResources", "classes")
    ]
    module, symbol = _names(rng, 1)[0], f"{nouns(rng, 1)[0].capitalize()}Rate"
    odd = (
        [
            f"> Task :{module}:compileJava FAILED",
            f"/home/dev/shop/{module}/src/main/java/Totals.java:41: error: cannot find symbol",
            f"    return new {symbol}(price);",
            "               ^",
            f"  symbol:   class {symbol}",
            "  location: class Totals",
            "1 error",
        ],
        [
            f"> Task :{module}:test FAILED",
            "",
            f"TotalsTest > {symbol}IsRounded() FAILED",
            "    org.opentest4j.AssertionFailedError: expected: <11> but was: <12>",
            "        at app//shop.TotalsTest.rounds(TotalsTest.java:27)",
            "",
            "9 tests completed, 1 failed",
        ],
    )[i]
    ends = [
        "",
        "FAILURE: Build failed with an exception.",
        "",
        "* What went wrong:",
        f"Execution failed for task ':{module}:{('compileJava', 'test')[i]}'.",
        "",
        "* Try:",
        "> Run with --info option to get more log output.",
        "> Run with --scan to get full insights.",
        "",
        "BUILD FAILED in 41s",
        "73 actionable tasks: 31 executed, 42 up-to-date",
    ]
    text = "\n".join([*tasks, *odd, *ends]) + "\n"
    gold = [(f"symbol:   class {symbol}", "expected: <11>")[i]]
    errors = [("error: cannot find symbol", "IsRounded.. FAILED")[i], "^BUILD FAILED"]
    asks = ("Which class is missing?", "What did the test get, and what did it expect?")[i]
    shop.add(bash("./gradlew build"), asks, text, gold, errors, (WHOLE,))


def network(shop: Workshop, rng: random.Random, i: int) -> None:
    """Sockets that listen, or addresses of interfaces."""
    if i:
        blocks = []
        for n, name in enumerate(_names(rng, 18), 1):
            blocks.append(
                f"{n}: {name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP "
                f"group default\n    link/ether 02:42:{_hex(rng, 2)}:{_hex(rng, 2)}:{n:02}:aa brd "
                f"ff:ff:ff:ff:ff:ff link-netnsid 0\n    inet 10.{rng.randint(1, 200)}.{n}.1/24 brd "
                f"10.0.{n}.255 scope global {name}\n"
                "       valid_lft forever preferred_lft forever\n"
            )
        at = rng.randint(4, 15)
        name = blocks[at].split(": ")[1]
        text, asks = "".join(blocks), f"Which address does {name} have?"
        gold, call = [f"inet 10.*scope global {name}$"], "ip addr show"
    else:
        rows = [["State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process"]]
        for n, name in enumerate(_names(rng, 46)):
            pid = rng.randint(400, 99999)
            rows.append(
                [
                    "LISTEN",
                    "0",
                    "4096",
                    f"127.0.0.1:{3000 + 37 * n}",
                    "0.0.0.0:*",
                    f'users:(("{name}",pid={pid},fd={rng.randint(3, 40)}))',
                ]
            )
        odd = rows[rng.randint(10, 40)]
        port = odd[3].rsplit(":", 1)[1]
        text, asks = _columns(rows, 2), f"Kill the process that holds port {port}."
        gold, call = [f":{port} "], "ss -tlnp"
    shop.add(bash(call), asks, text, gold, (), (WHOLE,))


def explain(shop: Workshop, rng: random.Random, i: int) -> None:
    """A database's plan of a query, or the columns and indexes of a table."""
    table = nouns(rng, 1)[0]
    if i:
        rows = [["Column", "Type", "Collation", "Nullable", "Default"]]
        rows += [
            [f"{noun}_{part}", kind, "", "not null", ""]
            for noun in nouns(rng, 26)
            for part, kind in (("id", "bigint"), ("note", "text"))
        ]
        lines = [f" {' | '.join(f'{cell:<18}' for cell in row)}".rstrip() for row in rows]
        keys = [f'    "{table}_{noun}_idx" btree ({noun}_id)' for noun in nouns(rng, 14)]
        odd = f"{nouns(rng, 1)[0]}_number_{rng.randint(10, 99)}"
        keys.insert(6, f'    "{odd}" UNIQUE CONSTRAINT, btree (tenant, number)')
        text = (
            "\n".join(
                [
                    f'{" " * 20}Table "public.{table}"',
                    lines[0],
                    "-" * 90,
                    *lines[1:],
                    "Indexes:",
                    *keys,
                ]
            )
            + "\n"
        )
        asks, gold, call = "Drop the unique constraint.", [odd], f'psql -c "\\d {table}"'
    else:
        lines = [
            f"{'  ' * (n % 9)}->  Index Scan using {a}_idx on {a}  (cost=0.43..{n}.45 rows=1 "
            f"width=64) (actual time=0.0{n % 9 + 1}..0.{n % 89 + 10} rows=1 loops=1)\n"
            f"{'  ' * (n % 9)}      Index Cond: ({a}_id = {b}.id)"
            for n, (a, b) in enumerate(zip(nouns(rng, 40), nouns(rng, 40), strict=True))
        ]
        odd = (
            f"    ->  Seq Scan on {table}_archive  (cost=0.00..918273.00 rows=41000000 width=71) "
            "(actual time=0.02..48123.44 rows=40999871 loops=1)"
        )
        lines.insert(rng.randint(10, 30), odd)
        text = (
            "\n".join(
                [
                    "QUERY PLAN",
                    "-" * 60,
                    *lines,
                    "Planning Time: 2.114 ms",
                    "Execution Time: 48219.902 ms",
                ]
            )
            + "\n"
        )
        asks, gold, call = "Which step is slow?", [f"Seq Scan on {table}"], "psql -f slow.sql"
    shop.add(bash(call), asks, text, gold, (), (WHOLE,))


def kubernetes_yaml(shop: Workshop, rng: random.Random, i: int) -> None:
    """A deployment as YAML, of which a value is asked for."""
    name, digest = _names(rng, 1)[0], _hex(rng, 40)
    env = "".join(
        f"        - name: {noun.upper()}_URL\n          value: http://{noun}.shop.svc:80\n"
        for noun in nouns(rng, 48)
    )
    text = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  annotations:\n"
        '    deployment.kubernetes.io/revision: "41"\n  creationTimestamp: "2026-01-12T08:11:02Z"\n'
        f'  name: {name}\n  namespace: shop\n  resourceVersion: "{rng.randint(10**6, 10**7)}"\n'
        f"spec:\n  progressDeadlineSeconds: 600\n  replicas: {rng.randint(3, 9)}\n  selector:\n"
        f"    matchLabels:\n      app: {name}\n  template:\n    spec:\n      containers:\n"
        "      - env:\n"
        f"{env}        image: registry.example.org/shop@sha256:{digest}\n"
        "        imagePullPolicy: IfNotPresent\n        name: app\n        resources:\n"
        f"          limits:\n            memory: {rng.randint(300, 900)}Mi\n          requests:\n"
        "            cpu: 200m\n      dnsPolicy: ClusterFirst\n"
        "      terminationGracePeriodSeconds: 30\n"
    )
    asks = ("Pull the image that the deployment runs.", "How much memory may it use?")[i]
    gold = [("image: registry", "memory: ")[i]]
    shop.add(bash(f"kubectl get deployment {name} -o yaml"), asks, text, gold, (), (WHOLE,))


def disks(shop: Workshop, rng: random.Random, i: int) -> None:
    """File systems, or processes, one of which takes all there is."""
    if i:
        rows = [["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "STAT", "TIME", "COMMAND"]]
        rows += [
            [
                "app",
                str(rng.randint(1000, 99999)),
                f"{rng.random():.1f}",
                f"{rng.random():.1f}",
                str(rng.randint(10**5, 10**6)),
                str(rng.randint(10**4, 10**5)),
                "Sl",
                "0:01",
                f"/srv/bin/{name} --config /etc/{name}.toml",
            ]
            for name in _names(rng, 48)
        ]
        odd = rows[rng.randint(10, 40)]
        odd[2:4] = ["399.2", "41.0"]
        asks, call = "Which process takes all the processor time?", "ps aux"
        gold = [f" {odd[1]} "]
    else:
        rows = [["Filesystem", "Size", "Used", "Avail", "Use%", "Mounted on"]]
        rows += [
            [
                f"/dev/nvme{n}n1p{rng.randint(1, 4)}",
                "200G",
                f"{rng.randint(10, 150)}G",
                "48G",
                f"{rng.randint(10, 79)}%",
                f"/srv/{name}",
            ]
            for n, name in enumerate(_names(rng, 60))
        ]
        odd = rows[rng.randint(10, 50)]
        odd[2:5] = ["200G", "0", "100%"]
        asks, call, gold = "Which mount has no room left?", "df -h", [" 100% "]
    shop.add(bash(call), asks, _columns(rows, 2), gold, (), (WHOLE, headers("rows", "^USER|^File")))


MAKERS: tuple[Callable[[Workshop, random.Random, int], None], ...] = (
    *(docker_ps, docker_inspect, docker_logs, kubectl_get, kubectl_describe, kubernetes_yaml),
    *(terraform_plan, helm_list, aws_json, systemctl, journalctl, gh, npm_audit, gradle, network),
    *(explain, disks),
)
