use super::{OVERDUE_MS, Over, Standing, deleted, standing};
use auria_core::Timestamp;
use auria_core::outcome::Cause;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// 2026-01-02T03:04:05Z
const NOW: Timestamp = Timestamp(1_767_323_045_000);

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": []},
        "status": status,
    }))
    .unwrap()
}

fn deleting(mut pod: Pod, at: &str) -> Pod {
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!(at)).unwrap());
    pod
}

fn terminated(state: Value) -> Value {
    json!([{"name": "step", "ready": false, "image": "", "imageID": "", "restartCount": 0,
            "state": {"terminated": state}}])
}

fn running() -> Value {
    json!([{"name": "step", "ready": true, "image": "", "imageID": "", "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-02T03:04:00Z"}}}])
}

fn target(reason: &str) -> Value {
    json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"})
}

fn over(pod: &Pod) -> Over {
    match standing(pod, NOW) {
        Standing::Over(over) => *over,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_says_why_in_the_words_of_the_cluster() {
    let unschedulable = pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available", "lastTransitionTime": "2026-01-02T03:04:00Z"}]}),
    );
    assert_eq!(
        standing(&unschedulable, NOW),
        Standing::Unschedulable {
            since: Timestamp(NOW.0 - 5000),
            why: "0/3 nodes are available".to_owned()
        }
    );
    let held = pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "SchedulingGated", "message": "gated"}]}),
    );
    assert!(matches!(standing(&held, NOW), Standing::Held { .. }));
    for (reason, expected) in [
        ("ErrImagePull", Some(false)),
        ("ImagePullBackOff", Some(false)),
        ("InvalidImageName", Some(true)),
        ("ErrImageNeverPull", Some(true)),
        ("CreateContainerConfigError", Some(false)),
        ("ContainerCreating", None),
        ("PodInitializing", None),
    ] {
        for place in ["containerStatuses", "initContainerStatuses"] {
            let waiting = pod(
                json!({"phase": "Pending", place: [{"name": "step", "ready": false,
                "image": "", "imageID": "", "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "m"}}}]}),
            );
            let hopeless = match standing(&waiting, NOW) {
                Standing::Trouble { hopeless, why } => {
                    assert_eq!(why, format!("{reason}: m"));
                    Some(hopeless)
                }
                Standing::Lives { gone_by: None } => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(hopeless, expected, "{reason}");
        }
    }
}

#[test]
fn causes_are_told_apart() {
    let exit = |code: i32, reason: &str| terminated(json!({"exitCode": code, "reason": reason}));
    let cases = [
        (
            json!({"phase": "Failed", "containerStatuses": exit(137, "OOMKilled")}),
            Some(Cause::OutOfMemory),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(137, "OOMKilled"), "conditions": [target("TerminationByKubelet")]}),
            Some(Cause::OutOfMemory),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(143, "Error"), "conditions": [target("PreemptionByScheduler")]}),
            Some(Cause::Preempted),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(137, "Error"), "conditions": [target("EvictionByEvictionAPI")]}),
            Some(Cause::Evicted),
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory", "conditions": [target("TerminationByKubelet")]}),
            Some(Cause::Evicted),
        ),
        (
            json!({"phase": "Failed", "conditions": [target("DeletionByPodGC")]}),
            Some(Cause::NodeLost),
        ),
        (
            json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no"}),
            Some(Cause::Evicted),
        ),
        (
            json!({"phase": "Failed", "reason": "NodeLost"}),
            Some(Cause::NodeLost),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(128, "StartError")}),
            Some(Cause::Image),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(137, "ContainerStatusUnknown")}),
            Some(Cause::NodeLost),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": exit(137, "Error")}),
            Some(Cause::NodeLost),
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": exit(0, "Completed")}),
            None,
        ),
    ];
    for (status, cause) in cases {
        let over = over(&pod(status.clone()));
        assert_eq!(over.cause, cause, "{status}: {}", over.message);
        assert!(!over.stuck);
    }
}

#[test]
fn a_silent_node_is_told_from_one_that_is_drained() {
    let ready = |ready: &str, containers: &str| {
        json!([{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers},
               target("DeletionByTaintManager")])
    };
    let status = |conditions: Value| json!({"phase": "Running", "containerStatuses": running(), "conditions": conditions});
    let soon = "2026-01-02T03:04:35Z";
    // The kubelet still answers for it: it is just ending.
    let drained = deleting(pod(status(ready("True", "True"))), soon);
    assert_eq!(
        standing(&drained, NOW),
        Standing::Lives {
            gone_by: Some(Timestamp(NOW.0 + 30_000))
        }
    );
    let silent = deleting(pod(status(ready("False", "True"))), soon);
    let told = over(&silent);
    assert_eq!((told.cause, told.stuck), (Some(Cause::NodeLost), true));
    // It had not begun there.
    let mut conditions = ready("False", "False");
    conditions[1]["reason"] = json!("ContainersNotReady");
    let unborn = deleting(
        pod(json!({"phase": "Pending", "conditions": conditions})),
        soon,
    );
    assert_eq!(over(&unborn).cause, Some(Cause::NodeLost));
    // Whatever was said: nobody answered long after its end.
    let late = Timestamp(NOW.0 + 30_000 + i64::try_from(OVERDUE_MS).unwrap());
    let Standing::Over(over) = standing(&drained, late) else {
        panic!("it is not over");
    };
    assert_eq!(over.cause, Some(Cause::NodeLost));
}

