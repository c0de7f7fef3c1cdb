//! How far each field of a ticket and of a compute has been shown to work: one table, from
//! which `docs/kubernetes.md` is made. A level is raised by a test on a real cluster alone.

use std::fmt::Write as _;

/// How far a field has been shown to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A snapshot of the Pod holds it.
    Written,
    /// A real API server took it.
    Accepted,
    /// A process in a real Pod saw its effect.
    Ran,
}

/// A field, where it stands in the Pod, and how far it has been shown to work.
type Row = (&'static str, &'static str, Level);

use Level::{Accepted, Ran, Written};

/// Fields of a step.
const STEP: [Row; 16] = [
    ("`environment.image`", "the container's image", Ran),
    (
        "`environment.cuda`",
        "node affinity on CUDA version and compute capability, `NVIDIA_REQUIRE_CUDA`",
        Ran,
    ),
    ("`resources.cpus`", "requests and limits", Accepted),
    ("`resources.memory`", "requests and limits", Ran),
    (
        "`resources.ephemeral_storage`",
        "requests and limits",
        Accepted,
    ),
    (
        "`resources.shm_size`",
        "a volume in memory at `/dev/shm`",
        Ran,
    ),
    (
        "`resources.gpus`",
        "`nvidia.com/gpu`, or the compute's `gpus.resource`",
        Ran,
    ),
    (
        "`resources.gpu.model`",
        "node affinity on `nvidia.com/gpu.product`",
        Written,
    ),
    (
        "`resources.gpu.memory`",
        "node affinity on `nvidia.com/gpu.memory`",
        Written,
    ),
    ("`resources.gpu.mig`", "`nvidia.com/mig-PROFILE`", Written),
    (
        "`resources.instance_type`",
        "what the compute's config says for it",
        Accepted,
    ),
    (
        "`resources.instance_count`, `distribution`",
        "a Pod for each instance, which begin together: the launcher of the first has the claim, and the others' addresses by way of the broker; `mpi` on one instance alone",
        Written,
    ),
    (
        "`distribution` in a compute with a `queue`",
        "Kueue's `pod-group-name` and `pod-group-total-count`",
        Written,
    ),
    (
        "`network: none`",
        "a label that a NetworkPolicy selects: the broker alone stays in reach, and the store through it",
        Written,
    ),
    (
        "grace and publishing's",
        "`terminationGracePeriodSeconds`",
        Ran,
    ),
    (
        "everything else",
        "carried out by the launcher, which is given the whole ticket by the broker",
        Written,
    ),
];

/// Fields of a compute.
const COMPUTE: [Row; 24] = [
    ("`node_selector`", "node selector", Ran),
    ("`tolerations`", "tolerations", Accepted),
    (
        "`default_resources`, `instance_types`",
        "requests and limits",
        Accepted,
    ),
    ("`queue`", "label `kueue.x-k8s.io/queue-name`", Accepted),
    (
        "`max_instances`",
        "an attempt waits until the compute has fewer Pods",
        Ran,
    ),
    (
        "`service_account`",
        "service account, without its token",
        Accepted,
    ),
    ("`priority_class`", "priority class", Accepted),
    (
        "`runtime_class`, `gpu_runtime_class`",
        "runtime class",
        Accepted,
    ),
    ("`image_pull_secrets`", "image pull secrets", Accepted),
    ("`image_pull_policy`", "image pull policy", Ran),
    ("`host_aliases`", "host aliases", Ran),
    ("`secrets`", "variables with references to secrets", Ran),
    ("`user`", "user, group and `runAsNonRoot`", Ran),
    (
        "`writable_root`",
        "`readOnlyRootFilesystem` is false",
        Written,
    ),
    (
        "`gpus.resource`, `gpus.mig`",
        "the resource that is asked for",
        Written,
    ),
    ("`gpus.claim_template`", "resource claims (DRA)", Accepted),
    (
        "`offers`, `autoscaled`",
        "what the check at submission looks at",
        Written,
    ),
    (
        "`pending_timeout`",
        "a Pod that no node takes is refused with the scheduler's words",
        Ran,
    ),
    (
        "`start_timeout`",
        "a Pod that its node does not start is tried elsewhere",
        Ran,
    ),
    (
        "`image_patience`",
        "an image that cannot be had ends the attempt",
        Ran,
    ),
    (
        "`node_patience`",
        "toleration of nodes that do not answer",
        Ran,
    ),
    (
        "the launcher in the image",
        "`/auria/bin/auria-launcher`",
        Ran,
    ),
    (
        "the launcher by an init container",
        "`auria-launcher install`, and a volume",
        Ran,
    ),
    ("the launcher by an image volume", "a volume", Accepted),
];

