//! What breaks the cluster or takes places away: it comes after the others.

use super::*;

const SLEEPS: &str = "trap 'exit 143' TERM; sleep 300 & wait";
const ON_N3: &str = "
image_pull_policy: Never
node_patience: 2s
node_selector: {kubernetes.io/hostname: n3}
";

pub(super) async fn a_preempted_pod_was_preempted(mut world: World) {
    let priorities: Api<PriorityClass> = Api::all(world.client.clone());
    let name = format!("high-{}", world.namespace);
    let class = json!({"metadata": {"name": name}, "value": 1000});
    let class = serde_json::from_value(class).unwrap();
    priorities
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    world.with_compute("image_pull_policy: Never");
    // Both GPUs of its node, twice.
    let mut low = world.ticket("low", SLEEPS);
    low.resources.gpus = 2;
    world.start(&low).await;
    world.runs(&low.attempt).await;
    world.with_compute(&format!("image_pull_policy: Never\npriority_class: {name}"));
    let mut high = world.ticket("high", "sleep 1");
    high.resources.gpus = 2;
    world.start(&high).await;
    let message = world.ends_with(&low, Cause::Preempted).await;
    assert!(
        message.contains("the scheduler gave its place"),
        "{message}"
    );
    assert_eq!(world.last(&high.attempt).await, GONE);
    let _ = priorities.delete(&name, &DeleteParams::default()).await;
}

pub(super) async fn a_killed_node_is_lost(mut world: World) {
    world.with_compute(ON_N3);
    let ticket = world.ticket("step", SLEEPS);
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    fault(&["kill-node", "n3"]);
    let _mended = Mended(&["start-node", "n3"]);
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    assert!(message.contains("its node n3 does not answer"), "{message}");
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
    // Nobody but us takes its object away.
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

pub(super) async fn a_node_that_is_cut_off_is_lost_and_its_ghost_ends(mut world: World) {
    world.with_compute(ON_N3);
    let ticket = world.ticket("step", SLEEPS);
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    {
        fault(&["cut-node", "n3"]);
        let _mended = Mended(&["join-node", "n3"]);
        world.ends_with(&ticket, Cause::NodeLost).await;
        world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
    }
    // The same number again, on the same node, while the ghost of the first is ended there.
    world
        .told
        .0
        .lock()
        .unwrap()
        .insert(ticket.attempt.clone(), "exit 0".to_owned());
    world.news.clear();
    world.start(&ticket).await;
    assert_eq!(world.last(&ticket.attempt).await, GONE);
}

pub(super) async fn the_end_is_told_though_the_api_server_was_away(mut world: World) {
    let ticket = world.ticket("step", "sleep 3; exit 5");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    {
        fault(&["kill", "apiserver"]);
        let _mended = Mended(&["start", "apiserver"]);
        let again = world.executor.start(&ticket).await;
        assert!(
            matches!(again, Err(StartError::Unavailable { .. })),
            "{again:?}"
        );
        assert!(world.executor.list(&run()).await.is_err());
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    world.ends_with(&ticket, Cause::NodeLost).await;
}