#[test]
fn a_pod_that_someone_deleted_was_evicted() {
    let ends = deleting(
        pod(
            json!({"phase": "Running", "containerStatuses": terminated(json!({"exitCode": 137, "reason": "Error"}))}),
        ),
        "2026-01-02T03:04:35Z",
    );
    assert_eq!(over(&ends).cause, Some(Cause::Evicted));
    let forgotten = pod(json!({"phase": "Running", "containerStatuses": running()}));
    assert_eq!(deleted(&forgotten).cause, Some(Cause::Evicted));
}

#[test]
fn what_was_left_for_the_cluster_is_kept_as_it_was_said() {
    let said = "auria-last-word/1 s m\n{}";
    let ended = pod(
        json!({"phase": "Failed", "containerStatuses": terminated(json!({"exitCode": 75, "reason": "Error", "message": said}))}),
    );
    let over = over(&ended);
    assert_eq!(
        (over.cause, over.said.as_str()),
        (Some(Cause::NodeLost), said)
    );
}

/// A Pod that `n1` has, whose containers stand so.
fn scheduled(init: Value, own: Value) -> Pod {
    let status = |name: &str, state: Value| {
        json!([{"name": name, "ready": false, "image": "", "imageID": "", "restartCount": 0,
                "state": state}])
    };
    pod(json!({"phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:04:00Z"}],
        "initContainerStatuses": status("launcher", init),
        "containerStatuses": status("step", own)}))
}

#[test]
fn what_a_node_has_and_does_not_start_is_told_from_what_runs() {
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let runs = json!({"running": {"startedAt": "2026-01-02T03:04:01Z"}});
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let since = |pod: &Pod| match standing(pod, NOW) {
        Standing::Starting { since, why } => Some((since, why)),
        Standing::Lives { gone_by: None } => None,
        other => panic!("{other:?}"),
    };
    let node_has_it = Timestamp(NOW.0 - 5000);
    for (init, own, doing) in [
        (
            waiting("PodInitializing"),
            waiting("PodInitializing"),
            "launcher PodInitializing",
        ),
        (runs.clone(), waiting("PodInitializing"), "launcher runs"),
        (
            done.clone(),
            waiting("ContainerCreating"),
            "step ContainerCreating",
        ),
    ] {
        let (at, why) = since(&scheduled(init, own)).unwrap();
        assert_eq!(
            (at, why.as_str()),
            (node_has_it, format!("its container {doing}").as_str())
        );
    }
    assert_eq!(since(&scheduled(done, runs)), None);
    // Its kubelet has said nothing yet.
    let mut silent = scheduled(json!({}), json!({}));
    let status = silent.status.as_mut().unwrap();
    (status.init_container_statuses, status.container_statuses) = (None, None);
    assert!(since(&silent).unwrap().1.contains("not answered"));
}

#[test]
fn an_init_container_that_failed_says_why_nothing_began() {
    let failed = |state: Value| {
        let mut pod = scheduled(
            json!({"terminated": state}),
            json!({"waiting": {"reason": "PodInitializing"}}),
        );
        pod.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        pod
    };
    let told = over(&failed(
        json!({"exitCode": 2, "reason": "Error", "message": "no room"}),
    ));
    assert_eq!((told.cause, told.exit_code), (Some(Cause::Image), Some(2)));
    assert!(
        told.message.contains("status 2: no room"),
        "{}",
        told.message
    );
    let told = over(&failed(json!({"exitCode": 128, "reason": "StartError"})));
    assert_eq!(told.cause, Some(Cause::Image));
    let told = over(&failed(json!({"exitCode": 137, "reason": "OOMKilled"})));
    assert_eq!(told.cause, Some(Cause::OutOfMemory));
    // What took the Pod away comes before what its containers made of that.
    let mut evicted = failed(json!({"exitCode": 143, "reason": "Error"}));
    let target = serde_json::from_value(target("EvictionByEvictionAPI")).unwrap();
    evicted.status.as_mut().unwrap().conditions = Some(vec![target]);
    assert_eq!(over(&evicted).cause, Some(Cause::Evicted));
}