/// What every Pod has, whatever it asks for.
const ALWAYS: [Row; 7] = [
    (
        "no token of a service account",
        "`automountServiceAccountToken: false`",
        Ran,
    ),
    ("no capability", "`drop: [ALL]`", Ran),
    (
        "no new privileges",
        "`allowPrivilegeEscalation: false`",
        Ran,
    ),
    ("system calls are filtered", "seccomp `RuntimeDefault`", Ran),
    (
        "a root that cannot be written to",
        "`readOnlyRootFilesystem`",
        Ran,
    ),
    ("work, HOME and `/tmp` that can", "emptyDirs", Ran),
    (
        "no GPU where none is asked for",
        "`NVIDIA_VISIBLE_DEVICES=void`",
        Ran,
    ),
];

const HEAD: &str = "# Steps on Kubernetes

This page is written by a test from one table (`orchestrator/kubernetes/src/levels.rs`). How to
come to a cluster, and to a first run on it, says [Install on a cluster](install.md).

Each attempt of a step is one Pod (`restartPolicy: Never`): retries are the run's decisions. Which nodes
a compute means stands in [`auria.yaml`](schema/config.json), under `computes:`.

How far each field has been shown to work:

- *ran*: a process in a Pod on a real cluster saw its effect;
- *accepted*: a real API server took a Pod with it;
- *written*: the Pod holds it, as a snapshot shows, and no more is known.
";

/// What keeps a step from what its launcher holds.
const MAY_SEE: &str = r#"
## What a step may see

The launcher is process 1 of the step's container, and what it holds is not the step's:

- Its Pod carries the broker's address, the broker's certificate and a *bootstrap token*, good for one attempt's ticket and claim. Before anything of the step exists, the launcher starts itself anew without them: no environment, argument or file of the container holds the token from then on. Once the attempt is claimed, it gets no session for anybody but that launcher, which alone has the secret that its claim's nonce is made of (it still shows the ticket to who holds it); once the attempt is over for as long as a launcher asks again, it opens nothing at all.
- The *session token* that the claim is answered with stands in the launcher's memory alone, which no debugger or core file of the step's user may read (`PR_SET_DUMPABLE` is 0). The command and all that it starts run with `no_new_privs`, and inherit no descriptor but the standard streams.
- With its session an attempt reads what its ticket names (code, inputs, the checkpoint to go on from), writes below its own prefix, ends itself and commits its step, each once and in its own name. Everything else is refused, whether it exists or not, and once the step has an outcome or the attempt was given up nothing is written any more. There is no credential of the object store in the Pod, and no token of a service account.
- Data goes straight to the object store by URLs that are signed for one object and live for ten minutes, or through the broker where the store signs none or cannot be reached from the Pod.

A step that runs as root of its container, or with `CAP_SYS_PTRACE`, may read the launcher's memory: there the boundary is what its own attempt may do. Whoever may read Pods of the namespace may read bootstrap tokens, as they may read the Pods' other variables, and with one may claim an attempt whose launcher has not yet done so, and then act for it. Give the right to read Pods to those only whom you trust with the runs.

A test runs a step that looks through every process, variable, descriptor and file within its reach, and finds what was planted for it and nothing else (`orchestrator/server/tests/broker/secrets.rs`).
"#;

/// The page `docs/kubernetes.md`.
#[must_use]
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    let tables: [(&str, &[Row]); 3] = [
        ("What a step asks for", &STEP),
        ("What a compute declares", &COMPUTE),
        ("What every Pod has", &ALWAYS),
    ];
    for (title, rows) in tables {
        let _ = write!(
            text,
            "\n## {title}\n\n| field | in the Pod | level |\n|---|---|---|\n"
        );
        for (field, place, level) in rows {
            let level = match level {
                Written => "written",
                Accepted => "accepted",
                Ran => "*ran*",
            };
            let _ = writeln!(text, "| {field} | {place} | {level} |");
        }
    }
    text.push_str(MAY_SEE);
    text.push_str(
        "\n## CUDA versions\n\nA step whose `environment.cuda` names a version runs where the driver's CUDA \
         version is at least that, and where the GPU is among those that it compiles for. ",
    );
    let _ = write!(
        text,
        "Sources: [drivers]({}), [compute capabilities]({}).\n\n| CUDA | least driver | compute capability |\n|---|---|---|\n",
        crate::cuda::DRIVERS_FROM,
        crate::cuda::COMPUTE_FROM
    );
    for known in crate::cuda::TOOLKITS {
        let _ = writeln!(
            text,
            "| {}.{} | {} | {} to {} |",
            known.major, known.minor, known.driver, known.oldest, known.newest
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");
        let page = super::page();
        if std::fs::read_to_string(path).ok().as_deref() != Some(page.as_str()) {
            std::fs::write(path, page).unwrap();
            panic!("docs/kubernetes.md was stale; it is written anew");
        }
    }
}
