"""What no schema tells of the manifests: that they fit one another, the configuration, the image and the restricted profile.

The same of the container file and the configuration beside it. Arguments: the folder of the manifests, the container
file, and a folder to lay the pod's /etc/n4n-gateway out in.
"""

import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import yaml

IDENTITY = {"app.kubernetes.io/name": "n4n-gateway"}
faults = []


def hold(truth, fault):
    if not truth:
        faults.append(fault)


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def port(address):
    return int(address.rpartition(":")[2])


folder, containerfile, layout = map(Path, sys.argv[1:])
texts = [path.read_text() for path in sorted(folder.iterdir()) if path.name.endswith((".yaml", ".yaml.example"))]
documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
by_kind = {}
for document in documents:
    by_kind.setdefault(document["kind"], {})[document["metadata"]["name"]] = document

workload = by_kind["StatefulSet"]["n4n-gateway"]["spec"]
pod = workload["template"]["spec"]
container = pod["containers"][0]
ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
file = by_kind["ConfigMap"]["n4n-gateway"]["data"]["gateway.toml"]
settings = tomllib.loads(file)
listen = settings["listen"]

# Who is meant by whom.
hold(workload["template"]["metadata"]["labels"] == IDENTITY, "the pods do not carry the identity")
selectors = {"StatefulSet": workload["selector"]["matchLabels"]}
selectors |= {f"Service {name}": service["spec"]["selector"] for name, service in by_kind["Service"].items()}
selectors |= {"PodDisruptionBudget": by_kind["PodDisruptionBudget"]["n4n-gateway"]["spec"]["selector"]["matchLabels"]}
policy = by_kind["NetworkPolicy"]["n4n-gateway"]["spec"]
selectors |= {"NetworkPolicy": policy["podSelector"]["matchLabels"]}
for spread in pod["topologySpreadConstraints"]:
    selectors[f"spread over {spread['topologyKey']}"] = spread["labelSelector"]["matchLabels"]
for holder, selector in selectors.items():
    hold(selector == IDENTITY, f"{holder} selects other pods")
hold(workload["serviceName"] in by_kind["Service"], "the StatefulSet's own service is missing")
hold(pod["serviceAccountName"] in by_kind["ServiceAccount"], "the service account is missing")
for document in documents:
    if document["kind"] != "Namespace":
        hold(document["metadata"]["namespace"] in by_kind["Namespace"], f"{document['kind']} is in no namespace of these")

# Ports, from the configuration outwards.
listening = {"admin": port(listen["admin"])}
listening |= {"http": port(address) for address in listen.get("http", [])}
listening |= {"https": port(entry["address"]) for entry in listen.get("https", [])}
hold(ports == listening, f"the configuration listens on {listening}, the container names {ports}")
used = {container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")}
used |= {entry["targetPort"] for service in by_kind["Service"].values() for entry in service["spec"]["ports"]}
used |= {entry["port"] for rule in policy["ingress"] for entry in rule["ports"]}
hold(used <= set(ports), f"ports are used that the container does not name: {used - set(ports)}")
for rule in policy["ingress"]:
    names = {entry["port"] for entry in rule["ports"]}
    hold("admin" not in names or "from" in rule, "the admin port is open to everyone")
hold(set(policy["policyTypes"]) == {"Ingress", "Egress"}, "the policy leaves a direction open")
outwards = {entry["port"] for rule in policy["egress"] for entry in rule["ports"]}
hold({53, *map(port, settings["upstream"]["peers"])} <= outwards, "the policy keeps n4n or the name server out of reach")
if redis := settings.get("quota", {}).get("redis"):
    hold((urlsplit(redis).port or 6379) in outwards, "the policy keeps Redis out of reach")
for spread in pod["topologySpreadConstraints"]:
    hold(spread["whenUnsatisfiable"] == "ScheduleAnyway", f"pods wait for another {spread['topologyKey']}")

# The container by itself: what its file publishes is what the configuration beside it listens on, for others too.
alone = tomllib.loads(containerfile.with_name("gateway.toml").read_text())
listens = [alone["listen"]["admin"], *alone["listen"].get("http", [])]
listens += [entry["address"] for entry in alone["listen"].get("https", [])]
text = containerfile.read_text()
runs = [line for line in text.replace("\\\n#", "").splitlines() if line.startswith("#   podman run")]
hold(len(runs) == 2, "the container file does not say how to try it and how to run it")
for run in runs:
    published = {int(inside) for inside in re.findall(r" -p (?:[\d.]+:)?\d+:(\d+)", run)}
    hold(published == set(map(port, listens)), f"the container file publishes {published} and listens on {listens}")
hold(all(address.startswith(("0.0.0.0:", "[::]:")) for address in listens), f"nobody outside reaches {listens}")
exposed = {int(number) for number in re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)[1].split()}
hold(set(map(port, listens)) <= exposed, "the container file does not expose what is listened on")

# Leaving without a cut call.
patience = container["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds(listen["drain_timeout"])
hold(pod["terminationGracePeriodSeconds"] > patience, f"the grace period is not above {patience} s")
hold(workload["replicas"] >= 2, "one pod alone cannot be disrupted")

# Files: every mount is a volume, every volume is used, and what is written is where it may be.
mounts = {entry["name"]: entry for entry in container["volumeMounts"]}
claims = {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}
hold(set(mounts) == claims | {volume["name"] for volume in pod["volumes"]}, "mounts and volumes differ")
writable = [Path(mount["mountPath"]) for mount in mounts.values() if not mount.get("readOnly")]
for key, sink in settings["log"].items():
    hold(sink in ("stdout", "off") or Path(sink).parent in writable, f"log.{key} is on no writable volume")
for source in next(volume for volume in pod["volumes"] if volume["name"] == "configuration")["projected"]["sources"]:
    kind, name = ("Secret", source["secret"]["name"]) if "secret" in source else ("ConfigMap", source["configMap"]["name"])
    hold(name in by_kind[kind], f"{kind} {name} is missing")
    for item in source.get("secret", {}).get("items", []):
        held = by_kind[kind].get(name, {}).get("stringData", {})
        hold(held.get(item["key"]) == "PLACEHOLDER", f"{kind} {name} has no placeholder for {item['key']}")

# The restricted profile, which the namespace enforces, and a read-only root.
pod_security, security = pod["securityContext"], container["securityContext"]
hold(pod_security["runAsNonRoot"] and pod_security["seccompProfile"] == {"type": "RuntimeDefault"}, "not restricted: pod")
hold(security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}, "not restricted: container")
hold(security["readOnlyRootFilesystem"] is True, "the root is writable")
hold(pod["automountServiceAccountToken"] is False, "the pod is given a token it does not need")
user = f"USER {pod_security['runAsUser']}:{pod_security['runAsGroup']}"
hold(user in text.splitlines(), f"the container file lacks `{user}`")

layout.joinpath("gateway.toml").write_text(file)
for fault in faults:
    print(f"{folder}: {fault}", file=sys.stderr)
sys.exit(bool(faults))
