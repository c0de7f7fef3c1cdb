//! What waits for room, or for its node, and what becomes of it.

use super::*;

async fn quota(world: &World, pods: u32) {
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let quota =
        json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": pods.to_string()}}});
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // Nothing is held to it before it was counted.
    let began = Instant::now();
    loop {
        let status = quotas.get("small").await.unwrap().status;
        if status.and_then(|status| status.used).is_some() {
            return;
        }
        assert!(began.elapsed() < LONG, "the quota is not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn waits(news: &AttemptNews) -> bool {
    matches!(news, AttemptNews::Waiting { why } if why.contains("exceeded quota: small"))
}

pub(super) async fn a_full_quota_is_waited_for(mut world: World) {
    quota(&world, 1).await;
    let first = world.ticket("first", "sleep 4");
    let second = world.ticket("second", "exit 0");
    world.start(&first).await;
    for _ in 0..2 {
        world.start(&second).await;
    }
    world.until(&second.attempt, waits).await;
    let live = world.executor.list(&run()).await.unwrap();
    assert_eq!(live, [first.attempt.clone(), second.attempt.clone()]);
    assert_eq!(world.last(&first.attempt).await, GONE);
    assert_eq!(world.last(&second.attempt).await, GONE);
    let told = |event: &&AttemptEvent| {
        event.attempt == second.attempt
            && matches!(&event.happened, Happened::News(news) if waits(news))
    };
    assert_eq!(
        world.news.iter().filter(told).count(),
        1,
        "{:?}",
        world.news
    );
}

pub(super) async fn what_waits_for_a_quota_can_be_stopped(mut world: World) {
    quota(&world, 0).await;
    let ticket = world.ticket("step", "exit 0");
    world.start(&ticket).await;
    world.until(&ticket.attempt, waits).await;
    let grace = Duration::from_secs(1);
    world.executor.stop(&ticket.attempt, grace).await.unwrap();
    assert_eq!(world.last(&ticket.attempt).await, GONE);
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
}

pub(super) async fn a_compute_has_no_more_pods_than_it_may(mut world: World) {
    world.with_compute("image_pull_policy: Never\nmax_instances: 2");
    let long = "trap 'exit 143' TERM; sleep 300 & wait";
    let first = world.ticket("first", "sleep 4");
    let (second, third) = (world.ticket("second", long), world.ticket("third", long));
    for ticket in [&first, &second, &third] {
        world.start(ticket).await;
    }
    let AttemptNews::Waiting { why } = world.until(&third.attempt, waits_for_the_compute).await
    else {
        panic!("it does not wait")
    };
    assert!(why.contains("has 2 Pods, and may have 2 at once"), "{why}");
    assert!(
        world
            .pods
            .get_opt(&pod_name(&third.attempt))
            .await
            .unwrap()
            .is_none()
    );
    // It lives, all the same.
    assert!(
        world
            .executor
            .list(&run())
            .await
            .unwrap()
            .contains(&third.attempt)
    );
    // Whoever drives next counts those that it finds.
    world.with_compute("image_pull_policy: Never\nmax_instances: 2");
    let fourth = world.ticket("fourth", long);
    world.start(&fourth).await;
    world.last(&first.attempt).await;
    world.runs(&fourth.attempt).await;
    world.runs(&second.attempt).await;
}

fn waits_for_the_compute(news: &AttemptNews) -> bool {
    matches!(news, AttemptNews::Waiting { why } if why.contains("may have 2 at once (max"))
}

pub(super) async fn what_a_node_has_and_does_not_start_is_tried_elsewhere(mut world: World) {
    let name = format!("nothing-{}", world.namespace);
    let classes: Api<RuntimeClass> = Api::all(world.client.clone());
    let class = json!({"metadata": {"name": name}, "handler": "nothing"});
    let class = serde_json::from_value(class).unwrap();
    classes
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    world.with_compute(&format!(
        "image_pull_policy: Never\nruntime_class: {name}\nstart_timeout: 4s"
    ));
    let ticket = world.ticket("step", "true");
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    classes
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    assert!(message.contains("has had its Pod for"), "{message}");
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

pub(super) async fn an_init_container_that_fails_is_no_lost_node(mut world: World) {
    // An image that holds no launcher to be copied.
    world.launcher = LauncherSource {
        image: Some(BARE.to_owned()),
        carried_by: Vec::new(),
        image_volumes: false,
    };
    world.anew();
    let ticket = world.ticket("step", "true");
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::Image).await;
    assert!(message.contains("could not be started"), "{message}");
}
